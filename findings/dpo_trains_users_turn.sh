#!/usr/bin/env bash
# TRL's DPO trains the user's words where two conversations part before their last turn.
#
# Packages: torch 2.13.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0, accelerate 1.15.0; Python 3.11, CPU
# Guess: Of chosen and rejected conversations without `prompt` the common beginning is the prompt, and of the rest
#   the assistant's turns count.
# What happens: All of the rest is completion: the user's next message, with its template tokens, is under the
#   completion mask of each side. A user who says thanks after the chosen one, and no after the rejected one, is
#   taught to the student.
# Seen:
#   prompt '<s>user:Q</s><s>assistant:'
#   under the completion mask: chosen 'A</s><s>user:thanks</s><s>assistant:bye</s>', rejected 'B</s><s>user:no!</s><s>assistant:sorry</s>'
# Means: Cut pairs of conversations after the first differing assistant turn, or give `prompt` explicitly;
#   assistant-only masks are an option of SFT, not of DPO.

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


TEMPLATE = """{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor -%}
{% if add_generation_prompt %}<s>assistant:{% endif %}"""
tokenizer = byte_tokenizer(template=TEMPLATE)
torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("student")


def conversation(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


pair = {"chosen": conversation("Q", "A", "thanks", "bye"), "rejected": conversation("Q", "B", "no!", "sorry")}
config = DPOConfig(output_dir="out", report_to=[], use_cpu=True, disable_tqdm=True, per_device_train_batch_size=2)
trainer = DPOTrainer("student", args=config, train_dataset=Dataset.from_list([pair] * 2), processing_class=tokenizer)
row = trainer.train_dataset[0]
batch = trainer.data_collator([row])
trained = [tokenizer.decode(ids[mask.bool()]) for ids, mask in zip(batch["input_ids"], batch["completion_mask"])]
print(f"seen: prompt {tokenizer.decode(row['prompt_ids'])!r}")
print(f"seen: under the completion mask: chosen {trained[0]!r}, rejected {trained[1]!r}")
if "user:thanks" not in trained[0] or "user:no!" not in trained[1]:
    sys.exit("The user's turns are not part of the completion now.")
PYTHON
