#!/usr/bin/env bash
# TRL leaves out rows whose prompt fills max_length, and KTO trains on none of them and returns.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0, accelerate 1.15.0; Python 3.11, CPU
# Guess: A row longer than max_length (1,024) is cut somewhere and trained, or refused.
# What happens: Cutting keeps the start, so nothing of the completion is left, and the row is dropped; a progress
#   bar is all that says so. Where every row is dropped SFT and DPO stop at the first step with a ValueError about
#   num_samples; KTO's train() returns at once with loss 0.
# Seen:
#   rows left of 4, two of them with 1,100 tokens of prompt: {'SFTTrainer': 2, 'DPOTrainer': 2, 'KTOTrainer': 2}
#   KTO on 4 long ones: 0 rows, training_loss 0.0
# Means: Compare len(trainer.train_dataset) with the rows that were given, and fail on a difference.

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
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer


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
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("student")
long, short = "p" * 1100, "p"
columns = {
    SFTTrainer: {"completion": " good"},
    DPOTrainer: {"chosen": " good", "rejected": " bad"},
    KTOTrainer: {"completion": " good"},
}
configs = {SFTTrainer: SFTConfig, DPOTrainer: DPOConfig, KTOTrainer: KTOConfig}


def trainer(kind, prompts):
    rows = [{"prompt": prompt, **columns[kind]} for prompt in prompts]
    if kind is KTOTrainer:
        rows = [{**row, "label": i % 2 == 0} for i, row in enumerate(rows)]
    how = dict(max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, disable_tqdm=True)
    config = configs[kind](output_dir="out", save_strategy="no", **how)
    return kind("student", args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


left = {kind.__name__: len(trainer(kind, [long, long, short, short]).train_dataset) for kind in columns}
print(f"seen: rows left of 4, two of them with 1,100 tokens of prompt: {left}")
nothing = trainer(KTOTrainer, [long] * 4)
print(f"seen: KTO on 4 long ones: {len(nothing.train_dataset)} rows, training_loss {nothing.train().training_loss}")
if set(left.values()) != {2} or len(nothing.train_dataset):
    sys.exit("Rows whose prompt fills max_length are no longer dropped.")
PYTHON
