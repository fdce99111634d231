"""The child process that runs one round: `python -m kdloop.rounds.trainer ROUND_ID`, settings from the environment.

Spawned, never forked; its own process group and a lower priority. The one broad `except` of the project is here: a
failed round is data. Never imports Gradio.
"""

import os
import sys
import time
import traceback
from threading import Thread

from kdloop.settings import Settings
from storage import rounds


def main(round_id: int) -> int:
    settings = Settings.from_environment()
    os.nice(10)
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        from kdloop.rounds.run import run
        from kdloop.rounds.several import keep_one_gpu

        keep_one_gpu()
        run(settings, rounds.get_round(settings.db, round_id))
        return 0
    except Exception as error:
        traceback.print_exc()
        rounds.finish_round(settings.db, round_id, "failed", error=f"{type(error).__name__}: {error}")
        return 1


def end_with_parent(parent: int) -> None:
    """End the process once the app that started it is gone: nobody would renew its lease, or could cancel it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
