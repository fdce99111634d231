#!/usr/bin/env bash
# gpt-oss' chat template shows the first of two tool calls, and the results of both.
#
# Packages: transformers 5.23.0, trl 1.16.0 (its copies of the families' templates), jinja2 3.1.6; Python 3.11, CPU
# Guess: A template that knows one call a message refuses two, as Llama 3.1's does, or shows both.
# What happens: The second call is left out without an error; its result is there, under the first call's name.
# Seen:
#   calls shown: FETCH_A; results shown: RESULT_A (from FETCH_A), RESULT_B (from FETCH_A)
# Means: A conversation with two calls in one message, as OpenAI's API sends them, teaches that one call has two
#   results. Split them into a message each, call and result in turns.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps trl==1.16.0
"$folder/venv/bin/pip" install --quiet --no-compile transformers==5.23.0 jinja2==3.1.6
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import pathlib
import re
import sys

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

file = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates" / "gptoss.jinja"


def call(name):
    return {"type": "function", "id": name, "function": {"name": name, "arguments": {"x": 1}}}


conversation = [
    {"role": "user", "content": "How many of both?"},
    {"role": "assistant", "content": "", "tool_calls": [call("FETCH_A"), call("FETCH_B")]},
    {"role": "tool", "name": "FETCH_A", "tool_call_id": "FETCH_A", "content": "RESULT_A"},
    {"role": "tool", "name": "FETCH_B", "tool_call_id": "FETCH_B", "content": "RESULT_B"},
]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")
text = tokenizer.apply_chat_template(conversation, chat_template=file.read_text(), tokenize=False)
calls = re.findall(r"<\|start\|>assistant to=functions\.(\w+)", text)
results = re.findall(r"<\|start\|>functions\.(\w+) to=assistant<\|channel\|>commentary<\|message\|>\"(\w+)\"", text)
shown = ", ".join(f"{what} (from {name})" for name, what in results)
print(f"calls shown: {', '.join(calls)}; results shown: {shown}")
if calls != ["FETCH_A"] or results != [("FETCH_A", "RESULT_A"), ("FETCH_A", "RESULT_B")]:
    sys.exit("The template shows two calls otherwise now.")
PYTHON
