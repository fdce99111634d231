#!/usr/bin/env bash
# A seed repeats CTranslate2's samples once: set again before the next call, it changes nothing.
#
# Packages: ctranslate2 4.8.5, torch 2.13.0, transformers 5.23.0, tokenizers 0.23.3; Python 3.11, CPU
# Guess: ctranslate2.set_random_seed(1) before each generate_batch gives the same samples, as torch.manual_seed does.
# What happens: The seed is read when a worker thread of a Generator draws for the first time. Later calls of
#   set_random_seed have no effect on it: the second sample of seed 1 differs from the first, and is the one that goes
#   on after it, whatever the seed. Only a new Generator begins anew.
# Seen:
#   seeds 1, 1, 2 on one Generator: three different samples
#   the same with a new Generator for each: the first two are equal
# Means: A Generator for each seed, or one batch with all samples; a stored seed does not reproduce a single completion.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile ctranslate2==4.8.5 transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import ctranslate2
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
core.add_special_tokens(["<s>", "</s>", "<unk>"])
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
torch.manual_seed(0)
shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
student = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
student.save_pretrained("student")
tokenizer.save_pretrained("student")
TransformersConverter("student").convert("converted")


def sample(generator, seed):
    ctranslate2.set_random_seed(seed)
    how = {"max_length": 8, "sampling_topk": 50, "include_prompt_in_result": False}
    return tuple(generator.generate_batch([["h", "i"]], **how)[0].sequences_ids[0])


one = ctranslate2.Generator("converted", intra_threads=1)
kept = [sample(one, seed) for seed in (1, 1, 2)]
anew = [sample(ctranslate2.Generator("converted", intra_threads=1), seed) for seed in (1, 1, 2)]
print(f"seen: seeds 1, 1, 2 on one Generator: {len(set(kept))} different samples")
print(f"seen: with a new Generator for each: the first two are {'equal' if anew[0] == anew[1] else 'different'}")
if len(set(kept)) != 3 or anew[0] != anew[1]:
    sys.exit("CTranslate2 reads its seed otherwise now.")
PYTHON
