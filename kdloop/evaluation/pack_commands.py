"""The command `pack`: make, check, list, measure, install and remove packs of prompts."""

import argparse
import json
from functools import partial
from inspect import getdoc
from pathlib import Path

from kdloop import packs


def options(parser: argparse.ArgumentParser, flags: argparse.ArgumentParser) -> None:
    """`flags` is the parent of each: the flags of all settings."""
    parsers = parser.add_subparsers(dest="deed", required=True)
    add = partial(parsers.add_parser, parents=[flags], allow_abbrev=False)
    new = add("new", help="make a pack in the home")
    new.add_argument("name")
    new.add_argument(
        "--from", dest="source", default="", help="tasks (.jsonl, .json, .csv), a folder, OWNER/NAME; else a template"
    )
    new.add_argument("--licence", default="", help="of the data, as the Hub and SPDX write it")
    new.add_argument("--check", default="", help="the check of all answers; without it, chosen by them")
    add("list", help="all packs, with their prompts")
    add("checks", help="all checks that a pack may name, with their options")
    check = add("check", help="leaks, duplicates, what is missing, checks that need no skill")
    check.add_argument("name")
    check.add_argument("--quick", action="store_true", help="without near prompts by sentence embeddings")
    measure = add("measure", help="the version that serves, and the base, on held-out prompts")
    measure.add_argument("name")
    measure.add_argument("--n", type=int, default=500, help="held-out prompts, at most")
    measure.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="as lm-eval's results; with a file, every completion, too"
    )
    install = add("install", help="a pack from outside into the home")
    install.add_argument("source", help="a folder, a wheel or ZIP archive, or OWNER/NAME on the Hub")
    install.add_argument("--name", default="", help="in place of its own")
    remove = add("remove", help="an installed pack; one that it had replaced comes back")
    remove.add_argument("name")


def run(args, settings) -> int:
    return DOES[args.deed](args, settings)


def new(args, settings) -> int:
    from kdloop.evaluation import pack_new

    counts = pack_new.new(args.name, args.source, args.licence, args.check)
    print(f"Made {packs.place(args.name).folder}: " + ", ".join(f"{part} {n}" for part, n in counts.items()))
    print(f"Now: fill in its pack.toml, then  python -m kdloop pack check {args.name}")
    return 0


def listed(args, settings) -> int:
    from kdloop.evaluation import pack_list

    for one in pack_list.every():
        sizes = ", ".join(f"{part} {n}" for part, n in one.sizes.items())
        said = one.error or f"{sizes}; licence {one.pack.licence or 'not said'}. {one.pack.about}"
        print(f"{one.pack.name} ({'kdloop' if one.ours else 'home'}): {said}")
    return 0


def checks(args, settings) -> int:
    from kdloop.raters import verifiers

    for name, function in verifiers.CHECKS.items():
        known = ", ".join(verifiers.options_of(name))
        about = (getdoc(function) or "").split(". ")[0].replace("\n", " ").rstrip(".")
        print(f"{name}({known})" + (f": {about}" if about else ""))
    return 0


def check(args, settings) -> int:
    from kdloop.evaluation import pack_check
    from kdloop.raters.features import embed

    report = pack_check.check(args.name, None if args.quick else embed)
    print(pack_check.table(report))
    return 0 if report.sound else 1


def measure(args, settings) -> int:
    from kdloop.evaluation import measure as measuring
    from kdloop.evaluation import results_file

    report = measuring.against_base(settings(), args.name, args.n)
    print(json.dumps(results_file.results(report), indent=1) if args.json == "-" else measuring.table(report))
    if args.json and args.json != "-":
        results_file.write(report, Path(args.json).expanduser())
    return 0


def install(args, settings) -> int:
    from kdloop.evaluation import pack_install

    place = pack_install.install(args.source, args.name)
    print(f"Installed {place.name} in {place.folder}. Now:  python -m kdloop pack check {place.name}")
    return 0


def remove(args, settings) -> int:
    from kdloop.evaluation import pack_remove

    back = pack_remove.remove(args.name)
    print(f"Removed {args.name}" + ("; the pack that it had replaced is back" if back else ""))
    return 0


DOES = {
    "new": new,
    "list": listed,
    "checks": checks,
    "check": check,
    "measure": measure,
    "install": install,
    "remove": remove,
}
