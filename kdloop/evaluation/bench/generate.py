"""The baseline of several figures: transformers' `generate` on one padded batch, as a user would call it."""

import torch

from kdloop.student import Sampling
from kdloop.student.template import Template
from storage.conversations import Message


def generate(model, tokenizer, prompts: list[list[Message]], sampling: Sampling) -> torch.Tensor:
    """(n, at most `max_tokens`) ids of the completions, padded after their ends; greedy at temperature 0."""
    tokenizer.padding_side = "left"
    ids = [Template.of(tokenizer).prompt_ids(p) for p in prompts]
    inputs = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    how = {"do_sample": False}
    if sampling.temperature:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    with torch.inference_mode(model.device.type != "cpu"):
        out = model.generate(**inputs, max_new_tokens=sampling.max_tokens, pad_token_id=tokenizer.pad_token_id, **how)
    return out[:, inputs["input_ids"].size(1) :]
