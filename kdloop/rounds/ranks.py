"""One of the processes that train a round together, as `accelerate launch` starts it:
`python -m kdloop.rounds.ranks DIRECTORY`, with a Job in the directory (several.py).

Each has one GPU, or the CPU. The first one alone writes: the round's progress, the trained adapter, its metrics.
"""

import json
import os
import pickle
import sys
import time
from datetime import timedelta
from pathlib import Path
from threading import Thread

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from kdloop.methods import METHODS, parallel, sharding, step_size
from kdloop.methods.lora import trainable_student
from kdloop.rounds.process import LAUNCHER
from kdloop.rounds.progress import Clock
from kdloop.rounds.several import ERROR, JOB, METRICS, START, TRAINED, Job
from kdloop.rounds.trainer import end_with_parent
from kdloop.settings import Settings
from kdloop.student.template import Template

PATIENCE = timedelta(days=1)  # a paused round's processes wait for each other; the launcher sees one that ended
LAUNCHED = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"


def join(gpus: list[str]) -> None:
    """Meet the other processes. Afterwards accelerate and Trainer take this one for the only one: how a step is shared
    is parallel.py's."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(os.environ["LOCAL_RANK"])]
    dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    for variable in [v for v in os.environ if v in LAUNCHED or v.startswith("ACCELERATE_")]:
        del os.environ[variable]
    if parallel.rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the steps are printed once


def train(directory: Path, job: Job) -> None:
    load = sharding.sharded_student if job.sharded else trainable_student
    model = load(job.source, job.adapter, job.dtype, job.plan.seed)
    start = load_file(directory / START)
    step_size.place(model, start, start, 1.0)
    on_step = progress(job, model, start) if parallel.rank() == 0 else lambda *_: None
    tokenizer = AutoTokenizer.from_pretrained(job.source, padding_side="left")
    Template.of(tokenizer, Settings.from_environment().thinking)  # what is trained is what the round's own engine says
    metrics = METHODS[job.method].train(model, tokenizer, job.examples, job.plan, on_step)
    if parallel.rank() == 0:
        save_file({k: p.cpu().contiguous() for k, p in step_size.parameters(model).items()}, directory / TRAINED)
        (directory / METRICS).write_text(json.dumps(metrics))


def progress(job: Job, model, start: dict[str, torch.Tensor]):
    """What the first process does after each step: the round's progress, and whether to stop early."""
    clock = Clock(Settings.from_environment().db, job.round_id)
    clock.status = "training"
    return step_size.DirectionEarlyStopping(model, start, clock.step) if job.early_stop else clock.step


def main(directory: Path) -> int:
    parent = int((directory / LAUNCHER).read_text())
    Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    job: Job = pickle.loads((directory / JOB).read_bytes())
    join(job.gpus)
    try:
        train(directory, job)
        dist.barrier()
        return 0
    except Exception as error:
        told = {"at": time.time(), "rank": parallel.rank(), "type": type(error).__name__, "message": str(error)}
        (directory / f"{ERROR}-{parallel.rank()}").write_text(json.dumps(told))
        raise


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
