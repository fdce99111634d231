#!/usr/bin/env bash
# 0.5 and 0.5 of two adapters by add_weighted_adapter is not their mean.
#
# Packages: torch 2.13.0, transformers 5.23.0, peft 0.21.2, accelerate 1.15.0; Python 3.11, CPU
# Guess: combination_type='linear' gives the weighted sum of what the adapters change; the default, 'svd', nearly
#   so.
# What happens: 'linear' weighs the factors A and B (by roots) and multiplies the sums, so that cross terms come in:
#   for two random adapters it is as far from the mean as the mean is large, and an adapter with itself comes out
#   twice as strong. 'svd' cuts the sum back to the old rank. 'cat' is exact, at the sum of the ranks.
# Seen:
#   0.5 and 0.5 by 'linear': 99.3% from the mean of the two changes of q_proj
#   0.5 and 0.5 by 'svd': 54.9% from the mean of the two changes of q_proj
#   0.5 and 0.5 by 'cat': 0.0% from the mean of the two changes of q_proj
#   an adapter with itself, 0.5 and 0.5 by 'linear': 2.00 times its change
# Means: For an average of checkpoints or a committee take 'cat', or average the merged weights.

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
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4)
config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
model = get_peft_model(LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape)), config, adapter_name="first")
model.add_adapter("second", config)
layer = model.base_model.model.model.layers[0].self_attn.q_proj
with torch.no_grad():
    mean = (layer.get_delta_weight("first") + layer.get_delta_weight("second")) / 2
    off = {}
    for how in ("linear", "svd", "cat"):
        model.add_weighted_adapter(["first", "second"], [0.5, 0.5], f"by_{how}", combination_type=how)
        off[how] = ((layer.get_delta_weight(f"by_{how}") - mean).norm() / mean.norm()).item()
        print(f"0.5 and 0.5 by {how!r}: {off[how]:.1%} from the mean of the two changes of q_proj")
    model.add_weighted_adapter(["first", "first"], [0.5, 0.5], "itself", combination_type="linear")
    twice = (layer.get_delta_weight("itself") / layer.get_delta_weight("first")).mean().item()
    print(f"an adapter with itself, 0.5 and 0.5 by 'linear': {twice:.2f} times its change")
if off["linear"] < 0.3 or off["svd"] < 0.1 or off["cat"] > 1e-4 or abs(twice - 2) > 0.01:
    sys.exit("Weighted adapters are combined otherwise now.")
PYTHON
