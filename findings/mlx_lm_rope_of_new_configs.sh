#!/usr/bin/env bash
# mlx-lm runs a model that transformers 5 has saved with another rotary base, without an error.
#
# Packages: mlx-lm 0.32.2, mlx 0.32.4, transformers 5.23.0; Python 3.11, CPU
# Guess: A Llama that transformers saves is read by mlx-lm as it was, or refused.
# What happens: transformers 5 writes the rotary base as rope_parameters.rope_theta alone; mlx-lm's llama looks for
#   rope_theta at the top of config.json, finds none, and takes its default of 10,000. On SmolLM2-135M (100,000) logits
#   were off by 1.3, and 22 of 72 greedy tokens were the model's own; with rope_theta beside it the difference is 6e-5.
# Seen:
#   config.json: {'rope_parameters': {'rope_theta': 100000.0, 'rope_type': 'default'}}
#   mlx-lm takes 10000
# Means: Write rope_theta at the top of config.json, too, before a directory goes to mlx-lm.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile mlx==0.32.4 mlx-cpu==0.32.4 \
  mlx-lm==0.32.2 transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys

from mlx_lm.models.llama import ModelArgs
from transformers import LlamaConfig

sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
rope = {"rope_type": "default", "rope_theta": 100000.0}
LlamaConfig(**sizes, rope_parameters=rope).save_pretrained("saved")
with open("saved/config.json") as file:
    config = json.load(file)
print("config.json:", {k: v for k, v in config.items() if "rope" in k})
taken = ModelArgs.from_dict(config).rope_theta
print("mlx-lm takes", taken)
if taken != 10000 or "rope_theta" in config:
    sys.exit("The rotary base comes through now.")
PYTHON
