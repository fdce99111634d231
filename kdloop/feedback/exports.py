"""Examples -> JSONL in TRL's conversational format, ready for its trainers. It never holds a person's id."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kdloop import packs
from kdloop.feedback import cards, trainers
from kdloop.feedback.examples import Example, from_feedback
from kdloop.student.base import read_weights
from kdloop.student.identity import CONFIG
from storage import checkpoints, files, imports, json_lines
from storage import imported as stored
from storage.conversations import Completion, Message
from storage.snapshots import Target

FORMATS = ("sft", "dpo", "kto")  # as the methods read them; not METHODS itself, which loads TRL into the page


def export(db: Path, format: str, path: Path, imported: int | None = None) -> int:
    """Write all examples of people's feedback, or of one import, that fit the format (a method's name); returns the
    number of rows.

    The column `split` is train or held_out, so that held-out rows can stay held out elsewhere. Where some version has
    learned from a pack with a disclaimer, `disclaimer` is what belongs beside a row's completions, or "". Completions
    whose terms forbid training other models are left out. Raises ValueError for an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; there are {', '.join(FORMATS)}")
    if imported is None:
        split = from_feedback(db, newest=None)
        told = [*split.train, *split.held_out]
        examples: Callable[[], Iterable[Example]] = told.copy
    else:
        imports.get(db, imported)
        examples = partial(of_import, db, imported)
    n, thoughts, beside = 0, any(map(has_thought, examples())), disclaimers(db)
    with files.whole(path) as partial_file, partial_file.open("w", encoding="utf-8") as file:
        for e in examples():
            part = "held_out" if e.held_out else "train"
            for row in () if any(k.restricted for k in e.completions) else rows(format, e, thoughts):
                said = {"disclaimer": disclaimer(e, beside)} if beside else {}
                file.write(json_lines.dump({**row, **said, "split": part}) + "\n")
                n += 1
    return n


def disclaimers(db: Path) -> dict[int, list[str]]:
    """Checkpoint id -> what belongs beside its completions (packs.disclaimers); only those that have learned from a
    pack which says something."""
    said = {k.id: [*packs.disclaimers(db, k).values()] for k in checkpoints.lineage(db)}
    return {id: texts for id, texts in said.items() if texts}


def disclaimer(e: Example, beside: dict[int, list[str]]) -> str:
    """Each text once, of all versions that wrote a completion of the example."""
    return " ".join(dict.fromkeys(text for k in e.completions for text in beside.get(k.checkpoint_id, ())))


def of_import(db: Path, id: int) -> Iterator[Example]:
    """An import's rows as examples, one a rating, as they came."""
    for row, restricted in stored.rows(db, id):
        said = [
            Completion("", "", "teacher", None, k.text, thought=k.thought, restricted=restricted)
            for k in row.completions
        ]
        for r in row.ratings:
            if r.score is None:
                chosen, rejected = (None if at is None else said[at] for at in (r.chosen, r.rejected))
                yield Example(row.prompt, chosen, rejected, "", (), "import", held_out=row.held_out)


def rows(format: str, e: Example, thoughts: bool = False) -> Iterator[dict]:
    """One row per pair for dpo, per completion for kto, per liked completion for sft.

    All rows of a format have the same keys, and so have their messages: readers infer the columns from the first rows.
    So with `thoughts` every message has a `reasoning_content`, "" where there is none.
    """
    prompt = [as_message(m, thoughts) for m in e.prompt]
    chosen, rejected = ([as_message(k.message, thoughts)] if k else [] for k in (e.chosen, e.rejected))
    if format == "dpo" and e.is_pair:
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if format == "kto":
        for side, label in ((chosen, True), (rejected, False)):
            if side:
                yield {"prompt": prompt, "completion": side, "label": label}
    if format == "sft" and e.chosen:
        yield {"messages": [*prompt, *chosen]}


def has_thought(e: Example) -> bool:
    return any(m.get("reasoning_content") for m in (*e.prompt, *(k.message for k in e.completions)))


def as_message(m: Message, thoughts: bool) -> Message:
    thought = {"reasoning_content": m.get("reasoning_content", "")} if thoughts else {}
    return {"role": m["role"], "content": m["content"]} | thought


def publish(db: Path, target: Target, licence: str) -> dict[str, int]:
    """Write all formats, what LLaMA-Factory and Axolotl need of them, and a dataset card to a folder or a private Hub
    dataset; format -> number of rows."""
    with tempfile.TemporaryDirectory() as directory:
        folder, written = Path(directory), {}
        for format in FORMATS:
            written[format] = export(db, format, folder / f"{format}.jsonl")
            trainers.rewrite(format, folder / f"{format}.jsonl", folder / f"train_{format}.jsonl")
        (folder / "dataset_info.json").write_text(trainers.dataset_info(list(FORMATS)), encoding="utf-8")
        (folder / "axolotl.yaml").write_text(trainers.axolotl(), encoding="utf-8")
        (folder / "README.md").write_text(cards.of_dataset(db, written, licence), encoding="utf-8")
        for file in sorted(folder.iterdir()):
            target.put(file, file.name)
    return written


@contextmanager
def merged_directory(student: str, adapter: Path) -> Iterator[Path]:
    """The merged weights as a model directory, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as directory:
        merge(student, adapter, Path(directory))
        yield Path(directory)


def merge(student: str, adapter: Path, directory: Path) -> None:
    """Merge the adapter into the student's weights and save a bf16 model directory."""
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    model = read_weights(student, torch.float32)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().to(torch.bfloat16).save_pretrained(directory)
    AutoTokenizer.from_pretrained(student).save_pretrained(directory)
    name_rotary_base(Path(directory) / CONFIG)


def name_rotary_base(config: Path) -> None:
    """Where older readers look for it, too: transformers 5 writes it inside of rope_parameters alone, and others take
    their own default without a word (findings/mlx_lm_rope_of_new_configs.sh)."""
    told = json.loads(config.read_text(encoding="utf-8"))
    theta = (told.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and "rope_theta" not in told:
        config.write_text(json.dumps(told | {"rope_theta": theta}, indent=2) + "\n", encoding="utf-8")
