"""A second device on a machine that has none: tensors that say they lie there, hold their values on the CPU, and refuse
to meet tensors that lie here, as those of a GPU do."""

import sys
from contextlib import contextmanager, nullcontext

import torch
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

import kdloop.methods.lora
import kdloop.methods.objective
import kdloop.student.transformers

THERE = torch.device("lazy")  # a device type that nothing else here has a rule for; its backward runs on this thread
aten = torch.ops.aten
CARRIES = {aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor}  # from one device to another
INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
JOINS = {aten.cat.default, aten.stack.default}
CPU = torch.device("cpu")


class Distant(torch.Tensor):
    """`held` is the same tensor on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = {"dtype": held.dtype, "layout": held.layout, "requires_grad": False, "device": THERE}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **shape, **made)

    def __init__(self, held: torch.Tensor):
        self.held = held

    def tolist(self):
        return self.held.tolist()

    def storage(self):  # by which what saves a model sees what shares its memory
        return self.held.storage()

    def untyped_storage(self):
        return self.held.untyped_storage()

    def __repr__(self):
        return f"Distant({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


class TwoDevices(TorchDispatchMode):
    "Makes there what is asked for there"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    flat = tree_flatten((args, kwargs))[0]
    tensors, asked = ([x for x in flat if isinstance(x, kind)] for kind in (torch.Tensor, torch.device))
    away = [isinstance(x, Distant) for x in tensors]
    lands = asked[0].type == THERE.type if asked else any(away)
    if func in CARRIES:
        lands = lands if asked else away[0]
    elif func in INDEXES:
        refuse(func, [args[0], *args[2:3]] if isinstance(args[0], Distant) else tensors)  # indices may lie here
    else:
        refuse(func, tensors)
    here = tree_map_only(Distant, lambda x: x.held, tree_map_only(torch.device, lambda d: CPU, (args, kwargs)))
    found = func(*here[0], **here[1])
    return relabelled(func, args, found, lands)


def refuse(func, tensors) -> None:
    """Tensors of two devices. A number (no dimension) of the CPU may go along, as on a GPU."""
    where = {isinstance(x, Distant) for x in tensors if isinstance(x, Distant) or x.dim() or func in JOINS}
    if len(where) > 1:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {THERE} and cpu")


def relabelled(func, args, found, lands: bool):
    first = func._schema.arguments[0].alias_info
    if first and first.is_write and isinstance(found, torch.Tensor):  # in place: the very tensor
        return args[0]
    return tree_map_only(torch.Tensor, lambda x: x if isinstance(x, Distant) else Distant(x), found) if lands else found


def knowing_it(asked, answer):
    """The same question of torch's about a device type, answered for this one."""
    return lambda kind="cpu", *args, **kwargs: answer if kind == THERE.type else asked(kind, *args, **kwargs)


@contextmanager
def a_second_device(monkeypatch):
    """Meanwhile models and batches go there, rounds' and training's as everybody's."""
    for module in (kdloop.student.transformers, kdloop.methods.lora, kdloop.methods.objective):
        monkeypatch.setattr(module, "device_and_dtype", lambda: (THERE.type, torch.float32))
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", THERE.type)
    monkeypatch.setattr(torch, "is_autocast_enabled", knowing_it(torch.is_autocast_enabled, False))
    monkeypatch.setattr(torch, "autocast", knowing_it(torch.autocast, nullcontext()))
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *_, **__: None)
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) makes it here and carries it there
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with TwoDevices():
            yield THERE
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(False)
