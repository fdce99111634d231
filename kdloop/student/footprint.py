"""How much memory a student takes: for serving, for a round, and for both at once, by its shape alone.

With P parameters, A of them in linear layers (each merged copy has its own), N of the adapter; b bytes a number in
replies and t in a round; c(x) bytes of keys and values a token; h hidden states, v the vocabulary, L layers:

    serving    P b + 2 A b                 the student, the champion's weights, the next one's at a swap
               + n C c(b) + 24 C h b       n chats with contexts of C tokens, and the reading of one
               llama.cpp instead: the file, 2 n C c(2) for both servers at a swap, and n adapters' 4 N
    in 4 bits, A of these P take 0.56 bytes each, and there are no merged copies
    a round    (1 + own) P t + 2 A t       `own` is 1 on a CPU, where training reads the weights once more
               + 24 N                      the adapter in fp32, its gradient, two moments, where it began and ended
               + the larger of sampling,   64 rows of T tokens: 64 T 2 c(t) + 64 v (t + 12)
                 and a training step,      r rows of T tokens: r T L a + (r / 2) T v (t + 12)
                                           where a layer keeps a = 12 h + 4 (q + 2 k) + 5 m numbers a token (q, k, m:
                                           the widths of queries, keys, MLP), and eager attention 3 T for each head;
                                           with activation checkpointing h for each layer, and a for one of them

Split over n GPUs (methods/sharding.py) a training has on each P t / n of the weights, and (P - A + 2 A / L) t gathered.

T is twice a round's completion: prompts are taken to be as long. A GPU takes fewer rows where its memory is small, so
r is 2 there, one pair; a CPU takes 4 pairs whatever they need. Each process adds what PyTorch and Python take. Measured
peaks are within FACTOR of this.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM

from kdloop.student import memory, quantized
from kdloop.student.memory import STATES_PER_TOKEN

GIB = 2**30
FACTOR = 1.5  # within which measured peaks are of this (tests/student/test_footprint.py)
RUNTIME = {"cpu": 0.7 * 2**30, "cuda": 0.6 * 2**30}  # of a process: PyTorch's libraries, or a GPU's context
ROWS = 64  # completions that a CPU decodes together in a round
PAIRS = 4  # that go through it at once in training
ADAPTER = 24  # bytes


class NoRoom(ValueError):
    "A round of the student does not fit the memory that is free"


class NoAdapter(ValueError):
    "No round can train the student: PEFT puts no adapter on it"


@dataclass(frozen=True)
class Shape:
    """Numbers of a model, whose weights need not be there: on the meta device."""

    config: Any
    parameters: int  # tied ones once
    adapted: int  # of these, in linear layers that an adapter changes
    adapter: int  # parameters of the adapter

    @classmethod
    def of(cls, model, rank: int) -> "Shape":
        """As a training would adapt it (methods/lora.py): an adapter of this rank on every linear layer but the head.
        Raises NoAdapter where PEFT puts none on a model of this family."""
        config = LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        try:
            with torch.device("meta"):
                adapted = get_peft_model(deepcopy(model), config)
        except ValueError as error:
            raise NoAdapter(f"No adapter can be trained on a {model.config.model_type}: {error}") from error
        layers = [m.base_layer for m in adapted.modules() if isinstance(m, LoraLayer)]
        new = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        numbers = sum(p.numel() for p in model.parameters())
        return cls(model.config, numbers, sum(layer.weight.numel() for layer in layers), new)

    def layer(self, tokens: int, dtype: torch.dtype) -> int:
        """Bytes that a layer keeps of one token in a row of so many, for the backward pass."""
        text, layers = self.config.get_text_config(), self.config.get_text_config().num_hidden_layers
        heads, mlp = number(text, "num_attention_heads"), number(text, "intermediate_size") or 4 * text.hidden_size
        queries = heads * number(text, "head_dim") or text.hidden_size
        keys = cache_bytes(self.config, dtype) // dtype.itemsize // (2 * layers)
        return (12 * text.hidden_size + 4 * (queries + 2 * keys) + 5 * mlp + 3 * tokens * heads) * dtype.itemsize


def require_room(source: str, rank: int, dtype: torch.dtype, device: str, tokens: int, bits: int) -> None:
    """Raises NoRoom, in numbers and with what to do, where a round cannot fit even if the estimate is too high by
    FACTOR and activations are recomputed."""
    shape = shape_of(source, rank)
    room, (need, less) = memory.free(device), (least(shape, dtype, device, tokens, n) for n in (bits, 4))
    if need > FACTOR * room:
        where = "in this machine" if device == "cpu" else "on this GPU"
        or_less = f", or KDLOOP_BITS=4 with bitsandbytes: about {gib(less)}" if less < need else ""
        raise NoRoom(
            f"A round of this student needs about {gib(need)}, and {gib(room)} are free {where}. "
            f"Take a smaller student{or_less}"
        )


def must_be_sharded(source: str, rank: int, dtype: torch.dtype, tokens: int, rooms: list[int]) -> bool:
    """Whether a round does not fit one GPU, and its training fits several that split the weights (methods/sharding.py);
    `rooms` are the bytes that are free on each. Raises NoRoom where it fits neither way."""
    shape, n = shape_of(source, rank), len(rooms)
    whole, part = least(shape, dtype, "cuda", tokens, 16), sharded(shape, dtype, tokens, n)
    if whole > FACTOR * rooms[0] and part > FACTOR * min(rooms):
        raise NoRoom(
            f"A round of this student needs about {gib(whole)} on a GPU, or {gib(part)} on each of {n} that split its "
            f"weights, and {gib(min(rooms))} are free on one of them. Take a smaller student, or more GPUs"
        )
    return whole > FACTOR * rooms[0]


def sharded(shape: Shape, dtype: torch.dtype, tokens: int, n: int) -> float:
    """Bytes of one of n GPUs that split the weights: its part, the embeddings and two layers, which are whole while
    they are computed, and what it needs for its own share of a step."""
    text, parts = shape.config.get_text_config(), training(shape, dtype, "cuda", tokens, 16, recomputed=True)
    gathered = shape.parameters - shape.adapted + 2 * shape.adapted / text.num_hidden_layers
    return sum(parts.values()) - parts["weights"] + (shape.parameters / n + gathered) * dtype.itemsize + RUNTIME["cuda"]


def shape_of(source: str, rank: int) -> Shape:
    """That of the student in a model directory, whose weights are not read."""
    with torch.device("meta"):
        return Shape.of(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)), rank)


def least(shape: Shape, dtype: torch.dtype, device: str, tokens: int, bits: int) -> float:
    """Bytes of a round's process with activation checkpointing."""
    return sum(training(shape, dtype, device, tokens, bits, recomputed=True).values()) + RUNTIME[device]


