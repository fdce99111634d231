#!/usr/bin/env bash
# llama.cpp tells log-probabilities by character, not by token, and only the last token's.
#
# Packages: xllamacpp 2026.10.11549, gguf 0.19.0, numpy 2.4.6; Python 3.11, CPU
# Guess: logprobs.content has one entry for each token that usage counts; their sum is the completion's
#   log-probability.
# What happens: A token that ends inside a character has no entry. The entry of the token that completes it carries
#   the bytes of the whole character and the log-probability of that token alone.
# Seen:
#   'aé€b' in 7 tokens: 4 entries, of [1, 2, 3, 1] bytes
#   the four entries sum to -28.78, the seven tokens to -48.19
#   each entry is its character's last token alone: [-7.51, -7.2, -6.03, -8.04], [-7.51, -7.2, -6.03, -8.04]
# Means: Sums and means over entries are wrong for texts with other than ASCII characters where the vocabulary
#   splits them (small vocabularies, rare scripts). Compare the number of entries with usage.completion_tokens and
#   score by ids where they differ.

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
server = serve("student.gguf")
messages, text = [{"role": "user", "content": "hi"}], "aé€b"
asked = dict(messages=messages, max_tokens=20, temperature=0, logprobs=True, grammar=f'root ::= "{text}"')
reply = post(server, "/v1/chat/completions", **asked)
entries = [e for e in reply["choices"][0]["logprobs"]["content"] if e["bytes"]]
tokens = reply["usage"]["completion_tokens"] - 1  # without the end of the turn
print(f"{text!r} in {tokens} tokens: {len(entries)} entries, of {[len(e['bytes']) for e in entries]} bytes")

prompt = post(server, "/apply-template", messages=messages)["prompt"]
prompt = post(server, "/tokenize", content=prompt, parse_special=True)["tokens"]
single = []
for token in text.encode():  # a byte's token has the byte's number; "a" is forced so that there is an entry to read
    asked = dict(prompt=prompt, n_predict=1, temperature=0, n_probs=260, logit_bias=[[ord("a"), 100]])
    ranks = post(server, "/completion", **asked)["completion_probabilities"][0]["top_logprobs"]
    single.append(next(rank["logprob"] for rank in ranks if rank["id"] == token))
    prompt = [*prompt, token]
print(f"the four entries sum to {sum(e['logprob'] for e in entries):.2f}, the seven tokens to {sum(single):.2f}")
last = [single[0], single[2], single[5], single[6]]
told = [round(entry["logprob"], 2) for entry in entries]
print(f"each entry is its character's last token alone: {told}, {[round(x, 2) for x in last]}")
if len(entries) != 4 or tokens != 7 or any(abs(e["logprob"] - x) > 0.05 for e, x in zip(entries, last)):
    sys.exit("Every token has an entry of its own now, or an entry is its characters' sum.")
PYTHON
