"""python -m kdloop COMMAND

serve | simulate | round | measure | calibrate | export | adapter | backup | restore | bench | doctor
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from kdloop import exports
from kdloop.settings import Settings
from storage import snapshots
from storage.database import open_database

# Of `bench`: comparisons with options of their own.
TABLES = ("methods", "divergence", "cost", "reward", "drafts", "capacity", "gpu")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["bench"] and argv[1:2] and argv[1] in TABLES:
        return import_module(f"kdloop.bench.{argv[1]}").main(argv[2:]) or 0
    parser = argparse.ArgumentParser(prog="python -m kdloop", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the chat (what app.py does)")
    sim = commands.add_parser("simulate", help="the whole loop with a function as the person")
    sim.add_argument("--rater", required=True, help="FILE.py:function, rate(prompt, completion) -> float")
    sim.add_argument("--votes", type=int, default=36, help="decided votes before each round")
    sim.add_argument("--rounds", type=int, default=1, choices=range(1, 100), metavar="N")
    sim.add_argument("--seed", type=int, default=1)
    sim.add_argument("--margin", type=float, default=0.0, help="abstain when the two scores differ by no more")
    sim.add_argument("--share", type=share, default=1.0, help="of the training prompts, on which the person votes")
    sim.add_argument("--no-ai", action="store_true", help="the preference model adds no pairs to the person's votes")
    sim.add_argument("--home", type=Path, required=True, help="an empty directory, or one to go on with")
    sim.add_argument("--json", help="write the report to this file")
    one = commands.add_parser("round", help="run one round on the feedback that is there")
    one.add_argument("--method", default="auto")
    one.add_argument("--recipe", help=f"what it elicits and trains: {', '.join(recipe_names())}, or a TOML file")
    one.add_argument("--times", type=int, default=1, help="so many rounds, one after the other")
    many = commands.add_parser("measure", help="accuracy of the champion and of the base on a pack's held-out prompts")
    many.add_argument("--pack", required=True)
    many.add_argument("--n", type=int, default=500)
    many.add_argument("--samples", type=int, default=0, help="so many a prompt too: best of k by the checks, majority")
    many.add_argument("--json", type=Path, help="write every completion and the outcome to this file")
    trust = commands.add_parser("calibrate", help="compare the judge, the first teacher, with people's votes")
    trust.add_argument("--pack", default="general", help="whose rubric it judges by")
    out = commands.add_parser("export", help="write people's feedback as JSONL for TRL")
    out.add_argument("--format", choices=exports.FORMATS, default="dpo")
    out.add_argument("--out", type=Path, required=True)
    lora = commands.add_parser("adapter", help="write a version as the GGUF that a llama-server is started with")
    lora.add_argument("--version", type=int, help="the champion where none is given")
    lora.add_argument("--out", type=Path, required=True, help="a directory")
    for name, text in (("backup", "write a snapshot"), ("restore", "fill an empty home from the latest snapshot")):
        commands.add_parser(name, help=text).add_argument("target", help="a folder, or hf://datasets/OWNER/NAME")
    measure = commands.add_parser("bench", help="measure against baselines in the same run")
    measure.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help=f"which; all of them where none is named. Tables: {', '.join(TABLES)}, each with its own --help",
    )
    measure.add_argument("--json", help="write the figures to this file")
    commands.add_parser("doctor", help="say what this installation would use")
    args = parser.parse_args(argv)
    try:
        return COMMANDS[args.command](args)
    except ValueError as error:
        parser.error(str(error))


def share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def recipe_names() -> list[str]:
    from kdloop.recipes import RECIPES

    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def serve(args) -> int:
    import app

    return app.main()


def simulate(args) -> int:
    from kdloop import simulate as simulation

    settings = Settings.from_environment(home=args.home)
    rate = simulation.load_rater(args.rater)
    how = {"margin": args.margin, "out": args.json, "share": args.share, "ai": not args.no_ai}
    report = simulation.simulate(settings, rate, args.votes, args.rounds, args.seed, **how)
    print(simulation.table(report))
    return 0


def run_round(args) -> int:
    from kdloop import recipes
    from kdloop.methods import known
    from kdloop.supervisor import Supervisor
    from storage import checkpoints

    settings = Settings.from_environment()
    recipe = args.recipe and recipes.load(args.recipe).as_dict()
    known(args.method), known(recipe["method"] if recipe else "auto")
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Supervisor(settings)
    for _ in range(args.times):
        supervisor.start(args.method, recipe=recipe)
        ended = supervisor.wait()
        print(f"Round {ended.id} {ended.status}: {(ended.verdict or {}).get('reason') or ended.error}", flush=True)
    return 0 if ended.status in ("promoted", "rejected") else 1


def measure(args) -> int:
    from kdloop import measure as measuring

    report = measuring.against_base(Settings.from_environment(), args.pack, args.n, args.samples)
    print(measuring.table(report))
    if args.json:
        measuring.write(report, args.json)
    return 0


def calibrate(args) -> int:
    from kdloop import packs, pairs
    from kdloop.raters import judge, teacher

    settings = Settings.from_environment()
    db = open_database(settings.db)
    teachers = teacher.load(settings.teachers, db)
    if teachers is None:
        raise ValueError("There is no teacher to calibrate: KDLOOP_TEACHERS names a file of them")
    split = pairs.from_feedback(db)
    judging = judge.Judge(teachers, teachers.all[0], packs.load(args.pack).rubric)
    report = judge.calibrate(judging, split.train + split.held_out, db)
    print(judge.refusal(db, judging) or f"{judging.name} may be trained on")
    print(f"{report.right} of {report.decided} decided as people did, {report.flips} flips with the order,")
    print(f"{report.unreadable} unreadable of {report.n}; bias to the longer completion {report.longer:+.2f}")
    return 0 if not report.refusal else 1


def export(args) -> int:
    n = exports.export(open_database(Settings.from_environment().db), args.format, args.out)
    print(f"{n} rows in {args.out}")
    return 0


def adapter(args) -> int:
    from kdloop.student.base import find_student
    from kdloop.student.gguf import write_adapter
    from kdloop.student.servers import Adapter
    from storage import checkpoints

    settings = Settings.from_environment()
    versions = {k.version: k for k in checkpoints.lineage(settings.db)}
    version = checkpoints.serving(settings.db).version if args.version is None else args.version
    directory = checkpoints.adapter_dir(settings.db, versions[version]) if version in versions else None
    if directory is None:
        raise ValueError(f"v{version} has no adapter; there are: {', '.join(f'v{v}' for v in versions if v)}")
    args.out.mkdir(parents=True, exist_ok=True)
    student = Path(find_student(settings.student, settings.home))
    print(write_adapter(directory, student, args.out / f"{Adapter.of(directory).name}.gguf"))
    return 0


def backup(args) -> int:
    try:
        print(f"Wrote {snapshots.take(Settings.from_environment().db, snapshots.open_target(args.target))}")
    except snapshots.Unreachable as error:
        raise ValueError(str(error)) from error
    return 0


def restore(args) -> int:
    try:
        name = snapshots.restore(Settings.from_environment().db, snapshots.open_target(args.target))
    except (FileExistsError, snapshots.Unreachable) as error:
        raise ValueError(str(error)) from error
    print(f"Restored {name}" if name else f"No snapshot in {args.target}")
    return 0 if name else 1


def bench(args) -> int:
    from kdloop import bench as benchmark

    benchmark.run(args.figures, args.json)
    return 0


def doctor(args) -> int:
    from kdloop.student.base import find_student
    from kdloop.student.engines import chosen
    from kdloop.student.transformers import device_and_dtype

    settings = Settings.from_environment()
    print(f"home     {settings.home}")
    print(f"student  {find_student(settings.student, settings.home)}")
    print(f"engine   {chosen(settings)}")
    print("device   {}, {}".format(*device_and_dtype()))
    return 0


NAMED = (serve, simulate, measure, calibrate, export, adapter, backup, restore, bench, doctor)
COMMANDS = {f.__name__: f for f in NAMED} | {"round": run_round}

if __name__ == "__main__":
    sys.exit(main())
