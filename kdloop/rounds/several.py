"""A round's training by several processes (KDLOOP_PROCESSES), one a GPU, under `accelerate launch`; all else of the
round, sampling, the size of the step, the gate, is its own process's. What they compute is what one would
(methods/parallel.py); a method that cannot be split like that is trained by one.

A student that does not fit one GPU is split over those that train it (methods/sharding.py). Then the round's own
process leaves all GPUs to them and computes on the CPU, where its memory holds the whole student.
"""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kdloop.feedback.examples import Example
from kdloop.methods import ALONE, NothingToLearn, step_size
from kdloop.methods.lora import RANK, Diverged, Plan
from kdloop.rounds.process import KILLED
from kdloop.settings import Settings, of_child, visible_gpus
from kdloop.student import footprint
from kdloop.student.base import find_student
from storage import files

JOB, START, TRAINED, METRICS, ERROR = "job.pickle", "start.safetensors", "trained.safetensors", "metrics.json", "error"
BATCH = Plan(0).batch  # rows of a step: no more processes than these can share it
OUR_ERRORS = {error.__name__: error for error in (NothingToLearn, Diverged)}
GPUS: list[str] = []  # all that this round may use, by CUDA's names


class ProcessFailed(Exception):
    "One of the processes that train a round ended before its time"


@dataclass(frozen=True)
class Job:
    """What each process is given: a method, and what it is trained on and from."""

    round_id: int
    method: str
    examples: list[Example]
    plan: Plan
    source: str
    adapter: Path | None
    dtype: torch.dtype
    early_stop: bool
    gpus: list[str]  # one a process; none on a CPU
    sharded: bool = False  # the student's weights are split over the processes


def keep_one_gpu(settings: Settings) -> None:
    """Before CUDA is used: this process takes the first GPU; the others are for those that train. (TRL refuses several
    in one process.) It takes none where the student is split over them. Raises NoRoom, NoStudent."""
    if torch.cuda.device_count() > 1:
        GPUS[:] = visible_gpus(torch.cuda.device_count())
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if too_large_for_one(settings) else GPUS[0]


def too_large_for_one(settings: Settings) -> bool:
    """Whether the student must be split. The GPUs' free memory is read by another process: this one may use none yet.
    Raises NoRoom where it fits in no way."""
    if settings.bits == 4 or settings.processes == 1:
        return False
    read = "import torch; print(*(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())))"
    free = subprocess.run([sys.executable, "-c", read], stdout=subprocess.PIPE, text=True, check=True).stdout
    rooms = [int(n) for n in free.split()][: min(settings.processes or BATCH, BATCH)]
    source, tokens = find_student(settings.student, settings.home), 2 * settings.round_max_tokens
    return footprint.must_be_sharded(source, RANK, torch.bfloat16, tokens, rooms)


def sharded() -> bool:
    """Has this process left all GPUs to those that train?"""
    return bool(GPUS) and not torch.cuda.is_available()


def require_shareable(method: str) -> None:
    """Raises NothingToLearn for a method that one process trains, where the student is split over several."""
    if sharded() and method in ALONE:
        raise NothingToLearn(f"{method} {ALONE[method]}, which one process does, and the student does not fit one GPU")


def processes(settings: Settings, method: str) -> int:
    """How many train a round by this method."""
    wanted = settings.processes or len(GPUS) or 1
    if GPUS or torch.cuda.is_available():
        wanted = min(wanted, max(1, len(GPUS)))
    return 1 if method in ALONE or settings.bits == 4 else min(wanted, BATCH)


def in_words(settings: Settings, method: str) -> str:
    """A clause for the round's reason; "" where one process is all there is to it."""
    n, wanted = processes(settings, method), settings.processes or len(GPUS)
    if sharded():
        return f"; {n} processes train a student that is split over them, and the rest is computed on the CPU"
    if wanted > 1 and method in ALONE:
        return f"; one process trains, as {method} {ALONE[method]}"
    if wanted > 1 and settings.bits == 4:
        return "; one process trains a student in 4 bits"
    if n > 1 or wanted > n:
        return f"; {n} processes train"
    return ""


def train(settings: Settings, job: Job, model, start: step_size.Parameters) -> dict[str, float]:
    """Train by `processes` processes and give the model the trained adapter; the metrics. `start` are its parameters.
    Raises what one process would, and ProcessFailed."""
    n = processes(settings, job.method)
    job = replace(job, plan=replace(job.plan, reward=None), gpus=GPUS[:n])  # a function, for methods in ALONE
    with files.scratch(settings.home / "rounds" / f"{job.round_id:06d}" / "several") as directory:
        directory.mkdir(parents=True)
        (directory / JOB).write_bytes(pickle.dumps(job))
        save_file({k: p.cpu().contiguous() for k, p in start.items()}, directory / START)
        launched = subprocess.run(
            command(directory, n), env=environment(settings, job), stdin=subprocess.DEVNULL, check=False
        )
        if launched.returncode:
            raise failure(directory, launched.returncode)
        step_size.place(model, start, load_file(directory / TRAINED), 1.0)
        return json.loads((directory / METRICS).read_text())


def command(directory: Path, n: int) -> list[str]:
    """`--multi_gpu` also without a GPU: by `--cpu` accelerate 1.15 starts one process, whatever the number."""
    launch = f"--multi_gpu --num_processes {n} --num_machines 1 --main_process_port 0 --mixed_precision no"
    options = [*launch.split(), "--dynamo_backend", "no", "--gpu_ids", "all", "--module", "kdloop.rounds.ranks"]
    return [sys.executable, "-m", "kdloop.rounds.launcher", str(os.getpid()), str(directory), *options, str(directory)]


def environment(settings: Settings, job: Job) -> dict[str, str]:
    devices = {"CUDA_VISIBLE_DEVICES": ",".join(job.gpus)} if job.gpus else {"ACCELERATE_USE_CPU": "true"}
    return of_child() | settings.as_environment() | devices


def failure(directory: Path, code: int) -> Exception:
    """What went wrong first, as the processes or their launcher have written it down."""
    killed = (directory / KILLED).read_text() if (directory / KILLED).exists() else ""
    if killed:
        return ProcessFailed(f"Of the processes that train, {killed}: out of memory, or by hand")
    told = sorted((json.loads(f.read_text()) for f in directory.glob(f"{ERROR}-*")), key=lambda e: e["at"])
    if not told:
        return ProcessFailed(f"The launcher of the processes that train ended with code {code}; the log says why")
    first = told[0]
    if first["type"] in OUR_ERRORS:
        return OUR_ERRORS[first["type"]](first["message"])
    return ProcessFailed(f"Process {first['rank']} of those that train: {first['type']}: {first['message']}")
