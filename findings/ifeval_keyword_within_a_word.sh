#!/usr/bin/env bash
# lm-eval's IFEval: "art" is in "start" where it has to be used, and is not where it is forbidden.
#
# Packages: torch 2.13.0, lm-eval 0.4.13, nltk 3.9.2, langdetect 1.0.9, immutabledict 4.2.2; Python 3.11, CPU
# Guess: A keyword is a word for all four checkers that take one, and what it is counted in are words.
# What happens: KeywordChecker and KeywordFrequencyChecker search for the keyword as a regular expression anywhere in
#   the response, within words too ("cat" is twice in "category, concatenate"; "a.m." is in "warm "). ForbiddenWords
#   takes whole words alone, so that one response both uses "art" and does without it.
# Seen:
#   use 'art', "I will start now.": True; do without 'art', the same: True
#   use 'cat' at least twice, "A category to concatenate.": True
#   use 'a.m.', "It is warm here.": True
# Means: A student that is paid by these checkers is paid for words that it has not written: check for whole words.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile lm-eval==0.4.13 nltk==3.9.2 langdetect==1.0.9 immutabledict==4.2.2
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from lm_eval.tasks.ifeval.instructions import ForbiddenWords, KeywordChecker, KeywordFrequencyChecker


def followed(checker, response, **asked):
    check = checker("asked")
    check.build_description(**asked)
    return bool(check.check_following(response))


START, TWICE = "I will start now.", "A category to concatenate."
used, unused = followed(KeywordChecker, START, keywords=["art"]), followed(ForbiddenWords, START, forbidden_words=["art"])
counted = followed(KeywordFrequencyChecker, TWICE, keyword="cat", frequency=2, relation="at least")
WARM = "It is warm here."
dots = followed(KeywordChecker, WARM, keywords=["a.m."])
print(f"seen: use 'art', {START!r}: {used}; do without 'art', the same: {unused}")
print(f"seen: use 'cat' at least twice, {TWICE!r}: {counted}")
print(f"seen: use 'a.m.', {WARM!r}: {dots}")
if not (used and unused and counted and dots):
    sys.exit("IFEval's keywords are whole words now.")
PYTHON
