#!/usr/bin/env bash
# accelerate launch and torchrun start each process in a session of its own, which no signal to their group reaches.
#
# Packages: accelerate 1.15.0, torch 2.13.0, numpy 2.4.6; Python 3.11, CPU
# Guess: A training that is started in a process group of its own, as servers start it, is paused, woken and ended by
#   a signal to that group, with whatever the launcher has started.
# What happens: PyTorch's elastic agent calls Popen with start_new_session=True, so each worker leads another session
#   and another group. After SIGKILL to the group the launcher is gone and the workers go on (or wait for each other
#   until a time-out); after SIGSTOP they compute on, beside whoever the pause was for. There is no option for it.
# Seen:
#   workers in the launcher's group: 0 of 2; alive 3 s after SIGKILL to the group: 2 of 2
# Means: Who pauses or ends such a training signals every descendant, or has each worker watch its parent, or replaces
#   torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler's _popen and close.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
cat > worker.py <<'PYTHON'
import os
import pathlib
import time

pathlib.Path(f"worker-{os.getpid()}").write_text(str(os.getpgid(0)))
time.sleep(60)
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import os
import pathlib
import signal
import subprocess
import sys
import time

launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
command = [sys.executable, *launch.split(), "--dynamo_backend", "no", "--main_process_port", "0", "worker.py"]
launcher = subprocess.Popen(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, process_group=0)
deadline = time.monotonic() + 120
while len(workers := list(pathlib.Path().glob("worker-*"))) < 2 or not all(w.read_text() for w in workers):
    if time.monotonic() > deadline:
        sys.exit("The workers did not start.")
    time.sleep(0.1)
pids = [int(w.name.partition("-")[2]) for w in workers]
inside = sum(int(w.read_text()) == launcher.pid for w in workers)
os.killpg(launcher.pid, signal.SIGKILL)
launcher.wait()
time.sleep(3)
alive = []
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
        alive.append(pid)
    except ProcessLookupError:
        pass
print(f"workers in the launcher's group: {inside} of 2; alive 3 s after SIGKILL to the group: {len(alive)} of 2")
if inside or len(alive) < 2:
    sys.exit("Workers belong to the launcher's group, or end with it, now.")
PYTHON
