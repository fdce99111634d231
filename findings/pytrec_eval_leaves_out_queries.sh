#!/usr/bin/env bash
# A query that a search found nothing for is left out by pytrec_eval and counts as 0 in ir_measures, which calls it.
#
# Packages: pytrec_eval-terrier 0.5.11, ir_measures 0.4.3; Python 3.11, CPU
# Guess: Both are trec_eval, so the mean of one run is the same by both.
# What happens: pytrec_eval returns the queries that are in the run, so a mean over what it returns rises when a search
#   gives up on hard ones; ir_measures takes its mean over all that have judgements.
# Seen:
#   reciprocal rank of three queries, one without results: pytrec_eval 0.75 (of 2), ir_measures 0.5 (of 3)
# Means: Take the mean over the judged queries, with 0 for what is missing, whoever computes the parts.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pytrec_eval-terrier==0.5.11 ir_measures==0.4.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import ir_measures
import pytrec_eval

JUDGED = {"boil eggs": {"kitchen": 1}, "mend a tyre": {"workshop": 1}, "prune roses": {"garden": 1}}
RUN = {"boil eggs": {"kitchen": 2.0, "garden": 1.0}, "mend a tyre": {"garden": 2.0, "workshop": 1.0}}

parts = pytrec_eval.RelevanceEvaluator(JUDGED, {"recip_rank"}).evaluate(RUN)
mean = sum(part["recip_rank"] for part in parts.values()) / len(parts)
whole = ir_measures.calc_aggregate([ir_measures.RR], JUDGED, RUN)[ir_measures.RR]
print(
    f"seen: reciprocal rank of three queries, one without results: pytrec_eval {mean} (of {len(parts)}), "
    f"ir_measures {whole} (of {len(JUDGED)})"
)
if mean != 0.75 or whole != 0.5 or "prune roses" in parts:
    sys.exit("The two agree on a query without results now.")
PYTHON
