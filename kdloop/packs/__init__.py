"""Skill and domain packs as data. A pack is a directory; `general` ships.

train.jsonl    prompts that a round may ask the student, and that `simulate` asks its rater about
gate.jsonl     prompts that fill up the gate where people's held-out ones are few; never trained on
heldout.jsonl  prompts for measuring alone: `simulate` compares with the base on them
"""

import json
from pathlib import Path


def prompts(pack: str, part: str) -> list[str]:
    """Raises FileNotFoundError for an unknown pack or part."""
    lines = (Path(__file__).parent / pack / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]
