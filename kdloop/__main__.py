"""python -m kdloop COMMAND

serve | simulate | round | retrain | measure | pack | calibrate | import | export | adapter | backup | restore |
bench | doctor | key | open_webui
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from kdloop.evaluation import pack_commands
from kdloop.feedback import data
from kdloop.settings import SETTABLE, Settings, environment, flag, flags_are
from kdloop.student.base import NoStudent
from storage import checkpoints, keys, snapshots
from storage.database import DatabaseError, NewerDatabase, open_database
from storage.home import occupy
from storage.imports import UnknownImport
from storage.rounds import Round, RoundRunning

TABLES = ("api", "methods", "divergence", "cost", "reward", "drafts", "capacity",
          "gate_null", "gate", "trial", "kills", "gpu", "votes_to_better", "camps")  # fmt: skip
ENDS = ("promoted", "on trial", "rejected")  # of a round that did not break off
DATA_ERRORS = (snapshots.DamagedSnapshot, snapshots.ForgottenErasure, checkpoints.BrokenCheckpoint, NewerDatabase)
REFUSED = (ValueError, OSError, DatabaseError, NoStudent, RoundRunning, UnknownImport, *DATA_ERRORS)  # say what to do


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser, table = commands(), argv[1] if argv[:1] == ["bench"] and argv[1:2] else ""
    try:
        if table in TABLES:  # with options of their own; their --max-tokens is of the completions that they sample
            given, argv = flags("max_tokens").parse_known_args(argv[2:])
            with flags_are(vars(given)):
                return import_module(f"kdloop.evaluation.bench.{table}").main(argv) or 0
        args = parser.parse_args(argv)
        with flags_are({name: text for name, text in vars(args).items() if name in SETTABLE}):
            return COMMANDS[args.command](args)
    except REFUSED as error:
        parser.error(str(error))


def flags(*without: str) -> argparse.ArgumentParser:
    """A flag for each setting, as the parent of each command's parser. One that is not given is no attribute."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in SETTABLE:
        if name not in without:
            parser.add_argument(flag(name), dest=name, help=argparse.SUPPRESS)
    return parser


def commands() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdloop", description=__doc__, allow_abbrev=False)
    known = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        every = f"Every setting is a flag, too, and wins over its variable: {', '.join(map(flag, SETTABLE))}."
        return known.add_parser(name, help=text, epilog=every, parents=[flags()], allow_abbrev=False)

    command("serve", "serve the chat (what app.py does)")
    simulate_options(command("simulate", "the whole loop with a function as the person, in a home of its own"))
    one = command("round", "run one round on the feedback that is there")
    named = ", ".join(recipe_names())
    one.add_argument("--recipe", help=f"what it elicits and trains: {named}; one of these @PACK; or a TOML file")
    times = {"choices": range(1, 100), "metavar": "N", "help": "how many rounds, one after the other"}
    one.add_argument("--times", type=int, default=1, **times)
    again = command("retrain", "after an erasure: repeat the champion's rounds without what was erased")
    again.add_argument(
        "--anyway", action="store_true", help="also where no erasure is on record, as of an older kdloop"
    )
    measure_options(command("measure", "accuracy of the champion and of the base on a pack's held-out prompts"))
    pack_commands.options(command("pack", "make, check, measure, install and remove packs of prompts"), flags())
    trust = command("calibrate", "compare the judge, the first teacher, with people's votes")
    trust.add_argument("--pack", default="general", help="whose rubric it judges by")
    data.import_options(command("import", "bring what was rated elsewhere, or an adapter as the first champion"), path)
    data.export_options(
        command("export", "write people's feedback as JSONL for TRL, as a data set; or a version"), path
    )
    lora = command("adapter", "write a version as the GGUF that a llama-server is started with")
    lora.add_argument("--version", type=int, help="the champion where none is given")
    lora.add_argument("--out", type=path, required=True, help="a directory")
    for name, text in (("backup", "write a snapshot"), ("restore", "fill an empty home from the latest snapshot")):
        command(name, text).add_argument("target", help="a folder, or hf://datasets/OWNER/NAME")
    table = f"which; all of them where none is named. Tables: {', '.join(TABLES)}, each with its own --help"
    figures = command("bench", "measure against baselines in the same run")
    figures.add_argument("figures", nargs="*", metavar="FIGURE", help=table)
    figures.add_argument("--json", type=path, help="write the figures to this file")
    key_options(command("key", "make, list or revoke keys of the API"))
    ratings = command("open_webui", "take the ratings that people gave in an Open WebUI which asks here (docs/api.md)")
    ratings.add_argument("url", help="http://HOST:PORT of the Open WebUI")
    ratings.add_argument("--key-file", type=path, required=True, help="holds an API key of one of its admins")
    command("doctor", "say what this installation would use, and what a student (--student NAME_OR_DIR) can do here")
    return parser


