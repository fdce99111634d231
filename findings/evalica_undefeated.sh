#!/usr/bin/env bash
# Bradley-Terry by evalica ties everybody as soon as one has never lost.
#
# Packages: evalica 0.4.2, choix 0.4.1; Python 3.11, CPU
# Guess: The undefeated one comes first, with a very large score, or a warning says that there is no finite one.
# What happens: All scores become 1e-06 after two iterations, without a warning. With one defeat the ranking is
#   there. choix raises instead (its alpha=0), which says what is the matter.
# Seen:
#   A won 10 of 10: {'A': 1e-06, 'B': 1e-06, 'C': 1e-06}
#   A won 10 of 11: {'A': 4.88, 'B': 0.63, 'C': 0.32}
#   choix on the first: ValueError: stationary distribution could not be computed. Perhaps the Markov chain has more than one absorbing class?
# Means: A standings page made of it shows a tie while one version wins everything. Add half a win to each pair, or
#   look at the number of distinct scores.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile evalica==0.4.2 choix==0.4.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import choix
import evalica
from evalica import Winner

games = [("A", "B", Winner.X), ("A", "C", Winner.X)] * 5 + [("B", "C", Winner.X)] * 3 + [("B", "C", Winner.Y)] * 2
never_lost = evalica.bradley_terry(*zip(*games)).scores
lost_once = evalica.bradley_terry(*zip(*games, ("A", "B", Winner.Y))).scores
print(f"A won 10 of 10: {never_lost.round(6).to_dict()}")
print(f"A won 10 of 11: {lost_once.round(2).to_dict()}")
numbered = [(0, 1)] * 5 + [(0, 2)] * 5 + [(1, 2)] * 3 + [(2, 1)] * 2
try:
    other = choix.ilsr_pairwise(3, numbered)
except ValueError as error:
    other = f"ValueError: {error}"
print(f"choix on the first: {other}")
if len(set(never_lost)) != 1 or lost_once.idxmax() != "A" or "ValueError" not in str(other):
    sys.exit("One that never lost is ranked now.")
PYTHON
