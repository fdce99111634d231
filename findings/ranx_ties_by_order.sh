#!/usr/bin/env bash
# A reranker that gives every passage the same score is perfect by ranx where the right one is listed first.
#
# Packages: ranx 0.3.21, ir_measures 0.4.3 (trec_eval by pytrec_eval-terrier 0.5.11); Python 3.11, CPU
# Guess: Ties are broken by something that does not know the answer: the document's id, as in trec_eval, or at random.
# What happens: ranx sorts by score and keeps the order of the dictionary among equals. Whoever builds a run from
#   candidates with the relevant one first (a positive, then its negatives) measures that order.
# Seen:
#   MRR of three equal scores, the relevant one listed first, then last: ranx 1.0, 0.333; ir_measures 0.5, 0.5
# Means: Shuffle candidates, or break ties against the system, before ranx sees them.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile ranx==0.3.21 ir_measures==0.4.3 pytrec_eval-terrier==0.5.11
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import ir_measures
import ranx

JUDGED = {"boil eggs": {"kitchen": 1}}
RUNS = [{"boil eggs": dict.fromkeys(order, 1.0)} for order in (("kitchen", "garden", "mill"), ("mill", "garden", "kitchen"))]

by_ranx = [round(float(ranx.evaluate(ranx.Qrels(JUDGED), ranx.Run(run), "mrr")), 3) for run in RUNS]
by_id = [ir_measures.calc_aggregate([ir_measures.RR], JUDGED, run)[ir_measures.RR] for run in RUNS]
print(
    "seen: MRR of three equal scores, the relevant one listed first, then last: "
    f"ranx {by_ranx[0]}, {by_ranx[1]}; ir_measures {by_id[0]}, {by_id[1]}"
)
if by_ranx != [1.0, 0.333] or by_id[0] != by_id[1]:
    sys.exit("ranx breaks ties otherwise now.")
PYTHON
