"""An adapter that was trained elsewhere (a PEFT directory), as the first champion: what has to hold before it serves.

The doctor's checks of the student, then the adapter's: plain LoRA in safetensors (a pickle can run code), whole,
finite, of this student's layers, and it changes what the student says.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open

from kdloop.settings import Settings
from kdloop.student import AdapterRefused, audit, report
from kdloop.student.base import base_name, find_student
from kdloop.student.engines import chosen
from kdloop.student.identity import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Incomplete, header, identity, name_base
from kdloop.student.merging import NOT_PLAIN
from kdloop.student.serving import distance, fingerprint
from kdloop.student.transformers import TransformersEngine
from storage import adopted
from storage.checkpoints import Checkpoint

SAME = 1e-4  # nats per token: less is no change
RANKS = range(1, 513)


def adopt(settings: Settings, adapter: Path, who: str) -> Checkpoint:
    """Check the adapter and make it serve as v1. Raises AdapterRefused, NoStudent where the student itself is unfit,
    and ValueError where something else than the base serves or has served."""
    adopted.require_base_alone(settings.db)
    config = plain_config(adapter)
    check_tensors(adapter)
    source = find_student(settings.student, settings.home)
    found = report.audit(audit.read(source), settings, chosen(settings), config["r"])
    if found.refusals:
        raise AdapterRefused(f"The student itself is unfit: {'; '.join(map(str, found.refusals))}")
    base = TransformersEngine(source)
    with_adapter, without = fingerprint(base.load(adapter)), fingerprint(base)
    if not distance(with_adapter, without) >= SAME:  # also where it is NaN
        raise AdapterRefused(f"The adapter in {adapter} changes nothing that the student says, or makes it say nothing")

    def save(directory: Path) -> None:
        shutil.copyfile(adapter / ADAPTER_WEIGHTS, directory / ADAPTER_WEIGHTS)
        ours = config | {"auto_mapping": None, "task_type": "CAUSAL_LM"}  # no class that the file names is ever loaded
        (directory / ADAPTER_CONFIG).write_text(json.dumps(ours, indent=2), encoding="utf-8")
        name_base(directory, base_name(settings.student, settings.home))

    metrics = {"fingerprint": with_adapter}
    return adopted.adopt(settings.db, save, metrics=metrics, student=identity(source), who=who, about=adapter.name)


def plain_config(adapter: Path) -> dict:
    """PEFT's configuration of plain LoRA, which llama.cpp, vLLM and kdloop's own rounds take. Raises AdapterRefused."""
    if not adapter.is_dir() or not (adapter / ADAPTER_CONFIG).is_file():
        raise AdapterRefused(f"{adapter} is no adapter: a PEFT directory has {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise AdapterRefused(
            f"{adapter} has no {ADAPTER_WEIGHTS}; save it with safetensors: other formats can run code"
        )
    try:
        config = dict(json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise AdapterRefused(f"{adapter / ADAPTER_CONFIG} is no JSON object ({str(error)[:100]})") from error
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        kind = f"{config.get('peft_type')}, bias {config.get('bias')!r}"
        raise AdapterRefused(f"{adapter} is {kind}; plain LoRA without biases is taken")
    if more := [name for name in NOT_PLAIN if config.get(name)]:
        raise AdapterRefused(f"{adapter} has {', '.join(more)}; plain LoRA is taken, which every engine reads")
    numbers = config.get("r"), config.get("lora_alpha")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers) or numbers[0] not in RANKS:
        raise AdapterRefused(f"{adapter} has r={numbers[0]!r:.20} and lora_alpha={numbers[1]!r:.20}: no rank of a LoRA")
    return config


def check_tensors(adapter: Path) -> None:
    file = adapter / ADAPTER_WEIGHTS
    try:
        header(file)
    except (Incomplete, KeyError, TypeError) as error:
        raise AdapterRefused(f"{file} is cut off or damaged") from error
    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (not a mapping)
            if not torch.isfinite(tensors.get_tensor(name)).all():
                raise AdapterRefused(f"{file} has numbers that are none, in {name}")
