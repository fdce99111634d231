#!/usr/bin/env bash
# A frozen language-model head applied to a slice of the positions goes by bmm, which reads its weight once a row.
#
# Packages: torch 2.13.0; Python 3.11, CPU
# Guess: Freezing the head can only save work; hidden[:, -k:] is one matrix product like any other.
# What happens: torch.matmul folds batch and positions into one matrix product (mm) except where the left side is a
#   non-contiguous slice that needs a gradient and the right side does not: just LoRA under logits_to_keep. Then the
#   head's weight is expanded to one a row and multiplied by bmm. The same positions taken by an index go by mm.
# Seen:
#   head trained  slice [:, -8:]: aten::mm, 0.40 s
#   head trained  index [:, last]: aten::mm, 0.42 s
#   head frozen   slice [:, -8:]: aten::bmm, 1.10 s
#   head frozen   index [:, last]: aten::mm, 0.52 s
# Means: In LoRA training with `logits_to_keep=k`, pass the positions as an index tensor (transformers takes one) or
#   make the slice contiguous.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

head = torch.nn.Linear(576, 49152, bias=False)
hidden = torch.randn(32, 40, 576, requires_grad=True)  # from a backbone that LoRA trains
last = torch.arange(32, 40)


def kind(positions):
    with profile(activities=[ProfilerActivity.CPU]) as record:
        head(positions)
    return sorted({event.key for event in record.key_averages()} & {"aten::mm", "aten::bmm"})


def seconds(positions):
    took = []
    for _ in range(3):
        began = time.perf_counter()
        head(positions)
        took.append(time.perf_counter() - began)
    return min(took)


seen = {}
for trained in (True, False):
    head.weight.requires_grad_(trained)
    for name, positions in {"slice [:, -8:]": hidden[:, -8:], "index [:, last]": hidden[:, last]}.items():
        seen[trained, name] = kind(positions)
        weight = "trained" if trained else "frozen "
        print(f"head {weight}  {name}: {seen[trained, name][0]}, {seconds(positions):.2f} s")
if seen != {
    (True, "slice [:, -8:]"): ["aten::mm"],
    (True, "index [:, last]"): ["aten::mm"],
    (False, "slice [:, -8:]"): ["aten::bmm"],
    (False, "index [:, last]"): ["aten::mm"],
}:
    sys.exit("A frozen head applied to a slice is no longer the one case that goes by bmm.")
PYTHON
