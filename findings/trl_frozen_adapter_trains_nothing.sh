#!/usr/bin/env bash
# TRL's SFT runs to its end on a PEFT adapter that was loaded frozen.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, peft 0.21.2, datasets 5.2.0, accelerate 1.15.0; Python
#   3.11, CPU
# Guess: A model without one trainable tensor is refused, or backward() raises.
# What happens: PeftModel.from_pretrained loads for inference. The trainer makes the inputs require a gradient for
#   checkpointing, so that backward() finds a path: steps, losses and a checkpoint, and no tensor has changed (the
#   log's grad_norm is 0).
# Seen:
#   is_trainable=False: losses [5.628, 5.628, 5.628], 0 tensors changed, no error
#   is_trainable=True: losses [5.628, 5.558, 5.513], 8 tensors changed, no error
# Means: Continuing an adapter's training needs is_trainable=True; count the trainable tensors before, and the
#   changed ones after.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile trl==1.16.0 transformers==5.23.0 peft==0.21.2 datasets==5.2.0 \
  accelerate==1.15.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
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


def base():
    torch.manual_seed(0)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))


def train(**loading):
    model = PeftModel.from_pretrained(base(), "adapter", **loading)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    how = dict(max_steps=3, learning_rate=0.01, logging_steps=1, per_device_train_batch_size=2, disable_tqdm=True)
    config = SFTConfig(output_dir="out", report_to=[], use_cpu=True, save_strategy="no", **how)
    rows = Dataset.from_list([{"text": "the mill stood by the river"}] * 8)
    trainer = SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    losses = [round(entry["loss"], 3) for entry in trainer.state.log_history if "loss" in entry]
    return losses, sum(not torch.equal(before[name], value) for name, value in model.state_dict().items())


adapter = get_peft_model(base(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
adapter.save_pretrained("adapter")
seen = {loading: train(**({"is_trainable": True} if loading else {})) for loading in (False, True)}
for loading, (losses, changed) in seen.items():
    print(f"seen: is_trainable={loading}: losses {losses}, {changed} tensors changed, no error")
if seen[False][1] != 0 or seen[True][1] == 0:
    sys.exit("SFTTrainer trains, or refuses, an adapter that was loaded for inference now.")
PYTHON
