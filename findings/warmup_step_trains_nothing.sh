#!/usr/bin/env bash
# Any warm-up makes the first step of a training a step of nothing.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0, accelerate 1.15.0; Python 3.11, CPU
# Guess: warmup_steps=1 of a short training means that the first step is a small one, or that the rate is full from
#   the first step on.
# What happens: The schedule gives step i of n the rate i/n, and i begins at 0: the first step has rate 0. With one
#   step and warmup_steps=1 the training runs, logs a loss, and changes no weight at all. A share (0.1) of a few
#   steps is rounded up to one such step.
# Seen:
#   max_steps=1, warmup_steps=0: rates [0.01], head moved by 0.0100
#   max_steps=1, warmup_steps=1: rates [0.0], head moved by 0.0000
#   max_steps=4, warmup_steps=0.1: rates [0.0, 0.01, 0.0067, 0.0033], head moved by 0.0200
# Means: Trainings of a dozen steps, as on a day's votes, lose a tenth of their data. Set no warm-up, or look at the
#   first learning_rate in the log.

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
from trl import SFTConfig, SFTTrainer


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
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
rows = Dataset.from_list([{"text": "the mill stood by the river"}] * 8)


def moved(steps, warmup):
    """How far one entry of the head moved at most, and the rates told for each step."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
    before = model.lm_head.weight.clone()
    how = dict(max_steps=steps, warmup_steps=warmup, learning_rate=0.01, logging_steps=1, per_device_train_batch_size=2)
    config = SFTConfig(output_dir="out", report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", **how)
    trainer = SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    return (model.lm_head.weight - before).abs().max().item(), rates


seen = {}
for steps, warmup in ((1, 0), (1, 1), (4, 0.1)):
    seen[steps, warmup] = change, rates = moved(steps, warmup)
    rates = [round(rate, 4) for rate in rates]
    print(f"seen: max_steps={steps}, warmup_steps={warmup}: rates {rates}, head moved by {change:.4f}")
if seen[1, 0][0] == 0 or seen[1, 1][0] != 0 or seen[4, 0.1][1][0] != 0:
    sys.exit("The first step of a warm-up has a rate above 0 now.")
PYTHON
