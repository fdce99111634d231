"""Runs code that a model wrote in a restricted child process: no network, no other files, a few seconds.

Layers: the kernel's resource limits; Landlock (files, programs, TCP) and new namespaces (network, IPC) where the kernel
grants them, as `Result.layers` says; and an audit hook, which cannot be removed, against sockets, processes, native
code, files outside of the child's directory, and inspection of the harness. The report must begin with a nonce that the
code never sees. This holds against a small model's mistakes. Against an attacker, run kdloop itself in a container; and
no test can tell a right result from an object that claims to equal it.

By hand, not by bwrap or nsjail: neither is a Python package or present on a Space or a Mac, and in most containers they
may not create their namespaces; then nothing would run, where here the audit hook and the limits remain.
"""

import ctypes
import importlib
import json
import os
import resource
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

SECONDS = 5  # of CPU: a run takes 0.06 (docs/log.md), an endless loop may not hold up a round
MEGABYTES = 256  # of address space
LAYERS = ("namespaces", "landlock")
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
NO_NEW_PRIVILEGES = 38  # of prctl
RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's system calls, the same on every architecture
READ, WRITE = 0b1100, 0b110000110110010  # of Landlock: read files and directories; create, move, truncate, remove them
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/local/lib", "/etc/ld.so.cache")  # what the dynamic linker reads
FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.kill",
    "os.putenv",
    "os.chdir",  # from elsewhere, a relative path would be another file than the hook sees
    "os.symlink",
    "ctypes.",
    "gc.",
    "sys._current",  # frames, exceptions
    "sys.settrace",
    "sys.setprofile",
)
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")
NODES = ("mknod", "mkfifo", "chroot")
UNAUDITED = {"os": NODES, "posix": NODES, "_posixsubprocess": ("fork_exec",)}  # forbidden, but raise no audit event
NATIVE = (*UNAUDITED, "_ctypes", "_testcapi")  # may not be imported again
TOUCHES_FILES = {  # event -> (how many paths it begins with, how many directories' descriptors it ends with)
    "open": (1, 0),
    "os.remove": (1, 1),
    "os.rename": (2, 2),
    "os.link": (2, 2),
    "os.rmdir": (1, 1),
    "os.mkdir": (1, 1),
    "os.listdir": (1, 0),
    "os.scandir": (1, 0),
    "os.chmod": (1, 1),
    "os.chown": (1, 1),
    "os.utime": (1, 1),
    "os.truncate": (1, 0),
    "os.setxattr": (1, 0),
    "os.removexattr": (1, 0),
    "os.getxattr": (1, 0),
    "os.listxattr": (1, 0),
}


WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class NoFrame(PermissionError, ValueError):
    "What namedtuple and its like expect if there is no frame"


@dataclass(frozen=True)
class Result:
    """`passed` has one entry per test; `error` is the first error's message, for a person or a teacher; `layers` are
    those that the kernel granted: landlock, namespaces."""

    passed: tuple[bool, ...]
    error: str
    layers: tuple[str, ...] = ()


def run(code: str, tests: list[str], seconds: int = SECONDS, megabytes: int = MEGABYTES) -> Result:
    """Run `code`, then each of `tests` (statements, mostly asserts) on a copy of its globals. Raises nothing that the
    code raises."""
    import subprocess  # not at the top: the child must not have it loaded

    nonce, failed = secrets.token_hex(16), (False,) * len(tests)
    task = json.dumps({"code": code, "tests": tests, "seconds": seconds, "megabytes": megabytes, "nonce": nonce})
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
            return Result(failed, f"still running after {seconds} s")
    if not out.startswith(nonce):
        ended = f"the process ended with code {child.returncode} and without a report, as one over its limits does"
        return Result(failed, ended)
    _, layers, passed, error = out.split("\n", 3)
    warn(layers)
    return Result(tuple(p == "1" for p in passed), error, tuple(layers.split()))


@lru_cache
def warn(layers: str) -> None:
    """Once, if a layer that the module's docstring names is missing."""
    if missing := [name for name in LAYERS if name not in layers.split()]:
        print(f"kdloop: code of models runs without {', '.join(missing)}: the kernel refuses", file=sys.stderr)


