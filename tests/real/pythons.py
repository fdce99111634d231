"""What an install weighs and how long the first answer takes, in a clean clone, with each Python that is named.

    make pythons PYTHONS="python3.11 python3.12 python3.13 python3.14"

A line each: seconds to install, MB on disk of `.venv`, which torch, seconds from `make run` to the first reply (the
first time the embedded student is converted) and of the next start. One that is not on this machine is said to be
missing. Python's own library is enough to run this.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
PATIENCE = 1800  # seconds for a start
TORCH = "from importlib.metadata import version; print(version('torch'))"


def main(pythons: list[str]) -> int:
    failed = 0
    for name in pythons:
        python = shutil.which(name)
        if not python:
            print(f"{name}: not on this machine", flush=True)
            continue
        with tempfile.TemporaryDirectory() as home:
            try:
                print(f"{told(python)}: {tried(python, Path(home))}", flush=True)
            except (subprocess.CalledProcessError, OSError, ValueError) as error:
                print(f"{told(python)}: {error}", flush=True)
                failed += 1
    return failed


def told(python: str) -> str:
    return output(python, "--version")


def output(*command: str | Path, **how) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **how).stdout.strip()


def tried(python: str, home: Path) -> str:
    """What was measured with this interpreter, in a clean clone in `home`."""
    clone, data = home / "clone", home / "data"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    begun = time.monotonic()
    subprocess.run(["make", f"PYTHON={python}", "install"], cwd=clone, check=True, stdout=sys.stderr)
    seconds = time.monotonic() - begun
    size = output("du", "-sm", ".venv", cwd=clone).split()[0]
    torch = output(clone / ".venv/bin/python", "-c", TORCH)
    installed = f"installed in {seconds:.0f} s, {size} MB with torch {torch}"
    print(installed, file=sys.stderr, flush=True)
    return f"{installed}; first reply after {first_reply(clone, data):.1f} s, then {first_reply(clone, data):.1f} s"


def first_reply(clone: Path, data: Path) -> float:
    """Seconds from `make run` to a whole reply of the student."""
    begun = time.monotonic()
    with running(clone, data) as url:
        while True:
            try:
                reply(url)
                return time.monotonic() - begun
            except OSError:  # nobody listens yet
                if time.monotonic() - begun > PATIENCE:
                    raise
                time.sleep(0.1)


@contextmanager
def running(clone: Path, data: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"KDLOOP_HOME": str(data), "KDLOOP_PORT": str(port), "KDLOOP_MAX_TOKENS": "24"}
    app = subprocess.Popen(["make", "run"], cwd=clone, env=os.environ | settings, stdout=sys.stderr)
    try:
        yield f"http://127.0.0.1:{port}/gradio_api/call/chat"
    finally:
        app.terminate()
        app.wait()


def reply(url: str) -> None:
    body = json.dumps({"data": ["Hello?"]}).encode()
    with urlopen(Request(url, body, {"Content-Type": "application/json"})) as told:
        event = json.load(told)["event_id"]
    with urlopen(f"{url}/{event}") as stream:
        text = stream.read().decode()
    if "event: complete" not in text:
        raise ValueError(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
