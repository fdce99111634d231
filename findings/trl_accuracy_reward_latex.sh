#!/usr/bin/env bash
# TRL's accuracy_reward pays "$12$" nothing where the solution is "$12$": of a completion only marked LaTeX is read.
#
# Packages: trl 1.16.0, math-verify 0.9.0, torch 2.13.0, transformers 5.23.0, datasets 5.2.0,
#   accelerate 1.15.0; Python 3.11, CPU
# Guess: A completion that is the solution is right; so is one that ends with the number in plain text.
# What happens: Of a completion only LaTeX is read that is boxed or follows words such as "the answer is": plain numbers
#   never, bare LaTeX not. The solution is read more kindly, any number in it, the last one first. And a solution that
#   is a word has no reward at all (None), which leaves the example out.
# Seen:
#   solution '$12$': '$12$' 0.0, 'The answer is 12.' 0.0, 'The answer is $12$.' 1.0, '\\boxed{12}' 1.0
#   solution 'Of 5 mice 3 ran': '\\boxed{3}' 1.0, '\\boxed{5}' 0.0
#   solution 'Paris': 'Paris' None
# Means: A base student that answers in plain words gets 0 for every sum, right or wrong, and GRPO learns nothing from
#   equal rewards. Look at the share of rewards that are 1 before the training, or bring a check of your own.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile trl==1.16.0 transformers==5.23.0 datasets==5.2.0 \
  accelerate==1.15.0 math-verify==0.9.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

from trl.rewards import accuracy_reward

FOUND = {
    "$12$": {"$12$": 0.0, "The answer is 12.": 0.0, "The answer is $12$.": 1.0, r"\boxed{12}": 1.0},
    "Of 5 mice 3 ran": {r"\boxed{3}": 1.0, r"\boxed{5}": 0.0},
    "Paris": {"Paris": None},
}


def reward(said, solution):
    return accuracy_reward([[{"role": "assistant", "content": said}]], solution=[solution])[0]


found = {solution: {said: reward(said, solution) for said in expected} for solution, expected in FOUND.items()}
for solution, rewards in found.items():
    print(f"seen: solution {solution!r}:", ", ".join(f"{said!r} {paid}" for said, paid in rewards.items()))
if found != FOUND:
    sys.exit("accuracy_reward reads completions otherwise now.")
PYTHON
