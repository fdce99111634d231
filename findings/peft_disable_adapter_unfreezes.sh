#!/usr/bin/env bash
# PEFT's disable_adapter() leaves an adapter trainable that was frozen before.
#
# Packages: torch 2.13.0, transformers 5.23.0, peft 0.21.2, accelerate 1.15.0; Python 3.11, CPU
# Guess: A context manager puts back what it found: an adapter loaded for inference is as frozen after it as before.
# What happens: On leaving it PEFT sets the adapter active again, which sets requires_grad on all of its tensors:
#   those loaded with is_trainable=False, and those that somebody froze by hand (half of a LoRA, some layers).
# Seen:
#   trainable tensors of an adapter loaded for inference: before, inside and after disable_adapter(): [0, 0, 4]
#   of one whose A matrices were frozen by hand: 2 before, 4 after
# Means: One look at the base's logits (a reference, a KL, a judge) turns a frozen adapter into a trained one, or
#   widens what an optimizer built afterwards trains. Freeze again after it, or keep the reference in a model of its
#   own.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def base():
    torch.manual_seed(0)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape))


def trainable(model):
    return sum(parameter.requires_grad for parameter in model.parameters())


get_peft_model(base(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained("adapter")
model = PeftModel.from_pretrained(base(), "adapter")  # is_trainable=False
counts = [trainable(model)]
with model.disable_adapter():
    counts.append(trainable(model))
counts.append(trainable(model))
print(f"trainable tensors of an adapter loaded for inference: before, inside and after disable_adapter(): {counts}")
partly = get_peft_model(base(), LoraConfig(r=4, target_modules=["q_proj"]))
for name, parameter in partly.named_parameters():
    if "lora_A" in name:
        parameter.requires_grad_(False)  # as LoRA-FA does
before = trainable(partly)
with partly.disable_adapter():
    pass
print(f"of one whose A matrices were frozen by hand: {before} before, {trainable(partly)} after")
if counts != [0, 0, 4] or (before, trainable(partly)) != (2, 4):
    sys.exit("disable_adapter() leaves requires_grad as it was now.")
PYTHON
