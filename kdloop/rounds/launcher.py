"""`accelerate launch` whose processes stay in the round's process group:
`python -m kdloop.rounds.launcher PARENT DIRECTORY OPTIONS`, the parent by its process id.

PyTorch starts each of them in a session of its own, where no signal to the round's group reaches it: a round that is
paused for a chat would go on, one that is cancelled would leave them behind (findings/launched_in_own_sessions.sh).
There is no option for it, so two private methods are replaced, and only in the version that they were read in.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

from kdloop.rounds.process import KILLED, LAUNCHER
from kdloop.rounds.trainer import end_with_parent

TORCH_VERSION = "2.13."  # whose private methods are replaced; requirements.txt pins it


class InOurGroup(SubprocessHandler):
    "The two methods of PyTorch's that assume a session per process"

    def _popen(self, args: tuple, env: dict[str, str]) -> subprocess.Popen:
        return subprocess.Popen(args=args, env=env, stdout=self._stdout, stderr=self._stderr)

    def close(self, death_sig: signal.Signals | None = None) -> None:
        self.proc.send_signal(death_sig or signal.SIGTERM)
        for file in filter(None, (self._stdout, self._stderr)):
            file.close()


def stay_in_our_group() -> None:
    """Raises RuntimeError for another version of PyTorch, whose private methods may do something else."""
    if not torch.__version__.startswith(TORCH_VERSION) or not hasattr(SubprocessHandler, "_popen"):
        raise RuntimeError(
            f"PyTorch {torch.__version__} is installed; several processes train with {TORCH_VERSION}x alone: install "
            "what requirements.txt says, or read SubprocessHandler again and adapt kdloop/rounds/launcher.py"
        )
    SubprocessHandler._popen, SubprocessHandler.close = InOurGroup._popen, InOurGroup.close


def killed(error: ChildFailedError) -> str:
    """Which process a signal ended, in words; "" where one failed otherwise, which has said why. The launcher itself
    ends those that are left by SIGTERM."""
    signals = {rank: -failure.exitcode for rank, failure in error.failures.items() if failure.exitcode < 0}
    others = {rank: n for rank, n in signals.items() if n != signal.SIGTERM}
    signals = others or (signals if len(signals) == len(error.failures) else {})
    return ", ".join(f"process {rank} was ended by {signal.Signals(n).name}" for rank, n in signals.items())


def main(parent: int, directory: Path, options: list[str]) -> int:
    """Ends with the parent, and the processes end with it: each is told whose child it is, as one whose parent is gone
    before it looks would take its next one for it."""
    Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    (directory / LAUNCHER).write_text(str(os.getpid()))
    stay_in_our_group()
    try:
        launch_command(launch_command_parser().parse_args(options))
        return 0
    except ChildFailedError as error:
        print(error, file=sys.stderr, flush=True)
        (directory / KILLED).write_text(killed(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
