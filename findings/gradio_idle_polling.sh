#!/usr/bin/env bash
# A Gradio app that nobody uses wakes up many hundred times a second.
#
# Packages: gradio 6.31.0; Python 3.11, CPU
# Guess: Without a visitor the server waits for connections, and the queue for events: a few wake-ups a second, no
#   CPU time.
# What happens: The queue polls: its loop sleeps for a millisecond, looks, and sleeps again, all day; 5 to 7 % of a
#   core where we looked.
# Seen:
#   no visitor, no event: 907 wake-ups a second, sleeping [0.001, 0.01] s
# Means: On a small shared machine (or a laptop's battery) an app left open is not free, and several of them beside
#   a benchmark spoil it. Measure with the app stopped.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile gradio==6.31.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sys
import time

import gradio as gr

sleeps, true_sleep = [], asyncio.sleep


async def counted_sleep(delay, *rest):
    sleeps.append(delay)
    return await true_sleep(delay, *rest)


with gr.Blocks() as demo:
    box = gr.Textbox()
    box.submit(lambda text: text, box, box)
asyncio.sleep = counted_sleep
demo.launch(prevent_thread_lock=True, quiet=True)
time.sleep(3)
sleeps.clear()
time.sleep(5)
busy = [delay for delay in sleeps if 0 < delay <= 0.05]
print(f"no visitor, no event: {len(busy) / 5:.0f} wake-ups a second, sleeping {sorted(set(busy))} s")
if len(busy) < 5 * 100:
    sys.exit("An idle Gradio app wakes up less than 100 times a second now.")
PYTHON
