#!/usr/bin/env bash
# In MLflow a feedback that was taken back stays among the assessments.
#
# Packages: mlflow-skinny 3.17.2, sqlalchemy 2.1.9, alembic 1.20.1, pandas 3.1.1; Python 3.11, CPU
# Guess: override_feedback replaces the value: the trace has one assessment, with the new value.
# What happens: The trace holds both, the old one with valid False and the new one with `overrides`, in the objects
#   and in search_traces' data frame; only the search filter counts the new one alone.
# Seen:
#   a person who took back 'liked': assessments [('liked', True, False), ('liked', False, True)]
#   the data frame's column holds 2; traces that the search finds: {'true': 0, 'false': 1}
# Means: Exports of feedback for training have to leave out valid=False, or a person who changed their mind counts
#   on both sides.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1 \
  pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys

import mlflow

logging.disable(logging.INFO)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("chat")


@mlflow.trace
def reply(text):
    return text


reply("hello")
mlflow.flush_trace_async_logging()
trace = mlflow.get_last_active_trace_id()
first = mlflow.log_feedback(trace_id=trace, name="liked", value=True)
mlflow.override_feedback(trace_id=trace, assessment_id=first.assessment_id, value=False)
kept = [(a.name, a.value, a.valid) for a in mlflow.get_trace(trace).info.assessments]
found = {
    v: len(mlflow.search_traces(filter_string=f"feedback.liked = '{v}'", return_type="list")) for v in ("true", "false")
}
column = mlflow.search_traces()["assessments"].iloc[0]
print(f"a person who took back 'liked': assessments {kept}")
print(f"the data frame's column holds {len(column)}; traces that the search finds: {found}")
if kept != [("liked", True, False), ("liked", False, True)] or found != {"true": 0, "false": 1} or len(column) != 2:
    sys.exit("An overridden feedback is kept or found otherwise now.")
PYTHON
