#!/usr/bin/env bash
# textstat counts "Yes. No. Maybe." as one sentence: those of one or two words are left out, and their words are not.
#
# Packages: textstat 0.7.13; Python 3.11, CPU
# Guess: Sentences are what ends with a full stop; words per sentence is words divided by them.
# What happens: A sentence of one or two words is not counted, though its words are, and no text has fewer than one. So
#   replies with short sentences look long-winded, and harder to read by every formula that uses the ratio.
# Seen:
#   'Yes. No. Maybe.' 1 sentence of 3 words
#   'Sure. Boil it. Peel the egg while it is still warm. Add some salt.' 2 sentences of 7 words
# Means: For chat, where short sentences are the style, count them yourself.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile textstat==0.7.13
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import textstat

TEXTS = ("Yes. No. Maybe.", "Sure. Boil it. Peel the egg while it is still warm. Add some salt.")
found = {text: (textstat.sentence_count(text), textstat.words_per_sentence(text)) for text in TEXTS}
for text, (sentences, words) in found.items():
    print(f"seen: {text!r} {sentences} sentence(s) of {words:g} words")
if [sentences for sentences, _ in found.values()] != [1, 2]:
    sys.exit("textstat counts short sentences now.")
PYTHON
