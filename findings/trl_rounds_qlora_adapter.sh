#!/usr/bin/env bash
# TRL rounds the adapter of a 4-bit model to bf16, where most of a small step is lost.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, peft 0.21.2, bitsandbytes 0.50.2, datasets 5.2.0,
#   accelerate 1.15.0; Python 3.11, CPU
# Guess: bf16=False trains the adapter in the fp32 that PEFT has made it in, whatever the frozen base is stored in.
# What happens: The trainers' constructors cast all adapter weights to bf16 where the base is in 4 or 8 bits, without a
#   warning; the optimizer steps in bf16, too. An adapter that is trained further is rounded before its first step, and
#   a step below half of a weight's last place changes nothing.
# Seen:
#   (weights about 0.1, 5 steps of AdamW at 1e-5)
#   base in 32 bits: adapter {torch.float32} becomes {torch.float32}, 100% of its weights changed
#   base in 4 bits: adapter {torch.float32} becomes {torch.bfloat16}, 3% of its weights changed
# Means: Before an adapter is trained further at a usual rate of RLHF, look at its dtype in the trainer, and cast it
#   back to fp32.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile trl==1.16.0 transformers==5.23.0 peft==0.21.2 datasets==5.2.0 \
  accelerate==1.15.0 tokenizers==0.23.3 bitsandbytes==0.50.2
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
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


def folder():
    torch.manual_seed(0)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("base")


def base(bits):
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    options = {"quantization_config": four, "device_map": {"": "cpu"}} if bits == 4 else {}
    return LlamaForCausalLM.from_pretrained("base", dtype=torch.float32, **options)


def train(bits):
    """(the adapter's dtypes before and in the trainer, share of its weights that five steps changed)"""
    model = PeftModel.from_pretrained(base(bits), "adapter", is_trainable=True)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    first = {p.dtype for p in trained.values()}
    how = dict(max_steps=5, learning_rate=1e-5, lr_scheduler_type="constant", weight_decay=0.0)
    config = SFTConfig(
        output_dir="out", report_to=[], use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, **how
    )
    rows = Dataset.from_list([{"text": "the mill stood by the river"}] * 64)
    trainer = SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    made = {p.dtype for p in trained.values()}
    before = {name: p.detach().clone() for name, p in trained.items()}
    trainer.train()
    changed = sum((before[name] != p).sum().item() for name, p in trained.items())
    return first, made, changed / sum(p.numel() for p in trained.values())


folder()
torch.manual_seed(1)
adapter = get_peft_model(base(16), LoraConfig(r=8, target_modules="all-linear"))
with torch.no_grad():
    for name, p in adapter.named_parameters():
        if p.requires_grad:
            p.normal_(0, 0.1)
adapter.save_pretrained("adapter")
seen = {bits: train(bits) for bits in (16, 4)}
for bits, (first, made, share) in seen.items():
    name = f"base in {4 if bits == 4 else 32} bits"
    print(f"seen: {name}: adapter {first} becomes {made}, {share:.0%} of its weights changed")
if seen[4][1] != {torch.bfloat16} or seen[4][2] > seen[16][2] / 2:
    sys.exit("SFTTrainer trains the adapter of a 4-bit model in fp32 now.")
PYTHON
