#!/usr/bin/env bash
# Scorers of reasoning-gym that pay wrong answers, and hardly pay right ones.
#
# Packages: reasoning-gym 0.1.25; Python 3.11, CPU
# Guess: score_answer is 1 for the right answer and 0 for a wrong one, with a little tolerance for wording.
# What happens: game_of_life_halting compares bool(text), so that any word is right, its opposite too. chain_sum
#   pays a wrong number that contains the right one more than a sentence that states it. gsm_symbolic takes -5 for 5
#   and refuses 1,200 for 1200.
# Seen:
#   1.00  game_of_life_halting, always the opposite
#   1.00  game_of_life_halting, 'banana'
#   0.72  chain_sum, a digit put before the sum
#   0.17  chain_sum, 'The answer is ...'
#   1.00  gsm_symbolic, '-5' for 5
#   0.01  gsm_symbolic, '1,200' for 1200
# Means: As a reward these teach what they pay. Try a scorer with the opposite, a constant and the right answer in
#   words before training on it; check numbers by a verifier of one's own.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile reasoning-gym==0.1.25
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import reasoning_gym

warnings.simplefilter("ignore")


def score(family, answer, **entry):
    """The mean over ten puzzles of what `answer(puzzle)` gets."""
    data = reasoning_gym.create_dataset(family, seed=1, size=10)
    return sum(data.score_answer(answer(puzzle), puzzle) for puzzle in data) / 10


def opposite(puzzle):
    return "True" if puzzle["answer"] == "False" else "False"


seen = {
    "game_of_life_halting, always the opposite": score("game_of_life_halting", opposite),
    "game_of_life_halting, 'banana'": score("game_of_life_halting", lambda puzzle: "banana"),
    "chain_sum, a digit put before the sum": score("chain_sum", lambda puzzle: "1" + puzzle["answer"]),
    "chain_sum, 'The answer is ...'": score("chain_sum", lambda puzzle: f"The answer is {puzzle['answer']}"),
}
gsm = reasoning_gym.create_dataset("gsm_symbolic", seed=1, size=1)
seen["gsm_symbolic, '-5' for 5"] = gsm.score_answer("-5", {**gsm[0], "answer": "5"})
seen["gsm_symbolic, '1,200' for 1200"] = gsm.score_answer("1,200", {**gsm[0], "answer": "1200"})
for name, value in seen.items():
    print(f"{value:.2f}  {name}")
halting, banana, wrong, right, negative, comma = seen.values()
if not (halting == banana == negative == 1 and wrong > 0.5 > right and comma < 0.1):
    sys.exit("These scorers judge otherwise now.")
PYTHON
