"""What a search compares: a text without what readers do not tell apart.

Unicode's caseless matching (The Unicode Standard, 3.13, D147), and a little more: "ÄRGER", also as a Mac writes it, in
two characters a letter, is found by "ärger", "ΣΟΦΟΣ" by "σοφός", "Straße" by "STRASSE". Accents count, except the
Greek ones, which capitals do not have: "schon" is not "schön".
"""

import re
import unicodedata

ALIKE = str.maketrans(
    dict.fromkeys("\u00ad\u200b\u2060\ufeff")  # soft hyphen, spaces of no width: nobody sees or types them
    | dict.fromkeys("‘’‚‛′ʼ", "'")
    | dict.fromkeys("“”„‟″", '"')
    | {"ı": "i"}  # Turkish: "I" is the capital of ı there and of i elsewhere, and a search cannot know which
)
RARE = re.compile(f"[{''.join(map(chr, ALIKE))}]")
DOTTED = "i\u0307"  # what case folding leaves of İ
TONOS = re.compile("([α-ω]\u0308?)[\u0300\u0301\u0313\u0314\u0342]+")
GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")


def searchable(text: str | None) -> str:
    """Case-folded and NFKC-normalised, its white space as single spaces. What few texts have is looked for before it is
    replaced, which takes longer."""
    text = str(text or "").replace("\0", " ")  # where SQL would take the text to end
    if not text.isascii():
        for _ in range(2):  # what normalising brings out may have capitals of its own: "℡"
            text = unicodedata.normalize("NFKC", text).casefold()
        if RARE.search(text):
            text = text.translate(ALIKE)
        if GREEK.search(text):
            text = TONOS.sub(r"\1", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFKC", text.replace(DOTTED, "i"))
    return " ".join(text.lower().split())
