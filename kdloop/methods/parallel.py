"""One training by several processes: data parallelism whose result is that of one process.

All processes go through the same micro-batches in the same order. Of those of a step, process r of N computes the r-th,
the (r + N)-th, and so on, and before the step their gradients are summed. So the global batch, the order of the rows,
the scale of the loss and the last, smaller batch are those of one process. (DistributedDataParallel over accelerate's
shards differs in these: the last batch is filled up with the first rows, and each loss is a mean of its process's own.)
An adapter's gradients are few, so that one sum of them costs little.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule


def size() -> int:
    """The number of processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if size() > 1 else 0


def least(n: int, device: str) -> int:
    """The least of all processes' n: what fits the fullest GPU."""
    if size() == 1:
        return n
    of_all = torch.tensor(n, device=device)
    dist.all_reduce(of_all, dist.ReduceOp.MIN)
    return int(of_all)


def agreed(decision: bool, device) -> bool:
    """The first process's decision."""
    if size() == 1:
        return decision
    of_first = torch.tensor(int(decision), device=device)
    dist.broadcast(of_first, 0)
    return bool(of_first)


@contextmanager
def shared_steps(trainer) -> Iterator[None]:
    """Within this context each process computes its share of a step of transformers' Trainer, which takes itself for
    the only process. All begin with the first one's parameters."""
    if size() == 1:
        yield
        return
    compute, device = trainer.training_step, trainer.args.device
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    for p in trained:
        dist.broadcast(p.data, 0)
    number, own_loss = 0, torch.zeros((), device=device)

    def training_step(*arguments) -> torch.Tensor:
        """The loss of all processes at a step's last micro-batch, 0 at the others: Trainer adds them up."""
        nonlocal number, own_loss
        if number % size() == rank():
            own_loss = own_loss + compute(*arguments)
        number += 1
        if not trainer.accelerator.sync_gradients:
            return torch.zeros((), device=device)
        if isinstance(trainer.model, FSDPModule) and rank() >= (number % size() or size()):
            without_gradients(trained, compute, *arguments)
        loss, number, own_loss = sum_over_processes(trained, own_loss), 0, torch.zeros((), device=device)
        return loss

    trainer.training_step = training_step
    try:
        yield
    finally:
        del trainer.training_step  # the class's own


def without_gradients(trained: list[torch.nn.Parameter], compute, *arguments) -> None:
    """Compute a micro-batch for the others' sake, who need this process's part of the weights (sharding.py)."""
    before = [None if p.grad is None else p.grad.clone() for p in trained]
    compute(*arguments)
    for p, grad in zip(trained, before, strict=True):
        p.grad = grad


def sum_over_processes(trained: list[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
    """Sum the gradients, in place, and the loss, which is returned. A process that had no micro-batch adds zeros."""
    for p in trained:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    summed = torch.cat([*(p.grad.flatten().float() for p in trained), loss.detach().float()[None]])
    dist.all_reduce(summed)
    for p, grad in zip(trained, summed[:-1].split([p.numel() for p in trained]), strict=True):
        p.grad.copy_(grad.view_as(p))
    return summed[-1]
