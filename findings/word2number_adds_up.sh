#!/usr/bin/env bash
# word2number reads "nineteen ninety nine" as 1719, "twenty twenty" as 40, and "minus five" as 5.
#
# Packages: word2number 1.1; Python 3.11, CPU
# Guess: The number that was said, or a ValueError for what is none.
# What happens: All number words of the text are collected and added up, whatever stands between them; the words after
#   "point" are read as digits, and a scale behind them is dropped. Signs and fractions are no number words.
# Seen:
#   'nineteen ninety nine' 1719, 'twenty twenty' 40
#   'two point five million' 2, 'minus five' 5, 'one and a half' 1
#   'five apples and three pears' 8
# Means: A check of answers in words accepts what it lists (num2words of the answer), and does not read words.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile word2number==1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from word2number import w2n

FOUND = {
    "nineteen ninety nine": 1719,
    "twenty twenty": 40,
    "two point five million": 2,
    "minus five": 5,
    "one and a half": 1,
    "five apples and three pears": 8,
}
read = {text: w2n.word_to_num(text) for text in FOUND}
print("seen:", ", ".join(f"{text!r} {number}" for text, number in read.items()))
if read != FOUND:
    sys.exit("word2number reads such words otherwise now.")
PYTHON
