"""What the processes of test_several.py's launch run: all methods of DIRECTORY/asked, one after the other; then again
with the student's weights split over them, in DIRECTORY/sharded."""

import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from kdloop.methods import METHODS, parallel, sharding, step_size
from kdloop.methods.lora import trainable_student
from kdloop.rounds.ranks import join

STOPPED = "dpo"  # the training that the first process ends after two steps


def trained(name: str, student: str, examples: list, plan, load=trainable_student) -> tuple[dict, list, int]:
    """(the adapter, the losses, bytes of the student's weights in this process) of a method."""
    model, seen = load(student, None, torch.float32, seed=1), []
    start = step_size.parameters(model)
    for weights in start.values():  # an adapter that was trained before
        weights += 0.02 * torch.sin(torch.arange(weights.numel())).view_as(weights)
    step_size.place(model, start, start, 1.0)

    def on_step(step: int, steps: int, loss: float | None) -> bool:
        seen.append(loss)
        return name == STOPPED and step == 2 and parallel.rank() == 0

    METHODS[name].train(model, AutoTokenizer.from_pretrained(student), examples, plan, on_step)
    return step_size.parameters(model), seen, sharding.kept(model)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    methods, *rest = pickle.loads((directory / "asked").read_bytes())
    join([])
    for folder, load in (directory, trainable_student), (directory / "sharded", sharding.sharded_student):
        folder.mkdir(exist_ok=True)
        for name in methods:
            adapter, *told = trained(name, *rest, load)
            save_file(adapter, folder / f"{name}-{parallel.rank()}")
            (folder / f"{name}-{parallel.rank()}.told").write_bytes(pickle.dumps(told))
