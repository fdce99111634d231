#!/usr/bin/env bash
# TRL's DPO trains weighted pairs, and pairs with an SFT loss, but not both.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0, accelerate 1.15.0; Python 3.11, CPU
# Guess: use_weighting (WPO) and loss_type=['sigmoid', 'sft'] are documented options that do not exclude each other:
#   they can be combined, or the config refuses them.
# What happens: The config and the trainer take them; the first step raises a RuntimeError about memory, as the SFT
#   loss is one number expanded to the batch, and the weights are multiplied into it in place.
# Seen:
#   use_weighting: trains
#   loss_type sigmoid + sft: trains
#   both: RuntimeError: unsupported operation: more than one element of the written-to tensor refers to a single memory location
# Means: Try each combination of options for one step before a long job is queued; an error that names tensors and
#   not options may be about the options.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile trl==1.16.0 transformers==5.23.0 datasets==5.2.0 \
  accelerate==1.15.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer


def byte_tokenizer(*special, template=None):
    """One token a byte, plus special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>", "<pad>", *special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


tokenizer = byte_tokenizer()
torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("student")
pairs = Dataset.from_list([{"prompt": "p", "chosen": " good", "rejected": " bad"}] * 4)


def train(**options):
    how = dict(max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, disable_tqdm=True)
    config = DPOConfig(output_dir="out", save_strategy="no", **how, **options)
    try:
        DPOTrainer("student", args=config, train_dataset=pairs, processing_class=tokenizer).train()
    except RuntimeError as error:
        return f"RuntimeError: {str(error).split('.')[0]}"
    return "trains"


anchored = dict(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0])
seen = [train(use_weighting=True), train(**anchored), train(use_weighting=True, **anchored)]
for name, result in zip(("use_weighting", "loss_type sigmoid + sft", "both"), seen):
    print(f"seen: {name}: {result}")
if seen[:2] != ["trains", "trains"] or "more than one element" not in seen[2]:
    sys.exit("Weighting and the sft loss together do something else now.")
PYTHON
