#!/usr/bin/env bash
# Gradio sums up all past events after each one, with analytics and monitoring off.
#
# Packages: gradio 6.31.0; Python 3.11, CPU
# Guess: With GRADIO_ANALYTICS_ENABLED=False and launch(enable_monitoring=False) nothing is recorded of events.
# What happens: After each event of the queue a pandas data frame of all recorded ones, up to 10,000, is built and
#   grouped by function, for a monitoring page that is not served. An app with 165 handlers spent a third of its time
#   on it. GRADIO_ANALYTICS_CACHE_FREQUENCY, which is 1, is how many events lie between two summaries.
# Seen:
#   6 events: data frames of [1, 2, 3, 4, 5, 6] rows
#   6 events with GRADIO_ANALYTICS_CACHE_FREQUENCY=1000000000: data frames of [] rows
# Means: An app of many events sets the variable before it is started.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile gradio==6.31.0
cat > "$folder/events.py" <<'PYTHON'
import os
import sys

import gradio as gr
from gradio.queueing import Queue
from gradio_client import Client

built, build = [], Queue._get_df


def counted(records):
    built.append(len(records))
    return build(records)


Queue._get_df = staticmethod(counted)
with gr.Blocks() as demo:
    box = gr.Textbox()
    box.submit(lambda text: text, box, box, api_name="say")
demo.queue().launch(prevent_thread_lock=True, enable_monitoring=False, quiet=True)
client = Client(demo.local_url, verbose=False)
for i in range(6):
    client.predict(str(i), api_name="/say")
demo.close()
often = os.environ.get("GRADIO_ANALYTICS_CACHE_FREQUENCY")
print(f"6 events{f' with GRADIO_ANALYTICS_CACHE_FREQUENCY={often}' if often else ''}: data frames of {built} rows")
if built != ([] if often else [1, 2, 3, 4, 5, 6]):
    sys.exit("Gradio sums events up otherwise now.")
PYTHON
export GRADIO_ANALYTICS_ENABLED=False
"$folder/venv/bin/python" "$folder/events.py"
GRADIO_ANALYTICS_CACHE_FREQUENCY=1000000000 "$folder/venv/bin/python" "$folder/events.py"
