"""The app in a process of its own, to be killed: its start, its trainer, its end."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from kdloop.settings import of_child

START_SECONDS, END_SECONDS = 900, 120


def free_port() -> int:
    """Of this computer, at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class AppProcess:
    """`python -m kdloop serve` on a home, with these variables; what it prints goes to `log`."""

    def __init__(self, home: Path, **variables: str):
        self.home, self.log = home, home.with_name(f"{home.name}.log")
        self.variables = {"KDLOOP_HOME": str(home), "GRADIO_ANALYTICS_ENABLED": "False"} | variables
        self.process: subprocess.Popen | None = None
        self.url, self.printed = "", 0  # bytes of the log, of earlier starts

    def spawn(self, **how) -> subprocess.Popen:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.printed = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kdloop", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=of_child() | self.variables | {"KDLOOP_PORT": str(port)},
                **how,
            )
        return self.process

    def start(self, **how) -> None:
        """Returns once it answers. Raises RuntimeError with what it has printed where it ends instead."""
        self.spawn(**how)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return
            time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"The app did not start:\n{self.said()}")

    def said(self) -> str:
        """What it has printed since its last start."""
        return self.log.read_bytes()[self.printed :].decode(errors="replace")

    def trainer(self) -> psutil.Process | None:
        """The process of the round that runs."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                if "kdloop.rounds.trainer" in child.cmdline():
                    return child
        return None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(END_SECONDS)


def kill_group(trainer: psutil.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)


def is_gone(process: psutil.Process, seconds: float) -> bool:
    """Within so many seconds; a process that has ended and that nobody has asked about yet is gone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.1)
                continue
        return True
    return False
