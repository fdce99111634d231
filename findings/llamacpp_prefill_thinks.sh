#!/usr/bin/env bash
# A prefill puts an empty thought before it, and comes back only when the reply is not streamed.
#
# Packages: xllamacpp 2026.10.11549, gguf 0.19.0, numpy 2.4.6, trl 1.16.0 (for Qwen 3's template); Python 3.11, CPU
# Guess: A last message of the assistant is continued where it ends, after the prompt that the question alone would
#   get; the reply is the new text.
# What happens: With Qwen 3's template the question alone leaves the thought to the model; with a prefill the prompt
#   holds an empty, closed thought before it. The plain reply repeats the prefill, the streamed one does not.
# Seen:
#   question alone, the prompt ends with '<|im_start|>assistant\n'
#   with the prefill 'Sure, the'         '<|im_start|>assistant\n<think>\n\n</think>\n\nSure, the'
#   content begins with the prefill: True; streamed: False
# Means: A judge or teacher that is steered by a prefill (`Verdict:`) answers without thinking, and code that strips
#   (or adds) the prefill is right for one of the two kinds of reply.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 \
  tqdm==4.70.1 pyyaml==6.0.4 requests==2.34.2 urllib3==2.8.0 certifi==2026.10.19.post1 charset-normalizer==3.5.3 \
  idna==3.20
"$folder/venv/bin/pip" install --quiet --no-compile --no-deps trl==1.16.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import pathlib
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


template = next(pathlib.Path(sys.prefix).rglob("chat_templates/qwen3.jinja")).read_text()
write_gguf("student.gguf", template)
server = serve("student.gguf")
question, prefill = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Sure, the"}


def tail(*messages):
    return post(server, "/apply-template", messages=messages)["prompt"].split("hi<|im_end|>\n")[1]


plain, filled = tail(question), tail(question, prefill)
print(f"question alone, the prompt ends with {plain!r}")
print(f"with the prefill 'Sure, the'         {filled!r}")
asked = dict(messages=[question, prefill], max_tokens=3, temperature=0)
content = post(server, "/v1/chat/completions", **asked)["choices"][0]["message"]["content"]
address = server.listening_address + "/v1/chat/completions"
with urllib.request.urlopen(address, json.dumps(asked | {"stream": True}).encode()) as stream:
    lines = stream.read().decode().split("\n")
deltas = [json.loads(line[6:])["choices"][0]["delta"].get("content") for line in lines if line.startswith("data: {")]
streamed = "".join(delta or "" for delta in deltas)
print(
    f"content begins with the prefill: {content.startswith('Sure, the')}; streamed: {streamed.startswith('Sure, the')}"
)
if (
    "<think>" in plain
    or "<think>\n\n</think>" not in filled
    or not content.startswith("Sure")
    or streamed.startswith("Sure")
):
    sys.exit("A prefill is rendered or given back otherwise now.")
PYTHON
