#!/usr/bin/env bash
# A score held to 1 to 10 by a JSON schema can be 99: two of three engines for constrained decoding read past limits.
#
# Packages: outlines-core 0.2.14, lm-format-enforcer 0.11.3, llguidance 1.9.1; Python 3.11, CPU
# Guess: What a schema forbids cannot be sampled, or the engine says which keyword it does not know.
# What happens: outlines-core and lm-format-enforcer leave minimum, maximum and uniqueItems out, lm-format-enforcer
#   format as well, and neither says so. llguidance holds ranges, refuses uniqueItems by name, and takes a pattern as
#   JSON Schema does, anywhere in the text; the other two take it for the whole text.
# Seen:
#   (can it be sampled?) score 99 of 1 to 10: outlines True, enforcer True, llguidance False
#   two equal items: outlines True, enforcer True, llguidance Unimplemented keys: ["uniqueItems"]
#   date "yesterday": outlines False, enforcer True, llguidance False
#   "x12y" by the pattern [0-9]{2}: outlines False, enforcer False, llguidance True
# Means: Check a constrained verdict as if it had not been; anchor patterns with ^ and $.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile outlines-core==0.2.14 lm-format-enforcer==0.11.3 llguidance==1.9.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import re
import sys

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from lmformatenforcer import JsonSchemaParser
from outlines_core.json_schema import build_regex_from_schema

SCORE = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}}}
ASKED = {
    "score 99 of 1 to 10": (SCORE | {"required": ["score"]}, '{"score": 99}'),
    "two equal items": ({"type": "array", "items": {"type": "integer"}, "maxItems": 2, "uniqueItems": True}, "[1, 1]"),
    'date "yesterday"': ({"type": "string", "format": "date"}, '"yesterday"'),
    '"x12y" by the pattern [0-9]{2}': ({"type": "string", "pattern": "[0-9]{2}"}, '"x12y"'),
}


class Bytes:
    """A tokenizer of one token a byte."""

    bos_token_id, eos_token_id, special_token_ids = None, 256, [256]
    tokens = [bytes([i]) for i in range(256)] + [b"<eos>"]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


def outlines(schema, text):
    return bool(re.fullmatch(build_regex_from_schema(json.dumps(schema)), text))


def enforcer(schema, text):
    parser = JsonSchemaParser(schema)
    for letter in text:
        if letter not in parser.get_allowed_characters():
            return False
        parser = parser.add_character(letter)
    return parser.can_end()


def guidance(schema, text):
    matcher = LLMatcher(LLTokenizer(TokenizerWrapper(Bytes())), LLMatcher.grammar_from_json_schema(schema))
    if why := matcher.get_error():
        return why
    return matcher.try_consume_tokens(list(text.encode())) == len(text) and matcher.is_accepting()


seen = {what: [engine(*asked) for engine in (outlines, enforcer, guidance)] for what, asked in ASKED.items()}
for what, (first, second, third) in seen.items():
    print(f"seen: {what}: outlines {first}, enforcer {second}, llguidance {third}")
expected = [[True, True, False], [True, True, 'Unimplemented keys: ["uniqueItems"]'], [False, True, False]]
if list(seen.values()) != [*expected, [False, False, True]]:
    sys.exit("The engines read the limits of a schema otherwise now.")
PYTHON
