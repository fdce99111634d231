"""A student that does not fit one device: its frozen weights are split over the processes that train it (FSDP, Zhao et
al. 2023; PyTorch's fully_shard).

Each process keeps 1 / N of every layer, and gathers a layer while it computes it. The adapter is whole in each, so that
its gradients, its optimizer and its file are those of parallel.py. All must gather in the same order: they read the
same batches before training, and go through equally many micro-batches of a step (parallel.shared_steps).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from peft import PeftModel
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from kdloop.methods import parallel
from kdloop.methods.lora import trainable_student
from kdloop.student.transformers import device_and_dtype


class NotInLayers(ValueError):
    "transformers does not say which modules are the student's layers"


def sharded_student(source: str, adapter: Path | None, dtype: torch.dtype, seed: int) -> PeftModel:
    """As `trainable_student`, of which this process keeps its part. The processes read the weights into the machine's
    memory one after the other, so that it holds one whole student at a time; a GPU never holds more than its part and a
    layer. Raises NotInLayers."""
    mesh = init_device_mesh(device_and_dtype()[0], (parallel.size(),))
    with in_turn():
        model = trainable_student(source, adapter, dtype, seed, read_to="cpu")
        whole = kept(model)
        shard(model, mesh)
    print(f"{mebibytes(kept(model))} of the student's {mebibytes(whole)} are kept here", flush=True)
    return model


@contextmanager
def in_turn() -> Iterator[None]:
    """Within this context one process computes at a time, the first one first."""
    for turn in range(parallel.size()):
        if turn == parallel.rank():
            yield
        dist.barrier()


def shard(model: PeftModel, mesh: DeviceMesh) -> None:
    """Keep this process's part of each frozen tensor, on the mesh's device, and all of the adapter."""
    names = set(model.get_base_model()._no_split_modules or ())
    layers = [m for m in model.modules() if type(m).__name__ in names]
    if not layers:
        raise NotInLayers(f"A {model.config.model_type} cannot be split over several GPUs: its layers are not known")
    adapter = {p for p in model.parameters() if p.requires_grad}
    for p in adapter:
        p.data = p.data.to(mesh.device_type)
    for part in (*layers, model):
        fully_shard(part, mesh=mesh, ignored_params=adapter)


def kept(model: PeftModel) -> int:
    """Bytes of the frozen weights that are in this process's memory."""
    own = (getattr(p, "_local_tensor", p).untyped_storage() for p in model.parameters() if not p.requires_grad)
    return sum({storage.data_ptr(): storage.nbytes() for storage in own}.values())


def mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
