"""The process of a round as the app starts it: its environment, its log, its process group."""

import subprocess
from pathlib import Path

from kdloop.settings import Settings, current, of_child
from storage.leftovers import JOURNAL

# Not a session of its own: when the app is killed, the system then ends or wakes a group that is paused, too.
OWN_GROUP = {"process_group": 0}
KEEP_MEMORY = {  # glibc: what a step frees, the next one gets; to ask the system for it again takes a third of a step
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
}
TRAINER_ENVIRONMENT = KEEP_MEMORY | {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}
IN_ONE_GO = "in-one-go"  # in a round's journal: its training cannot be saved midway, so nobody interrupts it
KILLED, LAUNCHER = "killed", "launcher"  # files of a training by several processes (launcher.py)
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def log_file(settings: Settings, round_id: int) -> Path:
    return settings.home / "rounds" / f"{round_id:06d}" / "trainer.log"


def journal_folder(settings: Settings, round_id: int) -> Path:
    """Of a round in parts (student/journal.py); it is deleted when the round ends."""
    return log_file(settings, round_id).with_name(JOURNAL)


def spawn(settings: Settings, round_id: int, command: list[str]) -> subprocess.Popen:
    """Start the command with these settings, and what owners have changed of them, in its environment; what it prints
    goes to the round's log. Raises OSError where there can be no process, or no log."""
    log = log_file(settings, round_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    gpu = NO_GPU if settings.zero_gpu else {}  # a ZeroGPU belongs to visitors' requests: a round would wait for it
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            **OWN_GROUP,
            env=of_child() | current(settings).as_environment() | TRAINER_ENVIRONMENT | gpu,
        )
