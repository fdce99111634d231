"""The commands `import` and `export`: what was rated or trained elsewhere comes in, what was made here goes out."""

import argparse
from collections.abc import Callable
from pathlib import Path

from kdloop.feedback import exports, imports
from kdloop.settings import Settings
from storage import checkpoints, snapshots
from storage import imports as stored


def import_options(parser: argparse.ArgumentParser, path: Callable[[str], Path]) -> None:
    parser.add_argument(
        "files", nargs="*", type=path, metavar="FILE", help="JSON, JSON Lines or Parquet; see docs/data.md"
    )
    parser.add_argument("--dry-run", action="store_true", help="count, say what is left out and why, write nothing")
    train = {"action": argparse.BooleanOptionalAction, "default": True}
    parser.add_argument("--train", **train, help="may rounds train on these rows? (yes, where nothing is said)")
    parser.add_argument("--rater", default="", help="who rated, in place of the names in the file")
    parser.add_argument("--licence", default="", help="of the completions, as the Hub writes it")
    parser.add_argument("--restricted", action="store_true", help="their licence forbids to train other models on them")
    parser.add_argument("--format", default="", help="where the rows are not recognised, or as something else")
    parser.add_argument(
        "--adapter", type=path, metavar="DIR", help="a PEFT adapter as the first champion, after checks"
    )
    parser.add_argument("--list", action="store_true", help="what was imported")
    parser.add_argument("--undo", type=int, metavar="N", help="remove all rows of import N")


def export_options(parser: argparse.ArgumentParser, path: Callable[[str], Path]) -> None:
    parser.add_argument("--format", choices=exports.FORMATS, default="dpo")
    parser.add_argument("--out", type=path, required=True, help="a file; a directory for --dataset and --form")
    parser.add_argument(
        "--dataset", action="store_true", help="all formats, a card, LLaMA-Factory's and Axolotl's entries"
    )
    parser.add_argument("--form", help="a version for another tool: adapter, gguf, merged, ollama, mlx")
    parser.add_argument("--version", type=int, help="the champion where none is given")
    parser.add_argument("--imported", type=int, metavar="N", help="the rows of import N, in place of people's feedback")


def import_files(args, settings: Settings) -> int:
    if not (args.files or args.list or args.undo or args.adapter):
        raise ValueError("Name a file to import, or --adapter DIR, --list, --undo N")
    who = "the command line"
    db = settings.db
    if args.adapter:
        from kdloop.student.adopting import adopt

        print(f"{adopt(settings, args.adapter, who).name} serves: {args.adapter}, trained elsewhere")
    if args.undo:
        n, taught = stored.remove(db, args.undo, who)
        print(
            f"Removed import {args.undo}: {n} rows" + (f"; candidates {taught} have learned from it" if taught else "")
        )
    about = {"train": args.train, "rater": args.rater, "licence": args.licence, "restricted": args.restricted}
    for file, format in imports.files_of(args.files, args.format):
        how = {} if args.dry_run else {"who": who} | about
        report = (imports.dry_run if args.dry_run else imports.import_file)(db, file, format, **how)
        print(f"{file}: {report.format}")
        print("\n".join(f"  {n:>9,} {words}" for words, n in imports.table(report)))
        told = report.done and (f"Import {report.done.id}" if report.done.rows else "Nothing is new: nothing changed")
        print(told or "Dry run: nothing is written")
    for one in stored.all(db) if args.list else ():
        use = "train" if one.train else "do not train"
        print(f"{one.id}: {one.file} ({one.format}), {one.rows} rows that {use}, {one.created_at[:16]}")
    return 0


def export(args, settings: Settings) -> int:
    from kdloop.feedback import versions
    from kdloop.student.base import licence

    if args.form:
        print(versions.write(settings, version_named(settings, args.version), args.form, args.out))
    elif args.dataset:
        folder = snapshots.open_target(str(args.out))
        written = exports.publish(settings.db, folder, licence(settings.student, settings.home))
        print("\n".join(f"{n} rows in {args.out / f'{format}.jsonl'}" for format, n in written.items()))
    else:
        print(f"{exports.export(settings.db, args.format, args.out, args.imported)} rows in {args.out}")
    return 0


def version_named(settings: Settings, version: int | None) -> checkpoints.Checkpoint:
    """The champion where None. Raises ValueError."""
    if version is None:
        return checkpoints.serving(settings.db)
    versions = {k.version: k for k in checkpoints.lineage(settings.db)}
    if version not in versions:
        raise ValueError(f"There is no v{version}; there are: {', '.join(f'v{v}' for v in versions if v is not None)}")
    return versions[version]
