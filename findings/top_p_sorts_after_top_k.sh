#!/usr/bin/env bash
# Sampling with top_k=50 and top_p sorts the whole vocabulary at every token.
#
# Packages: torch 2.13.0, transformers 5.23.0; Python 3.11, CPU
# Guess: top_k comes first and leaves 50 candidates, so top_p sorts 50.
# What happens: top_k masks the others with -inf and leaves them there; top_p then sorts all 49,152 of each row.
#   With 64 rows that took 0.14 s of a step on two CPU cores.
# Seen:
#   top_k=50: sorts nothing; top_k=50 and top_p=0.95: sorts {(16, 49152)}
# Means: For sampling at large batches on CPUs, take the k largest first and sample among them in a logits processor
#   or a sampler of one's own.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile transformers==5.23.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(vocab_size=49152, **shape)).eval()
prompt = torch.randint(3, 49152, (16, 4))


def sorted_shapes(**sampling):
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        model.generate(prompt, max_new_tokens=1, do_sample=True, pad_token_id=0, **sampling)
    return {tuple(event.input_shapes[0]) for event in record.events() if event.name == "aten::sort"}


only_k, both = sorted_shapes(top_k=50), sorted_shapes(top_k=50, top_p=0.95)
print(f"top_k=50: sorts {only_k or 'nothing'}; top_k=50 and top_p=0.95: sorts {both}")
if only_k or both != {(16, 49152)}:
    sys.exit("What sampling sorts has changed.")
PYTHON
