"""Runs code that a model wrote, in a child process that can do little: no network, no other files, few seconds.

Three layers: the kernel's resource limits; fresh user, network and IPC namespaces where the kernel grants them; and an
audit hook, which cannot be removed again, against sockets, processes, foreign code and files outside the child's own
directory. Good against what a small model writes by mistake. Against an attacker, run kdloop itself in a container.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

SECONDS = 5
MEGABYTES = 256
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.kill",
    "os.putenv",
    "ctypes.",
)
TOUCHES_FILES = (
    "open",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.listdir",
    "os.scandir",
    "os.chmod",
    "os.link",
)


@dataclass(frozen=True)
class Ran:
    """`passed` says of each test whether it held; `said` is the end of what went wrong, for a person or a teacher."""

    passed: tuple[bool, ...]
    said: str


def run(code: str, tests: list[str], seconds: int = SECONDS, megabytes: int = MEGABYTES) -> Ran:
    """Run `code`, then each of `tests` (statements, mostly asserts) on a copy of what it defined."""
    task = json.dumps({"code": code, "tests": tests, "seconds": seconds, "megabytes": megabytes})
    with tempfile.TemporaryDirectory(prefix="kdloop-code-") as directory:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            out, _ = child.communicate(task, timeout=seconds + 2)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return Ran((False,) * len(tests), f"still running after {seconds} s")
    if not out:
        return Ran(
            (False,) * len(tests), f"the process ended with code {child.returncode}, as one over its limits does"
        )
    told = json.loads(out)
    return Ran(tuple(told["passed"]), told["said"])


def isolate(seconds: int, megabytes: int) -> None:
    """Limits first, then namespaces, then the hook; each takes rights away for good."""
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, megabytes * 2**20),
        (resource.RLIMIT_FSIZE, 2**20),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "unshare"):  # Linux; where it is refused, the hook still stands
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)
    own, library = os.path.realpath("."), os.path.dirname(os.path.realpath(os.__file__))

    def hook(event: str, args: tuple) -> None:
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"{event} is not allowed here")
        if event.startswith(TOUCHES_FILES) and args and isinstance(args[0], (str, bytes)):
            path = os.path.realpath(os.path.join(own, os.fsdecode(args[0])))
            read = event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (path.startswith(own + os.sep) or path == own or (read and path.startswith(library + os.sep))):
                raise PermissionError(f"{event} of {path} is not allowed here")

    sys.addaudithook(hook)


def child() -> None:
    """The process itself: the task from standard input, the report to standard output, where the code cannot print."""
    task, report, nowhere = json.load(sys.stdin), os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    isolate(task["seconds"], task["megabytes"])
    defined: dict = {"__name__": "solution"}
    passed, said = [False] * len(task["tests"]), ""
    try:
        exec(compile(task["code"], "solution.py", "exec"), defined)
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    else:
        for i, test in enumerate(task["tests"]):
            try:
                exec(compile(test, f"test {i + 1}", "exec"), dict(defined))
                passed[i] = True
            except BaseException as error:
                said = said or f"{test}: {type(error).__name__}: {error}"
    os.write(report, json.dumps({"passed": passed, "said": said[:300]}).encode())
    os._exit(0)


if __name__ == "__main__":
    child()
