#!/usr/bin/env bash
# distilabel's DPO formatting makes a pair of one text with itself where the ratings tie.
#
# Packages: distilabel 1.5.3, datasets 5.2.0, requests 2.32.5; Python 3.11, CPU
# Guess: A tie gives no pair, or two different texts.
# What happens: FormatTextGenerationDPO and FormatChatGenerationDPO take the first of the highest and the first of the
#   lowest ratings. Where all are equal both are the first completion: chosen and rejected are the same text, the
#   others are gone, and the row is written as any other.
# Seen:
#   FormatTextGenerationDPO, ratings [4, 4]: chosen 'Paris.', rejected 'Paris.'
#   FormatChatGenerationDPO, ratings [4, 4]: chosen 'Paris.', rejected 'Paris.'
# Means: Drop rows whose chosen and rejected are equal: a loss on their difference has no gradient from them, but they
#   count in n, in accuracy (as wrong), and in any share of pairs.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile distilabel==1.5.3 datasets==5.2.0 requests==2.32.5
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from distilabel.steps import FormatChatGenerationDPO, FormatTextGenerationDPO

asked = "What is the capital of France?"
inputs = {FormatTextGenerationDPO: {"instruction": asked}}
inputs[FormatChatGenerationDPO] = {"messages": [{"role": "user", "content": asked}]}
for kind, prompt in inputs.items():
    step = kind()
    step.load()
    row = {**prompt, "generations": ["Paris.", "It is Paris, on the Seine."], "ratings": [4, 4]}
    (made,) = next(step.process([row]))
    chosen, rejected = made["chosen"][-1]["content"], made["rejected"][-1]["content"]
    print(f"seen: {kind.__name__}, ratings [4, 4]: chosen {chosen!r}, rejected {rejected!r}")
    if chosen != rejected:
        sys.exit("A tie no longer gives a pair of one text with itself.")
PYTHON
