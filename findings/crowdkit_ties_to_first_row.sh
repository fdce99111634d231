#!/usr/bin/env bash
# Crowd-Kit's majority vote gives every tie to the label in the first row of the table.
#
# Packages: crowd-kit 1.4.2, pandas 3.1.1; Python 3.11, CPU
# Guess: A tie is left open, or broken at random or by the worker's skill, each task by itself.
# What happens: Labels are columns in the order in which the table has them first, and the first of the greatest wins.
#   So where two people rate all tasks and disagree, one of them is right everywhere, and the same votes sorted by
#   another column say the opposite.
# Seen:
#   eight tasks, ann "win", ben "loss": ann's rows first 8 win, ben's rows first 8 loss
# Means: Find the ties before the majority is taken, and count them as ties.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile crowd-kit==1.4.2 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import pandas as pd
from crowdkit.aggregation import MajorityVote

VOTES = [(f"task {i}", worker, label) for i in range(8) for worker, label in (("ann", "win"), ("ben", "loss"))]
votes = pd.DataFrame(VOTES, columns=["task", "worker", "label"])

found = {}
for first in ("ann", "ben"):
    by_worker = votes.sort_values("worker", ascending=first == "ann", kind="stable")
    found[first] = MajorityVote().fit_predict(by_worker).value_counts().to_dict()
told = (f"{first}'s rows first {n} {label}" for first, counts in found.items() for label, n in counts.items())
print('seen: eight tasks, ann "win", ben "loss":', ", ".join(told))
if found != {"ann": {"win": 8}, "ben": {"loss": 8}}:
    sys.exit("Crowd-Kit breaks ties otherwise now.")
PYTHON