def serving(shape: Shape, dtype: torch.dtype, context: int, bits: int = 16) -> dict[str, float]:
    """Bytes of the transformers engine, by what takes them."""
    text, b = shape.config.get_text_config(), dtype.itemsize
    return {
        "weights": weights(shape, b, 1, bits),
        "KV cache": context * cache_bytes(shape.config, dtype),
        "activations": context * STATES_PER_TOKEN * text.hidden_size * b,
    }


def serving_gguf(shape: Shape, file: float, context: int, chats: int) -> dict[str, float]:
    """The same of llama.cpp, which reads a file of so many bytes."""
    text = shape.config.get_text_config()
    return {
        "weights": file + 2 * 4 * shape.adapter,
        "KV cache": 2 * chats * context * cache_bytes(shape.config, torch.float16),
        "activations": 2 * 512 * 4 * (text.vocab_size + STATES_PER_TOKEN * text.hidden_size),
    }


def training(
    shape: Shape, dtype: torch.dtype, device: str, tokens: int, bits: int = 16, recomputed: bool = False
) -> dict[str, float]:
    """Bytes of a round, by what takes them; `tokens` of a prompt with its completion, `recomputed` with activation
    checkpointing."""
    text, t = shape.config.get_text_config(), dtype.itemsize
    each = text.num_hidden_layers * shape.layer(tokens, dtype)
    if recomputed:
        each = text.num_hidden_layers * text.hidden_size * t + shape.layer(tokens, dtype)
    step = step_rows(device) * tokens * each
    step += step_logits(text, dtype, device, tokens)
    each = 2 * tokens * cache_bytes(shape.config, dtype) + memory.logits_bytes(text, dtype)
    drawn = (ROWS if device == "cpu" else 1) * each
    return {
        "weights": weights(shape, t, 2 if device == "cpu" else 1, bits),
        "adapter and optimizer": ADAPTER * shape.adapter,
        "KV cache or activations": max(step, drawn),
    }


def weights(shape: Shape, itemsize: int, copies: int, bits: int) -> float:
    """Bytes of so many copies of the student and of two merged ones, which share what an adapter leaves as it is."""
    if bits == 4:
        return shape.adapted * quantized.BYTES + (shape.parameters - shape.adapted) * itemsize
    return (copies * shape.parameters + 2 * shape.adapted) * itemsize


def step_rows(device: str) -> int:
    """Completions that go through a training step at once: of pairs, two each."""
    return 2 * PAIRS if device == "cpu" else 2


def step_logits(text, dtype: torch.dtype, device: str, tokens: int) -> int:
    """Bytes of a step's logits, of the half of `tokens` that is the completion; `text` is the config's text part."""
    return step_rows(device) * tokens // 2 * memory.logits_bytes(text, dtype)


def cache_bytes(config, dtype: torch.dtype) -> int:
    """Of the keys and values of one token; 0 where no layer has heads, or each has a number of its own."""
    return memory.cache_bytes(config, dtype) if number(config.get_text_config(), "num_attention_heads") else 0


def number(config, name: str) -> int:
    found = getattr(config, name, None)
    return found if isinstance(found, int) else 0


def gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"