def isolate(seconds: int, megabytes: int) -> list[str]:
    """Limits first, then the kernel's layers, then the hook: none can be undone. Returns the layers granted."""
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, megabytes * 2**20),
        (resource.RLIMIT_FSIZE, 2**20),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    own, library = os.path.realpath("."), os.path.dirname(os.path.realpath(os.__file__))
    libc = ctypes.CDLL(None)
    results = unshare(libc), landlock(libc, own, library)
    granted = [name for name, success in zip(LAYERS, results, strict=True) if success]
    for module, names in UNAUDITED.items():
        for name in names:
            setattr(importlib.import_module(module), name, None)
    sys.addaudithook(hook(own, library))
    return granted


def unshare(libc: ctypes.CDLL) -> bool:
    """New network and IPC namespaces, in a new user namespace, or without one if this process is root."""
    return hasattr(libc, "unshare") and any(
        libc.unshare(user | CLONE_NEWNET | CLONE_NEWIPC) == 0 for user in (CLONE_NEWUSER, 0)
    )


def landlock(libc: ctypes.CDLL, own: str, library: str) -> bool:
    """Allow writing below `own` alone, reading there, in `library` and the linker's paths; no exec, no TCP."""
    version = libc.syscall(RULESET, None, 0, 1) if sys.platform == "linux" else 0
    if version < 1:
        return False
    rights = 2 ** min(16, 12 + version - (version > 3)) - 1  # 13 to 16 kinds of access to files, by version
    kinds = (ctypes.c_uint64 * 2)(rights, 0b11)
    ruleset = libc.syscall(RULESET, kinds, 16 if version > 3 else 8, 0)
    for path, allowed in ((own, READ | WRITE), *((p, READ) for p in (library, *LIBRARIES) if os.path.exists(p))):
        directory = os.open(path, os.O_PATH)
        allowed &= rights if os.path.isdir(path) else 0b100
        rule = allowed.to_bytes(8, sys.byteorder) + directory.to_bytes(4, sys.byteorder)
        libc.syscall(ADD_RULE, ruleset, 1, rule, 0)
        os.close(directory)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    granted = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return granted


def hook(own: str, library: str) -> Callable[[str, tuple], None]:
    def allowed(event: str, args: tuple, path) -> bool:
        path = os.path.realpath(os.path.join(own, os.fsdecode(path)))
        if path == own or path.startswith(own + os.sep):
            return True
        lists = event in ("os.listdir", "os.scandir")
        reads = event == "open" and not args[2] & WRITE_FLAGS and not os.path.isdir(path)  # no descriptor for openat
        return (lists or reads) and (path == library or path.startswith(library + os.sep))

    def refuse(event: str, args: tuple) -> None:
        if event == "sys._getframe" or (event == "object.__getattr__" and args[1] in FRAMES):
            raise NoFrame(f"{event} is not allowed here")
        if event.startswith(FORBIDDEN) or (event == "import" and args[0] in NATIVE):
            raise PermissionError(f"{event} is not allowed here")
        paths, descriptors = TOUCHES_FILES.get(event, (0, 0))
        relative = any(d != -1 for d in args[len(args) - descriptors :])
        for path in args[:paths]:
            if isinstance(path, (str, bytes)) and (relative or not allowed(event, args, path)):
                raise PermissionError(f"{event} of {path!r} is not allowed here")

    return refuse


def child() -> None:
    """The child's entry point: reads the task from standard input and writes the report to a copy of standard output.

    All that it calls after the code has run is looked up before: the code may replace anything in any module.
    """
    task, report, nowhere = json.load(sys.stdin), os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    execute, translate, copy, write, leave = exec, compile, dict, os.write, os._exit
    nonce, tests = task["nonce"], task["tests"]
    layers = " ".join(isolate(task["seconds"], task["megabytes"]))
    defined: dict = {"__name__": "solution"}
    passed, message = ["0"] * len(tests), ""
    try:
        execute(translate(task["code"], "solution.py", "exec"), defined)
    except BaseException as error:
        message = f"{type(error).__name__}: {error}"
    else:
        for i, test in enumerate(tests):
            try:
                execute(translate(test, f"test {i + 1}", "exec"), copy(defined))
                passed[i] = "1"
            except BaseException as error:
                message = message or f"{test}: {type(error).__name__}: {error}"
    write(report, "\n".join([nonce, layers, "".join(passed), message[:300]]).encode(errors="replace"))
    leave(0)


if __name__ == "__main__":
    child()