def key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deed", choices=("new", "list", "revoke"))
    parser.add_argument("name", nargs="?", default="", help="whom or what the key is for")
    parser.add_argument("--a-minute", type=int, default=keys.A_MINUTE, help="requests of each kind, at most")
    parser.add_argument("--owner", action="store_true", help="it may read /metrics, too")


def simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rater", required=True, help="FILE.py:function, rate(prompt, completion) -> float")
    parser.add_argument("--votes", type=int, default=36, help="decided votes before each round")
    parser.add_argument("--rounds", type=int, default=1, choices=range(1, 100), metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--margin", type=float, default=0.0, help="abstain when the two scores differ by no more")
    parser.add_argument("--flips", type=part, default=0.0, help="share of the votes that say the opposite")
    kinds = ("choices", "thumbs", "mixed")
    parser.add_argument("--feedback", choices=kinds, default="choices", help="mixed: as in a chat")
    parser.add_argument("--share", type=share, default=1.0, help="of the training prompts, on which the person votes")
    parser.add_argument("--no-ai", action="store_true", help="the preference model adds no pairs to the person's votes")
    parser.add_argument("--json", type=path, help="write the report to this file")


def measure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pack", required=True)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--samples", type=int, default=0, help="also N per prompt: best of k by the checks, majority")
    parser.add_argument("--json", type=path, help="every completion and the outcome, as lm-eval's results")


def path(text: str) -> Path:
    """With ~ expanded: a shell leaves that of --out=~/file as it is."""
    if not text:
        raise ValueError
    return Path(text).expanduser()


def open_home() -> Settings:
    """The settings; their home has a database from now on."""
    settings = Settings.from_environment()
    checkpoints.ensure_base(open_database(settings.db))
    return settings


