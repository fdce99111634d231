#!/usr/bin/env bash
# inspect's scorer match() passes "It is 15" for 5, and with numeric=True finds no 5 in "5%" or "\boxed{5}".
#
# Packages: inspect-ai 0.3.285; Python 3.11, CPU
# Guess: match() compares the last word or number of a completion with the target; numeric=True finds the numbers that
#   people write.
# What happens: match() asks whether the text, without punctuation, ends with the target's characters: 15, 0.5, -5 and
#   2005 pass for 5. numeric=True splits at blanks and takes the last word that is a number once commas, currency and
#   markdown's stars are gone: a percentage, a fraction, a unit without a blank, and \boxed{} are none, and the score
#   is "incorrect" with an empty answer.
# Seen:
#   match(): {'It is 15': 'C', 'It is 0.5': 'C', 'It is -5': 'C', 'In 2005': 'C', 'It is 5.': 'C'}
#   match(numeric=True): {'It is 5': 'C', 'It is 15': 'I', 'It is 5%': 'I', 'It is \\boxed{5}': 'I', 'x=5': 'I',
#   'It is 5km': 'I'}
# Means: Never match() for numbers; with numeric=True tell the student how to write the answer, or score by a pattern.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile inspect-ai==0.3.285
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sys

from inspect_ai.model import ChatMessageUser, ModelName, ModelOutput
from inspect_ai.scorer import Target, match
from inspect_ai.solver import TaskState


async def scored(scorer, text):
    said, asked = ModelOutput.from_content("mockllm/model", text), [ChatMessageUser(content="How many?")]
    state = TaskState(ModelName("mockllm/model"), sample_id=1, epoch=1, input="How many?", messages=asked, output=said)
    return (await scorer(state, Target("5"))).value


def seen(scorer, *texts):
    return {text: asyncio.run(scored(scorer, text)) for text in texts}


kind = seen(match(), "It is 15", "It is 0.5", "It is -5", "In 2005", "It is 5.")
strict = seen(match(numeric=True), "It is 5", "It is 15", "It is 5%", "It is \\boxed{5}", "x=5", "It is 5km")
print(f"seen: match(): {kind}")
print(f"seen: match(numeric=True): {strict}")
if set(kind.values()) != {"C"} or list(strict.values()) != ["C", *"IIIII"]:
    sys.exit("inspect's match() reads numbers otherwise now.")
PYTHON
