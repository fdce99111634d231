"""A student of two layers that is made in seconds: some common words in any order, then "!" or "." as often as not.

Its rounds take seconds and succeed: who likes one of the two endings teaches it something that costs no words.
"""

import random
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kdloop import packs
from kdloop.methods.objective import sequence_logps
from kdloop.student.template import Template
from storage.conversations import as_prompt

WORDS = ["sun", "rain", "tree", "road", "bread", "river", "night", "music", "letter", "garden", "winter", "friend"]
WORDS += ["kitchen", "window", "story", "market", "paper", "mountain", "summer", "table", "water", "morning", "village"]
WORDS += ["doctor", "island", "silver", "bridge", "forest", "engine", "basket"]
LIKED = "!"  # by those who send votes; the other ending is "."
LENGTH = 6, 10  # words
STEPS, ROWS = 300, 16
STREAM = 0.1  # what the residual stream is scaled by, once it has learned
SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def write(directory: Path, of: str | Path, seed: int = 0) -> str:
    """Train it, with the tokenizer, the template and the vocabulary of the student in the directory `of`."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    tokenizer, config = AutoTokenizer.from_pretrained(of), AutoConfig.from_pretrained(of)
    template = Template.of(tokenizer)
    config.update(SIZES | {"num_key_value_heads": 2, "head_dim": 16})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    prompts = packs.prompts("general", "train")

    def rows() -> list[tuple[list[int], list[int]]]:
        asked = [template.prompt_ids(as_prompt(draw.choice(prompts))) for _ in range(ROWS)]
        return [(ids, template.completion_ids(said(draw), True)) for ids in asked]

    learn(model, rows, STEPS, rate=1e-2)
    scale_stream(model, STREAM)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def learn(model, rows: Callable[[], list[tuple[list[int], list[int]]]], steps: int, rate: float) -> None:
    """Maximise the likelihood of each step's `rows`, (prompt ids, completion ids), by AdamW, at a rate that falls to a
    twentieth."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        logps, lengths = sequence_logps(model, rows())
        (-logps.sum() / lengths.sum()).backward()
        optimizer.step()
        falling.step()
        optimizer.zero_grad()


@torch.no_grad()
def scale_stream(model, by: float) -> None:
    """The same student, as each norm takes the scale out again. A LoRA's step at a round's learning rate, thousands of
    times smaller than the one that taught two layers so fast, is then as large beside the stream as in a real one."""
    model.model.embed_tokens.weight *= by
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= by
        layer.mlp.down_proj.weight *= by
    model.model.norm.weight /= by  # the head is the embedding, which is smaller now


def said(draw: random.Random) -> str:
    """After a third of the words "!", after another third ".": endings that are always as likely would get the same
    embedding, and no step of a round could tell them apart."""
    words = draw.choices(WORDS, k=draw.randint(*LENGTH))
    third = WORDS.index(words[-1]) * 3 // len(WORDS)
    return f"{' '.join(words).capitalize()}{(LIKED, '.', draw.choice([LIKED, '.']))[third]}"