def share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def part(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


def recipe_names() -> list[str]:
    """By the files alone: to import the recipes is to load PyTorch, and every command names them in its help."""
    return sorted(path.stem for path in (Path(__file__).parent / "recipes").glob("*.toml"))


def serve(args) -> int:
    import app

    return app.main()


def simulate(args) -> int:
    from kdloop.evaluation import simulate as simulation
    from kdloop.evaluation.voting import Voter

    settings = Settings.from_environment()
    if "home" not in settings.flags and "KDLOOP_HOME" not in environment():
        raise ValueError("simulate adds votes of its own: give --home, an empty directory, or one to continue")
    voter = Voter(simulation.load_rater(args.rater), args.margin, args.flips, args.feedback, args.seed)
    options = {"out": args.json, "share": args.share, "ai": not args.no_ai}
    report = simulation.simulate(settings, voter, args.votes, args.rounds, **options)
    print(simulation.table(report))
    return 0


def run_round(args) -> int:
    from kdloop import recipes
    from kdloop.methods import current_name
    from kdloop.rounds.supervisor import Supervisor

    settings = Settings.from_environment()
    recipe = args.recipe and recipes.load(args.recipe).as_dict()
    method = "auto" if recipe and "method" not in settings.flags else settings.method  # a recipe names its own
    current_name(method), current_name(recipe["method"] if recipe else "auto")
    supervisor, statuses = Supervisor(open_home()), []
    for _ in range(args.times):
        supervisor.start(method, recipe=recipe)
        statuses.append(told_end(supervisor.wait()).status)
    return 0 if statuses[-1] in ENDS else 1


def told_end(ended: Round) -> Round:
    print(f"Round {ended.id} {ended.status}: {(ended.verdict or {}).get('reason') or ended.error}", flush=True)
    return ended


def retrain(args) -> int:
    from kdloop.rounds import replays
    from kdloop.rounds.supervisor import Supervisor

    supervisor, code = Supervisor(open_home()), 0
    if not (step := replays.first_step(supervisor.settings.db, args.anyway)):
        print(replays.NOTHING)
    while step:
        supervisor.repeat(step)
        ended = told_end(supervisor.wait())
        code = 0 if ended.candidate_id and ended.status in ENDS else 1
        step = replays.next_step(supervisor.settings.db)
    return code


def measure(args) -> int:
    from kdloop.evaluation import measure as measuring
    from kdloop.evaluation import results_file

    report = measuring.against_base(open_home(), args.pack, args.n, args.samples)
    print(measuring.table(report))
    if args.json:
        results_file.write(report, args.json)
    return 0


def pack(args) -> int:
    return pack_commands.run(args, open_home)


def calibrate(args) -> int:
    from kdloop import packs
    from kdloop.feedback.examples import from_feedback
    from kdloop.raters import judge, teacher

    settings = open_home()
    db = settings.db
    teachers = teacher.load(settings.teachers, db)
    if teachers is None:
        raise ValueError("There is no teacher to calibrate: KDLOOP_TEACHERS names a file of them")
    split = from_feedback(db)
    first = judge.Judge(teachers, teachers.all[0], packs.load(args.pack).rubric)
    report = judge.calibrate(first, split.train + split.held_out, db)
    print(judge.refusal(db, first) or f"{first.name} may be trained on")
    print(f"{report.right} of {report.decided} decided as people did, {report.flips} flips with the order,")
    print(f"{report.unreadable} unreadable of {report.n}; bias to the longer completion {report.longer:+.2f}")
    print(f"Asked again about {report.asked_again} pairs, it decided {report.changed} otherwise")
    return 0 if not report.refusal else 1


def import_files(args) -> int:
    return data.import_files(args, open_home())


def export(args) -> int:
    return data.export(args, open_home())


def adapter(args) -> int:
    from kdloop.student.base import find_student
    from kdloop.student.gguf import write_adapter
    from kdloop.student.identity import identity
    from kdloop.student.servers import Adapter

    settings = open_home()
    student = Path(find_student(settings.student, settings.home))
    versions = {k.version: k for k in checkpoints.lineage(settings.db)}
    version = checkpoints.serving(settings.db).version if args.version is None else args.version
    directory = None
    if version in versions:
        directory = checkpoints.adapter_dir(settings.db, versions[version], identity(student))
    if directory is None:
        raise ValueError(f"v{version} has no adapter; there are: {', '.join(f'v{v}' for v in versions if v)}")
    args.out.mkdir(parents=True, exist_ok=True)
    print(write_adapter(directory, student, args.out / f"{Adapter.of(directory).name}.gguf"))
    return 0


def backup(args) -> int:
    print(f"Wrote {snapshots.take(Settings.from_environment().db, snapshots.open_target(args.target))}")
    return 0


def restore(args) -> int:
    settings = Settings.from_environment()
    occupy(settings.home)
    name = snapshots.restore(settings.db, snapshots.open_target(args.target))
    print(f"Restored {name}" if name else f"No snapshot in {args.target}")
    return 0 if name else 1


def bench(args) -> int:
    from kdloop.evaluation import bench as benchmark

    benchmark.run(args.figures, args.json)
    return 0


def key(args) -> int:
    """A new key is printed here, and never again."""
    db = open_home().db
    if args.deed == "new":
        print(keys.new_key(db, args.name, args.a_minute, args.owner))
    elif args.deed == "revoke":
        keys.revoke(db, args.name)
        print(f"Revoked {args.name}")
    else:
        for k in keys.all_keys(db):
            state = f"revoked {k.revoked_at}" if k.revoked_at else f"last used {k.used_at or 'never'}"
            print(f"{k.name}: {k.a_minute} a minute{', metrics' * k.owner}; made {k.created_at}; {state}")
    return 0


def open_webui(args) -> int:
    from kdloop.api import open_webui as ratings

    for outcome, n in sorted(ratings.run(open_home(), args.url, args.key_file).items()):
        print(f"{outcome}: {n}")
    return 0


def doctor(args) -> int:
    from kdloop.methods.lora import RANK
    from kdloop.student import audit, report
    from kdloop.student.base import HUB_STUDENT, embedded_gguf, find_student
    from kdloop.student.engines import chosen
    from kdloop.student.transformers import device_and_dtype

    settings = Settings.from_environment()
    known, engine = settings.student or HUB_STUDENT, chosen(settings)
    source = find_student("", settings.home) if embedded_gguf(settings.student) else known
    found = report.audit(audit.read(source), settings, engine, RANK)
    print(f"home     {settings.home}")
    print(f"student  {source}")
    print(f"engine   {engine}")
    print("device   {}, {}".format(*device_and_dtype()))
    print(f"\n{found}")
    return 1 if found.refusals else 0


FUNCTIONS = (
    serve,
    simulate,
    retrain,
    measure,
    pack,
    calibrate,
    export,
    adapter,
    backup,
    restore,
    bench,
    doctor,
    key,
    open_webui,
)
COMMANDS = {f.__name__: f for f in FUNCTIONS} | {"round": run_round, "import": import_files}

if __name__ == "__main__":
    sys.exit(main())
