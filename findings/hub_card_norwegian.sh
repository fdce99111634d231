#!/usr/bin/env bash
# huggingface_hub reads a card in Norwegian as one in the language False, and writes that back.
#
# Packages: huggingface_hub 2.4.0; Python 3.11, CPU
# Guess: `language: no`, the Hub's code for Norwegian, comes back as "no": the library writes it with quotes itself.
# What happens: Cards are read by YAML 1.1, where a bare no is false. The card that is saved again says
#   `language: false`; nothing warns.
# Seen:
#   read: [False, 'en']; saved again: ['- false', '- en']; written by the library itself: ["- 'no'", '- en']
# Means: Quote "no" in a card that is written by hand; look for False among a card's languages before it is saved.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile huggingface_hub==2.4.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

from huggingface_hub import DatasetCard, DatasetCardData

CARD = "---\nlanguage:\n- no\n- en\nlicense: mit\n---\nAnswers by people in Oslo.\n"


def languages(text):
    return [line for line in text.splitlines() if line.startswith("- ")]


card = DatasetCard(CARD)
again, own = languages(str(card)), languages(DatasetCardData(language=["no", "en"]).to_yaml())
print(f"seen: read: {card.data.language}; saved again: {again}; written by the library itself: {own}")
if card.data.language != [False, "en"] or again != ["- false", "- en"]:
    sys.exit("A card in Norwegian is no longer read as False.")
PYTHON
