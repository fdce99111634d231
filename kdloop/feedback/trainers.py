"""Feedback for other trainers: LLaMA-Factory's dataset_info.json and Axolotl's YAML, with the files that they name.

Both want one message as `chosen` and `rejected`, and know no held-out part: only what may be trained on is in these
files. LLaMA-Factory: `dataset_dir: this folder`, `dataset: kdloop_sft` (or `_dpo`, `_kto`).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from storage import files, json_lines

TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
ENTRY = {"formatting": "sharegpt", "tags": TAGS | {"system_tag": "system"}}
COLUMNS = {
    "sft": {"messages": "messages"},
    "dpo": {"messages": "messages", "chosen": "chosen", "rejected": "rejected"},
    "kto": {"messages": "messages", "kto_tag": "label"},
}
AXOLOTL = """# Axolotl: put one of these into your configuration; {reader}
# --- supervised
datasets:
  - path: {folder}train_sft.jsonl
    ds_type: json
    type: chat_template
    field_messages: messages
    message_property_mappings:
      role: role
      content: content
# --- preferences, in place of the above
# rl: dpo
# datasets:
#   - path: {folder}train_dpo.jsonl
#     ds_type: json
#     split: train
#     type: chat_template.default
#     field_messages: messages
#     field_chosen: chosen
#     field_rejected: rejected
#     message_property_mappings:
#       role: role
#       content: content
"""


def rewrite(format: str, exported: Path, out: Path) -> int:
    """Write the training part of an exported file (exports.export) as both tools read it; the number of rows."""
    n = 0
    with files.whole(out) as partial, partial.open("w", encoding="utf-8") as file:
        for row in training_rows(exported):
            file.write(json_lines.dump(of_row(format, row)) + "\n")
            n += 1
    return n


def training_rows(exported: Path) -> Iterator[dict]:
    with exported.open(encoding="utf-8") as lines:
        for line in lines:
            if (row := json.loads(line)).pop("split") == "train":
                yield row


def of_row(format: str, row: dict) -> dict:
    if format == "dpo":
        return {"messages": row["prompt"], "chosen": row["chosen"][-1], "rejected": row["rejected"][-1]}
    if format == "kto":
        return {"messages": [*row["prompt"], *row["completion"]], "label": row["label"]}
    return {"messages": row["messages"]}


def dataset_info(formats: list[str]) -> str:
    entries = {
        f"kdloop_{f}": ENTRY
        | {"file_name": f"train_{f}.jsonl", "columns": COLUMNS[f]}
        | ({"ranking": True} if f == "dpo" else {})
        for f in formats
    }
    return json.dumps(entries, indent=2) + "\n"


def axolotl() -> str:
    return AXOLOTL.format(folder="./", reader="paths are seen from where it runs")
