"""Examples -> JSONL that TRL's trainers take as it is (conversational format). No person's id is ever in it."""

import json
from collections.abc import Iterator
from pathlib import Path

from kdloop.pairs import Example, from_feedback
from storage.conversations import Completion

FORMATS = ("sft", "dpo", "kto")  # as the methods read them; not METHODS itself, which loads TRL into the page


def export(db: Path, format: str, path: Path) -> int:
    """Write all of people's examples that `format` (the name of a method) has a use for; returns how many rows.

    `split` says which part a row belongs to: what is held out here should be held out elsewhere too.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; there are {', '.join(FORMATS)}")
    split, n = from_feedback(db, newest=None), 0
    with path.open("w", encoding="utf-8") as file:
        for part, examples in (("train", split.train), ("held_out", split.held_out)):
            for row in (r for e in examples for r in rows(format, e)):
                file.write(json.dumps({**row, "split": part}, ensure_ascii=False) + "\n")
                n += 1
    return n


def rows(format: str, e: Example) -> Iterator[dict]:
    """One row a pair for dpo, one a completion for kto, one a liked completion for sft."""
    if format == "dpo" and e.is_pair:
        yield {"prompt": e.prompt, "chosen": said(e.chosen), "rejected": said(e.rejected)}
    if format == "kto":
        for k in e.completions:
            yield {"prompt": e.prompt, "completion": said(k), "label": k is e.chosen}
    if format == "sft" and e.chosen:
        yield {"messages": [*e.prompt, *said(e.chosen)]}


def said(completion: Completion) -> list[dict]:
    return [{"role": "assistant", "content": completion.text}]
