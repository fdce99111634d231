#!/usr/bin/env bash
# Chat templates that drop a tool's result, or the call, without an error.
#
# Packages: transformers 5.23.0, trl 1.16.0 (its copies of the families' templates), jinja2 3.1.6; Python 3.11, CPU
# Guess: A template that does not know the role `tool` raises, as Gemma's and Cohere's do.
# What happens: Phi-3 and Phi-3.5 skip the message and the call; DeepSeek-R1-Distill, LFM2, Llama 3 and Qwen2.5-VL
#   show the result of a call that is not there.
# Seen:
#   33 templates render the conversation without an error
#   lost, the tool's result and the call: phi3, phi3_5
#   lost, the call alone: deepseek_r1_distill, lfm2, llama3, qwen2_5_vl
#   lost, the result alone: none
# Means: Training on, or serving, tool conversations of these families teaches answers out of nowhere. Render one
#   conversation with marked words and look for them.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps trl==1.16.0
"$folder/venv/bin/pip" install --quiet --no-compile transformers==5.23.0 jinja2==3.1.6
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PYTHON'
import pathlib
import sys

import trl
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_tokenizer(*special, template=None):
    """One token a byte, plus special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>", "<pad>", *special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


call = {"type": "function", "id": "call00000", "function": {"name": "FETCH", "arguments": {"x": 1}}}
conversation = [
    {"role": "user", "content": "How many?"},
    {"role": "assistant", "content": "", "tool_calls": [call]},
    {"role": "tool", "name": "FETCH", "tool_call_id": "call00000", "content": "RESULT42"},
    {"role": "assistant", "content": "Forty-two."},
]
lost = {"the tool's result and the call": [], "the call alone": [], "the result alone": []}
rendered = 0
for file in sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
    if file.stem.endswith("_training"):
        continue
    try:
        text = byte_tokenizer(template=file.read_text()).apply_chat_template(conversation, tokenize=False)
    except (TemplateError, TypeError):
        continue  # refuses, which is honest
    rendered += 1
    result, call = "RESULT42" in text, "FETCH" in text
    if not (result and call):
        kind = "the call alone" if result else "the result alone" if call else "the tool's result and the call"
        lost[kind].append(file.stem)
print(f"{rendered} templates render the conversation without an error")
for kind, families in lost.items():
    print(f"lost, {kind}: {', '.join(families) or 'none'}")
if set(lost["the tool's result and the call"]) != {"phi3", "phi3_5"} or len(lost["the call alone"]) != 4:
    sys.exit("Other templates lose tool calls or results now.")
PYTHON
