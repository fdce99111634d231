"""Model and dataset cards in the Hub's format: the training sources with their authors and licences, and the verdict. A
download can be pushed to the Hub as it is."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import DatasetCardData, ModelCardData

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.student.base import HUB_STUDENT
from storage import ancestry, checkpoints, rounds
from storage.ancestry import Source
from storage.checkpoints import Checkpoint
from storage.conversations import Completion


def of_version(db: Path, k: Checkpoint, student: str, licence: str, origin: str = "") -> str:
    """The model card of a checkpoint: `student` is the base student's name on the Hub ("" for the embedded one),
    `licence` its licence, `origin` a sentence about its files."""
    sources, student = ancestry.sources(db, k), student or HUB_STUDENT
    effective_licence = licence if licence and not any(s.restricted for s in sources) else "other"
    data = ModelCardData(
        base_model=student if "/" in student else None,  # the Hub resolves this name: no local path
        license=effective_licence,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["kdloop", *filter(None, [k.method])],
    )
    return CARD.format(
        data=data.to_yaml(),
        name=k.name,
        student=student,
        origin=f" {origin}" if origin else "",
        licence=licence or "not stated by its card",
        parents=" → ".join(p.name for p in ancestry.ancestors(db, k)),
        sources=ADOPTED if not sources and k.path else table(sources),
        terms="\n\n".join([terms(sources), *of_packs(db, [k])]),
        verdict=verdict(db, k),
    )


ADOPTED = "Not known: the adapter was trained elsewhere."


def table(sources: list[Source]) -> str:
    if not sources:
        return "Nothing yet: this is the base student as it came."
    rows = [f"| {s.writer} | {s.licence or '–'} | {s.judged_by} | {s.completions} |" for s in sources]
    return "\n".join(["| written by | licence | judged by | completions |", "|---|---|---|---|", *rows])


def terms(sources: list[Source]) -> str:
    restricted = sorted({s.writer for s in sources if s.restricted})
    if not restricted:
        return "No author's terms forbid to train other models on these completions."
    return (
        f"**The terms of {', '.join(restricted)}, or of who wrote their prompts, forbid to train other models on these "
        "completions.** The owner has confirmed the right to do so; whoever uses this model needs it too."
    )


def verdict(db: Path, k: Checkpoint) -> str:
    if not k.round_id and k.path:
        return "Not judged here: it was trained elsewhere, and imported as the first champion."
    if not k.round_id:
        return "Not judged: every version is compared with this one."
    result = rounds.get_round(db, k.round_id).verdict
    if not result:
        return "Not judged."
    guards = "\n".join(f"| {name} | {g['value']:.3g} | {g['limit']} |" for name, g in result["guards"].items())
    judged = f"{result['reason']}\n\nJudged by: {result.get('judged_by', '')}; n = {result['n']}."
    return f"{judged}\n\n| guard | value | limit |\n|---|---|---|\n{guards}" if guards else judged


CARD = """---
{data}
---

# {name} of a kdloop student

A LoRA adapter (or the merged weights) of {student}, whose licence is: {licence}.{origin} Trained by
[kdloop](https://arxiv.org/abs/2402.13116)'s loop on what people, teachers and AI raters said about its completions.

Line: {parents}

## What it learned from

{sources}

{terms}

## How it was judged

{verdict}
"""


def of_dataset(db: Path, written: dict[str, int], licence: str) -> str:
    """The dataset card: configurations for `load_dataset`, and authors. `written` is format -> number of rows."""
    split = from_feedback(db, newest=None)  # as the export
    free = [e for e in [*split.train, *split.held_out] if not any(k.restricted for k in e.completions)]
    authors = Counter((writer(k), k.licence) for e in free for k in e.completions)
    ids = {k.checkpoint_id for e in free for k in e.completions}
    wrote = [k for k in checkpoints.lineage(db) if k.id in ids]
    by_author = [f"| {who} | {under or '–'} | {n} |" for (who, under), n in sorted(authors.items())]
    data = DatasetCardData(
        tags=["kdloop", "preference", "dpo", "kto", "sft"],
        configs=[{"config_name": name, "data_files": f"{name}.jsonl"} for name in written],
    )
    return DATASET.format(
        data=data.to_yaml(),
        counts="\n".join(f"| `{name}` | {n} |" for name, n in written.items()),
        authors="\n".join(by_author) or "| nobody yet | – | 0 |",
        left=len(split.train) + len(split.held_out) - len(free),
        licence=licence or "not stated",
        disclaimers="".join(f"\n{line}\n" for line in of_packs(db, wrote)),
    )


def of_packs(db: Path, versions: Iterable[Checkpoint]) -> list[str]:
    """What belongs beside these versions' answers, a paragraph a pack."""
    return [f"**Of the pack {name}:** {said}" for name, said in packs.disclaimers(db, *versions).items()]


def writer(k: Completion) -> str:
    """The author's name as in ancestry.sources: never a person's id."""
    return "people" if k.author == "human" else k.name or k.author


DATASET = """---
{data}
---

# Feedback collected by kdloop

People chatted with a small student model and said which completion was better. Each row is in TRL's conversational
format; `split` says what was held out from training. No person's id is in it, but people may have written about
themselves: read it before you make it public.

| configuration | rows |
|---|---|
{counts}

| written by | licence | completions |
|---|---|---|
{authors}

The student's own completions are under its licence ({licence}), people's texts under whatever they agreed to when they
wrote them. Left out, because an author's terms forbid to train other models on them: {left} examples.
{disclaimers}
For other trainers `dataset_info.json` (LLaMA-Factory, with this folder as its `dataset_dir`) and `axolotl.yaml` name
`train_*.jsonl`: the same rows without those that were held out.
"""
