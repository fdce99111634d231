"""Forks apps off a process that has imported what app.py imports, which is two thirds of a start. Lines of JSON in:
{"env": {...}, "log": file} is answered by the process's number, {"ended": number} by its exit status or null.

`python app.py` itself is what test_space.py, test_zerogpu.py and tests/real/test_wheel.py start.
"""

import gc
import json
import os
import sys

import transformers.models.llama.modeling_llama  # noqa: F401

import app
import kdloop.api.endpoints
import kdloop.api.routes
import kdloop.student.llamacpp
import kdloop.student.transformers
import kdloop.ui  # noqa: F401


def ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def become(env: dict, log: str) -> None:
    """A process that was started with this environment, whose output goes to the file."""
    for fd, path, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, flags, 0o644), fd)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["app.py"]


gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    if "env" not in asked:
        answer = ended(asked["ended"])
    elif not (answer := os.fork()):
        become(**asked)
        sys.exit(app.main())
    print(json.dumps(answer), flush=True)
