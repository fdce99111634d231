"""The child process that runs one round: `python -m kdloop.rounds.trainer ROUND_ID PARENT`, the parent by its
process id, settings from the environment.

Spawned, never forked; its own process group and a lower priority. The one broad `except` of the project is here: a
failed round is data. Never imports Gradio.
"""

import os
import signal
import sys
import time
import traceback
from threading import Thread

from kdloop.rounds.process import journal_folder
from kdloop.settings import Settings
from storage import log, rounds


def main(round_id: int, parent: int) -> int:
    settings = Settings.from_environment()
    log.begin(settings.log, round=round_id)
    os.nice(10)
    Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    try:
        return whole_round(settings, round_id)
    except Exception as error:
        traceback.print_exc()
        rounds.finish_round(settings.db, round_id, "failed", error=f"{type(error).__name__}: {error}")
        return 1


def whole_round(settings: Settings, round_id: int) -> int:
    """0 at its end. On a ZeroGPU Space, where visitors lend it a GPU for a part, it keeps a journal, and SIGTERM ends
    it at the next chance (EX_TEMPFAIL): another process goes on from there."""
    from kdloop.rounds.run import run
    from kdloop.rounds.several import keep_one_gpu
    from kdloop.student.journal import Journal, OutOfTime

    keep_one_gpu(settings)
    journal = Journal(journal_folder(settings, round_id)) if settings.zero_gpu else Journal()
    if settings.zero_gpu:
        signal.signal(signal.SIGTERM, lambda *_: journal.end_soon())
    try:
        run(settings, rounds.get_round(settings.db, round_id), journal)
    except OutOfTime:
        return os.EX_TEMPFAIL
    return 0


def part(settings: Settings, round_id: int, seconds: float) -> bool:
    """Carry out a part of a round in this process, for about `seconds`; whether the round has come to its end. Raises
    what goes wrong: the round's own process goes on, and records it where it fails there, too."""
    from kdloop.rounds.run import run
    from kdloop.student.journal import Journal, OutOfTime

    journal = Journal(journal_folder(settings, round_id), seconds)
    try:
        run(settings, rounds.get_round(settings.db, round_id), journal)
    except OutOfTime as end:
        print(end, flush=True)
        return False
    return True


def end_with_parent(parent: int) -> None:
    """End the process once the one that started it is gone: nobody would renew its lease, or could cancel it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
