#!/usr/bin/env bash
# TRL's DPO on Nemotron 3 trains `</think>` as the first token of a plain completion.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0, accelerate 1.15.0; Python 3.11, CPU
# Guess: The prompt is the generation prompt as it is served, and the completion is what the assistant's message
#   says.
# What happens: The served prompt ends with `<think>` and a line break. A completion without a thought is rendered
#   as `<think></think>good`, so the common beginning ends after `<think>`: training never shows the line break, and
#   teaches to close the thought at once. TRL's log says once, in general words, that the prompt is no prefix.
# Seen:
#   trained prompt ends with '>assistant\n<think>', its chosen completion is '</think>good<|im_end|>\n'
#   served prompt ends with  '>assistant\n<think>\n'
# Means: Decode prompt and completion of one prepared row, and compare with what the server sends, before training a
#   family that thinks.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile trl==1.16.0 transformers==5.23.0 datasets==5.2.0 \
  accelerate==1.15.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import pathlib
import sys

import torch
import trl
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


special = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
template = (pathlib.Path(trl.__file__).parent / "chat_templates" / "nemotron_3_nano.jinja").read_text()
tokenizer = byte_tokenizer(*special, template=template)
torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("student")
question, good, bad = (
    [{"role": r, "content": c}] for r, c in (("user", "Q"), ("assistant", "good"), ("assistant", "bad"))
)
pairs = Dataset.from_list([{"prompt": question, "chosen": good, "rejected": bad}] * 2)
config = DPOConfig(output_dir="out", report_to=[], use_cpu=True, disable_tqdm=True, per_device_train_batch_size=2)
row = DPOTrainer("student", args=config, train_dataset=pairs, processing_class=tokenizer).train_dataset[0]
prompt, chosen = tokenizer.decode(row["prompt_ids"]), tokenizer.decode(row["chosen_ids"])
served = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
print(f"seen: trained prompt ends with {prompt[-18:]!r}, its chosen completion is {chosen!r}")
print(f"seen: served prompt ends with  {served[-19:]!r}")
if not (prompt.endswith("<think>") and chosen.startswith("</think>good") and served.endswith("<think>\n")):
    sys.exit("The cut between prompt and completion lies elsewhere now.")
PYTHON
