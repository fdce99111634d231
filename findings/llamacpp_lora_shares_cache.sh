#!/usr/bin/env bash
# A llama.cpp server's cache of a prompt survives a change of the adapter's scale.
#
# Packages: xllamacpp 2026.10.11549, gguf 0.19.0, numpy 2.4.6; Python 3.11, CPU
# Guess: What a slot keeps of a prompt belongs to the adapter scale it was read with: another scale reads it anew.
# What happens: A request with another explicit scale does. One without the field `lora` means the server's own
#   scale, yet continues from what the last explicit scale left: its log-probabilities are neither model's, and an
#   explicit request of the same scale then takes over the wrong cache.
# Seen:
#   fresh server, no field: log-probability of the first token -3.413, 0 tokens from the cache
#   scale 0: log-probability of the first token -2.807, 0 tokens from the cache
#   no field: log-probability of the first token -2.759, 197 tokens from the cache
#   scale 1: log-probability of the first token -2.759, 197 tokens from the cache
#   scale 1 on a server of its own: -3.413
# Means: Name the scale in every request, or switch off cache_prompt, or run a server for each adapter.

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
rng = np.random.default_rng(1)
writer = gguf.GGUFWriter("adapter.gguf", "llama")
writer.add_type("adapter")
writer.add_string("adapter.type", "lora")
writer.add_float32("adapter.lora.alpha", 8.0)
for layer in range(2):
    for side, shape in (("a", (4, 64)), ("b", (64, 4))):
        writer.add_tensor(f"blk.{layer}.attn_v.weight.lora_{side}", rng.normal(0, 0.3, shape).astype(np.float32))
finish(writer)


def first_token(server, **lora):
    asked = dict(messages=[{"role": "user", "content": "x" * 180}], max_tokens=8, temperature=0, logprobs=True)
    reply = post(server, "/v1/chat/completions", **asked, **lora)
    entry = reply["choices"][0]["logprobs"]["content"][0]
    return round(entry["logprob"], 3), reply["usage"]["prompt_tokens_details"]["cached_tokens"]


server = serve("student.gguf", ["adapter.gguf"])
steps = [("fresh server, no field", {}), ("scale 0", {"lora": [{"id": 0, "scale": 0.0}]}), ("no field", {})]
steps.append(("scale 1", {"lora": [{"id": 0, "scale": 1.0}]}))
seen = {}
for name, field in steps:
    seen[name] = first_token(server, **field)
    print(f"{name}: log-probability of the first token {seen[name][0]}, {seen[name][1]} tokens from the cache")
right = first_token(serve("student.gguf", ["adapter.gguf"]), lora=[{"id": 0, "scale": 1.0}])
print(f"scale 1 on a server of its own: {right[0]}")
if seen["fresh server, no field"][0] != right[0] or seen["no field"][0] == right[0] or seen["scale 1"][0] == right[0]:
    sys.exit("A request that names no scale no longer takes over the cache of another scale.")
PYTHON
