#!/usr/bin/env bash
# On a CPU with AVX512-BF16 one evaluation ends what a 4-bit layer's training learns from, and what is saved of it.
#
# Packages: bitsandbytes 0.50.2, torch 2.13.0; Python 3.11, CPU
# Guess: Linear4bit computes from frozen weights in one format: an evaluation between two training steps leaves both
#   the weights and the gradients through them as they were, and a model saved after it is the one that was read.
# What happens: On CPUs with AVX512-BF16 a Linear4bit in eval() repacks its weight in place at its first forward pass.
#   1. It stays packed when train() is called, and the packed kernel has no gradient: after that one evaluation nothing
#      flows back through the layer, with a warning of PyTorch's at most, and loss goes on being printed.
#   2. To save it, the weight is unpacked: its numbers come back as they were, its blocks' scales come back rounded to
#      bf16 and, without double quantization (the default), transposed: the saved file holds another model.
#   3. A layer of fewer inputs than a block has weights cannot be packed at all: its first evaluation raises.
#   2 and 3 are shown by the functions that the layer calls, which are plain torch and run on any CPU; 1 where the CPU
#   has the instructions.
# Seen:
#   saved after an evaluation: numbers as before: True; weights off by up to 3.0 of 4.3; scales of shape [4, 64]
#   a layer of 32 inputs: RuntimeError: shape '[32, 0]' is invalid for input of size 16
#   gradient of the layer's input: before an evaluation True, after it False
# Means: QLoRA on such a CPU with an evaluation before or within training trains the last layers alone, and the same
#   test passes on one CPU and fails on the next. layer.support_avx512bf16_for_cpu = False leaves the weights as read.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile bitsandbytes==0.50.2 torch==2.13.0
cat > "$folder/evaluates.py" <<'PYTHON'
import sys

import torch
from bitsandbytes.functional import _convert_weight_packed_for_cpu as pack
from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse as unpack
from bitsandbytes.functional import dequantize_4bit, has_avx512bf16, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit

torch.manual_seed(0)
weights = torch.randn(64, 256) * torch.rand(64, 1)
read, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
before = dequantize_4bit(read, state)
back, again = unpack(*pack(read.clone(), state))
after = dequantize_4bit(back, again)
same, off = torch.equal(back, read), (after - before).abs().max().item()
told = f"weights off by up to {off:.1f} of {before.abs().max():.1f}; scales of shape {list(again.absmax.shape)}"
print(f"saved after an evaluation: numbers as before: {same}; {told}")

narrow, state = quantize_4bit(torch.randn(32, 32), blocksize=64, quant_type="nf4")
try:
    pack(narrow, state)
    refused = ""
except RuntimeError as error:
    refused = f"RuntimeError: {error}"
print(f"a layer of 32 inputs: {refused}")

flows = []
if has_avx512bf16():
    layer = Linear4bit(256, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    frozen = Params4bit(weights, requires_grad=False, quant_type="nf4", compress_statistics=False, module=layer)
    layer.weight = frozen.to("cpu")
    for evaluated in (False, True):
        if evaluated:
            with torch.no_grad():
                layer.eval()(torch.randn(3, 256))
        given = torch.randn(3, 256, requires_grad=True)
        layer.train()(given).sum().backward()
        flows.append(given.grad is not None)
    print(f"gradient of the layer's input: before an evaluation {flows[0]}, after it {flows[1]}")
else:
    print("gradient of the layer's input: this CPU has no AVX512-BF16")
if not same or off < 1 or "is invalid" not in refused or flows not in ([], [True, False]):
    sys.exit("4-bit weights come back from the CPU's format as they went in now, or an evaluation leaves them.")
PYTHON
"$folder/venv/bin/python" "$folder/evaluates.py" 2>"$folder/warnings" || { cat "$folder/warnings"; exit 1; }
