#!/usr/bin/env bash
# apply_chat_template edits messages before the template sees them: None goes, thoughts are copied.
#
# Packages: transformers 5.23.0, trl 1.16.0 (its copies of the families' templates), jinja2 3.1.6; Python 3.11, CPU
# Guess: A chat template renders the same, whether transformers or another Jinja environment calls it.
# What happens: transformers drops each key whose value is None, and fills `reasoning_content` and `thinking` from each
#   other. DeepSeek-R1-Distill's template shows a tool call only where `content` is None, so through transformers no
#   call can be shown. gpt-oss' template reads `thinking` alone, so a `reasoning_content` is shown by transformers only.
# Seen:
#   deepseek_r1_distill, a call with content None: jinja shows it; transformers: 'dict object' has no attribute 'content'
#   deepseek_r1_distill, a call with content "": jinja leaves it out; transformers leaves it out
#   gptoss, reasoning_content: jinja leaves it out; transformers shows it
# Means: A template that was tested in one of them says nothing of the other: texts that transformers renders for a
#   training are not those that a server with its own Jinja, or one that was trained by it, sees. Hand token ids over.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps trl==1.16.0
"$folder/venv/bin/pip" install --quiet --no-compile transformers==5.23.0 jinja2==3.1.6
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PYTHON'
import datetime
import importlib.util
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

TEMPLATES = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"


def refuse(message):
    raise jinja2.TemplateError(message)


def by_jinja(template, messages):
    """As a server without transformers renders it: the same environment, the messages as they are."""
    extensions = [jinja2.ext.loopcontrols]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = lambda x, **how: json.dumps(x, ensure_ascii=False)
    environment.globals |= {"raise_exception": refuse, "strftime_now": datetime.datetime.now().strftime}
    return environment.from_string(template).render(messages=messages, bos_token="<s>", add_generation_prompt=False)


def by_transformers(template, messages):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)


def seen(render, family, messages, word):
    try:
        text = render((TEMPLATES / f"{family}.jinja").read_text(), messages)
    except jinja2.TemplateError as error:
        return str(error)
    return "shows it" if word in text else "leaves it out"


call = {"type": "function", "function": {"name": "FETCH", "arguments": '{"x": 1}'}}
asked, result = {"role": "user", "content": "How many?"}, {"role": "tool", "content": "42"}
cases = {
    "a call with content None": ("deepseek_r1_distill", {"content": None, "tool_calls": [call]}, [result], "FETCH"),
    'a call with content ""': ("deepseek_r1_distill", {"content": "", "tool_calls": [call]}, [result], "FETCH"),
    "reasoning_content": ("gptoss", {"content": "Two.", "reasoning_content": "HARD THOUGHT"}, [], "HARD THOUGHT"),
}
found = []
for what, (family, message, after, word) in cases.items():
    messages = [asked, {"role": "assistant", **message}, *after]
    jinja, theirs = (seen(render, family, messages, word) for render in (by_jinja, by_transformers))
    found.append((jinja, theirs))
    print(f"{family}, {what}: jinja {jinja}; transformers {theirs}")
none = ("shows it", "'dict object' has no attribute 'content'")
if found != [none, ("leaves it out", "leaves it out"), ("leaves it out", "shows it")]:
    sys.exit("Transformers and plain Jinja render these alike now, or otherwise different.")
PYTHON
