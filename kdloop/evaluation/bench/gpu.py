"""On a GPU: kdloop beside transformers and TRL alone, and a whole round. At most eight minutes; one JSON.

    python -m kdloop bench gpu --json gpu.json [SECTION ...]

Each section (gpu_sections.py) runs in a process of its own: one that fails, hangs or runs out of memory does not affect
the others, and its error is in the JSON. Numbers are medians of three turns after one that does not count.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

import torch

from kdloop.evaluation.bench.gpu_sections import SECTIONS, START, log, student

NO_GPU = "No GPU: PyTorch {} sees none here. `make gpu` measures one; on a CPU there is `make bench`."
SECONDS = 460  # for all sections: with the start, within eight minutes
TURNS = 3


def section(name: str, seconds: float, turns: int) -> dict:
    """Run a section in a process of its own: its result, or what went wrong."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out.json"
        command = [sys.executable, "-m", "kdloop", "bench", "gpu", name, "--inside", str(out), "--turns", str(turns)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {seconds:.0f} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        return json.loads(out.read_text()) if out.exists() else {"failed": "its process ended without a result"}


def inside(name: str, out: Path, turns: int) -> None:
    """The child's side of `section`."""
    try:
        found = SECTIONS[name][0](turns)
    except Exception as error:  # a section that fails is a result
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-6000:]}
    out.write_text(json.dumps(found))


def card() -> dict:
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": time.strftime("%Y-%m-%d"),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench gpu", description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which: {', '.join(SECTIONS)}; else all")
    parser.add_argument("--json", type=Path, help="write the result to this file, after each section")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all sections")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each measurement")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; there are: {', '.join(SECTIONS)}")
    if not torch.cuda.is_available():
        print(NO_GPU.format(torch.__version__))
        return 2
    if args.inside:
        inside(args.sections[0], args.inside, args.turns)
        return 0
    found = card() | {"sections": {}}
    log(found, student())
    for name in args.sections or SECTIONS:
        left = args.seconds - (time.monotonic() - START)
        log(name, f"({left:.0f} s left)")
        result = {"failed": "no time was left for it"}
        if left > 20:
            result = section(name, min(left, SECTIONS[name][1]), args.turns)
        found["sections"][name] = result
        log(name, json.dumps({k: v for k, v in result.items() if k not in ("log", "turns")})[:1500])
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))
    return 0 if not any("failed" in r for r in found["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
