#!/usr/bin/env bash
# Log-probabilities under a grammar or a bias are the model's own, without either.
#
# Packages: xllamacpp 2026.10.11549, gguf 0.19.0, numpy 2.4.6; Python 3.11, CPU
# Guess: With a grammar of two words, the probabilities of the two sum to one; a bias of 100 makes its token's
#   nearly one.
# What happens: The entry holds the probability before the grammar and the bias, among the whole vocabulary. The
#   chosen token need not be among its own entry's top_logprobs.
# Seen:
#   grammar: chose 'N' with probability 0.0021; among its own top_logprobs: False
#   logit_bias: chose 'Y' with probability 0.0028; among its own top_logprobs: False
# Means: A judge that is held to Y or N and read for its confidence has to ask for both words' log-probabilities and
#   normalise them; exp(logprob) of the chosen word is no confidence.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 \
  tqdm==4.70.1 pyyaml==6.0.4 requests==2.34.2 urllib3==2.8.0 certifi==2026.10.19.post1 charset-normalizer==3.5.3 \
  idna==3.20
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import math
import sys
import urllib.request

import gguf
import numpy as np
import xllamacpp


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf(path, template):
    """A random llama of two layers whose tokens are single bytes; a byte's token has the byte's number."""
    rng, width, hidden, heads = np.random.default_rng(0), 64, 128, 4
    # GPT-2's letters for bytes: these stand for themselves.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    special = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokens = [chr(b) if b in plain else chr(next(other)) for b in range(256)] + special
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_context_length, 2048),
        (writer.add_embedding_length, width),
        (writer.add_block_count, 2),
        (writer.add_feed_forward_length, hidden),
        (writer.add_head_count, heads),
        (writer.add_head_count_kv, heads),
        (writer.add_rope_dimension_count, width // heads),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_vocab_size, len(tokens)),
        (writer.add_tokenizer_model, "gpt2"),
        (writer.add_tokenizer_pre, "gpt-2"),
        (writer.add_token_list, tokens),
        (writer.add_token_types, [1] * 256 + [3] * len(special)),
        (writer.add_token_merges, ["a b"]),
        (writer.add_bos_token_id, 257),
        (writer.add_eos_token_id, 257),
        (writer.add_add_bos_token, False),
        (writer.add_chat_template, template),
    ):
        add(value)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width)}
    for layer in range(2):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{part}"] = (width, width)
        shapes[f"blk.{layer}.ffn_gate"] = shapes[f"blk.{layer}.ffn_up"] = (hidden, width)
        shapes[f"blk.{layer}.ffn_down"] = (width, hidden)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.15, shape).astype(np.float32))
    for name in ("output_norm", *(f"blk.{layer}.{part}_norm" for layer in range(2) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
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


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
write_gguf("student.gguf", TEMPLATE)
server = serve("student.gguf")


def verdict(**more):
    question = [{"role": "user", "content": "Is the first one better?"}]
    asked = dict(messages=question, max_tokens=1, temperature=1.0, seed=3, logprobs=True, top_logprobs=5)
    entry = post(server, "/v1/chat/completions", **asked, **more)["choices"][0]["logprobs"]["content"][0]
    return entry["token"], math.exp(entry["logprob"]), [top["token"] for top in entry["top_logprobs"]]


ways = {"grammar": {"grammar": 'root ::= "Y" | "N"'}, "logit_bias": {"logit_bias": [["Y", 100]]}}
seen = {}
for name, more in ways.items():
    seen[name] = token, p, top = verdict(**more)
    print(f"{name}: chose {token!r} with probability {p:.4f}; among its own top_logprobs: {token in top}")
if any(p > 0.3 or token in top for token, p, top in seen.values()):
    sys.exit("Log-probabilities are those after the grammar or the bias now.")
PYTHON
