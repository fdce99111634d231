#!/usr/bin/env bash
# "The 5 Day 30 minute plan" cites a case for eyecite; so does any page of a reporter, whether it was printed or not.
#
# Packages: eyecite 2.7.8; Python 3.11, CPU
# Guess: A reporter's name has to look like one, so that plain prose holds no citation, and 347 u.s. 483 is one.
# What happens: Day, Miles, Black, Root, Bay and Ind. are names of early reporters, and any number before and after
#   makes a full case citation. Volume and page are not looked up. Lower case is not read at all.
# Seen:
#   The 5 Day 30 minute plan is cheap. ['5 Day 30']
#   He ran 3 Miles 20 times. ['3 Miles 20']
#   999 U.S. 9999 ['999 U.S. 9999'], 347 u.s. 483 []
# Means: "It cites a case" is no check of a legal answer: ask for the citations of the source, by their corrected form.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile eyecite==2.7.8
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from eyecite import get_citations

FOUND = {
    "The 5 Day 30 minute plan is cheap.": ["5 Day 30"],
    "He ran 3 Miles 20 times.": ["3 Miles 20"],
    "999 U.S. 9999": ["999 U.S. 9999"],
    "347 u.s. 483": [],
}
read = {text: [cited.matched_text() for cited in get_citations(text)] for text in FOUND}
for text, cited in read.items():
    print(f"seen: {text} {cited}")
if read != FOUND:
    sys.exit("eyecite reads such texts otherwise now.")
PYTHON
