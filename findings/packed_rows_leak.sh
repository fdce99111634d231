#!/usr/bin/env bash
# Packed texts are kept apart only without a cache and without an attention mask.
#
# Packages: torch 2.13.0, transformers 5.23.0 (Llama, sdpa); Python 3.11, CPU
# Guess: position_ids that begin again at 0 tell a model where a packed text begins, whatever else is passed; a mask
#   of ones says nothing.
# What happens: They do, with use_cache=False and no attention_mask. With the default use_cache, or with a mask of
#   ones as every tokenizer and collator returns it, the texts see each other, without a warning.
# Seen:
#   position_ids, use_cache=False: second text's logits are 1.2e-07 from its own
#   position_ids: second text's logits are 4.7e-01 from its own
#   position_ids, use_cache=False, a mask of ones: second text's logits are 4.7e-01 from its own
# Means: A loop of one's own that packs has to pass use_cache=False and drop the mask, and a test has to compare a
#   packed text with the same text alone. Evaluating a packed set with a plain model(**batch) scores other numbers
#   than training saw.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape)).eval()
first, second = torch.randint(0, 300, (1, 7)), torch.randint(0, 300, (1, 5))
packed = torch.cat([first, second], 1)
positions = torch.cat([torch.arange(7), torch.arange(5)])[None]
ones = torch.ones_like(packed)
ways = {
    "position_ids, use_cache=False": dict(use_cache=False),
    "position_ids": dict(),
    "position_ids, use_cache=False, a mask of ones": dict(use_cache=False, attention_mask=ones),
}
off = {}
with torch.no_grad():
    alone = model(second).logits
    for name, arguments in ways.items():
        logits = model(packed, position_ids=positions, **arguments).logits[:, 7:]
        off[name] = (logits - alone).abs().max().item()
        print(f"{name}: second text's logits are {off[name]:.1e} from its own")
isolated, cached, masked = off.values()
if not (isolated < 1e-5 and cached > 0.01 and masked > 0.01):
    sys.exit("Which packed rows see each other has changed.")
PYTHON
