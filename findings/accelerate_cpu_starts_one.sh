#!/usr/bin/env bash
# accelerate launch --cpu --num_processes 2 starts one process, without a word.
#
# Packages: accelerate 1.15.0, torch 2.13.0, numpy 2.4.6; Python 3.11, CPU
# Guess: As with GPUs, the number says how many processes train; on a CPU they speak by gloo.
# What happens: --cpu goes to the launcher of single processes: without an MPI set-up the script runs once, with one
#   process and no distributed state, and exit status 0. --multi_gpu with ACCELERATE_USE_CPU=true in the environment
#   starts two, which find each other by gloo.
# Seen:
#   --cpu: ['world 1 DistributedType.NO']; --multi_gpu and ACCELERATE_USE_CPU: ['world 2 DistributedType.MULTI_CPU',
#   'world 2 DistributedType.MULTI_CPU']
# Means: A test of distributed training on CPUs by --cpu passes without having tested anything; assert the world's size.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
cat > worker.py <<'PYTHON'
from accelerate import Accelerator

state = Accelerator().state
print("world", state.num_processes, state.distributed_type, flush=True)
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

common = "--num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no".split()


def worlds(*options: str) -> list[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *common, "worker.py"]
    told = subprocess.run(
        command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True, check=True
    )
    return [line for line in told.stdout.splitlines() if line.startswith("world")]


by_cpu, by_gpu = worlds("--cpu"), worlds("--multi_gpu", "--main_process_port", "0")
print(f"--cpu: {by_cpu}; --multi_gpu and ACCELERATE_USE_CPU: {by_gpu}")
if [len(by_cpu), len(by_gpu)] != [1, 2] or "world 1" not in by_cpu[0]:
    sys.exit("accelerate launch --cpu starts as many processes as it is asked for now.")
PYTHON
