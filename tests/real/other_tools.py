"""Files that other tools write, and adapters that they read: `python -m tests.real.other_tools [VENV]` runs them.

Argilla's records and Label Studio's exports are imported; an MLX adapter is loaded by mlx-lm and compared with the
version's own greedy tokens. The tools are installed into VENV (a new temporary one where none is named), some 1.5 GB.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("argilla==2.8.0", "label-studio-sdk==2.1.2", "mlx[cpu]==0.32.4", "mlx-lm==0.32.2")

ARGILLA = """
import json, sys, uuid
import argilla as rg
from argilla.records._io import GenericIO
asked = {"instruction": "Why is the sea salty?", "response1": "Rivers bring salt.", "response2": "No idea."}
given = [("ranking", ["response2", "response1"], "submitted"), ("ranking", ["response1", "response2"], "discarded")]
responses = [rg.Response(q, value, uuid.uuid4(), status=status) for q, value, status in given]
record = rg.Record(id="1", fields=asked, responses=responses)
for name, flat in (("argilla.json", False), ("argilla_flat.json", True)):
    with open(f"{sys.argv[1]}/{name}", "w") as file:
        json.dump(GenericIO.to_list([record], flatten=flat), file, default=str)
"""

LABEL_STUDIO = """
import json, pathlib, sys
from label_studio_sdk.converter import Converter
CONFIG = '''<View><Text name="q" value="$prompt"/><Pairwise name="pw" toName="answer1,answer2"/>
<Text name="answer1" value="$answer1"/><Text name="answer2" value="$answer2"/></View>'''
data = {"prompt": "Why is the sea salty?", "answer1": "Rivers bring salt.", "answer2": "No idea."}
def annotation(rater, selected, cancelled=False):
    result = [dict(from_name="pw", to_name=["answer1", "answer2"], type="pairwise", value={"selected": selected})]
    return dict(id=rater, completed_by=rater, was_cancelled=cancelled, result=[] if cancelled else result,
                created_at="2026-03-01T10:00:00Z")
task = dict(id=1, data=data, annotations=[annotation(1, "left"), annotation(2, "right"), annotation(3, "left", True)])
folder = pathlib.Path(sys.argv[1])
for name, content in (("one", task), ("many", [task])):  # a file a task, as the server stores them, or a file of all
    (folder / name).mkdir()
    (folder / name / "task.json").write_text(json.dumps(content))
Converter(CONFIG, str(folder)).convert_to_json(str(folder / "one"), str(folder / "json"))
Converter(CONFIG, str(folder)).convert_to_json_min(str(folder / "many"), str(folder / "min"))
"""

MLX = """
import json, sys
import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step
model, _ = load(sys.argv[1], adapter_path=sys.argv[2])
plain, _ = load(sys.argv[1])
told = json.load(open(sys.argv[2] + "/check.json"))
def greedy(model, head, n):
    return [int(t) for t, _ in generate_step(mx.array(head), model, max_tokens=n)]
same = n = other = 0
for head, wanted in zip(told["prompts"], told["completions"]):
    same += sum(a == b for a, b in zip(greedy(model, head, len(wanted)), wanted))
    other += sum(a == b for a, b in zip(greedy(plain, head, len(wanted)), wanted))
    n += len(wanted)
print(f"mlx-lm: {same} of {n} greedy tokens are the version's own, {other} without the adapter")
"""


def installed(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-compile", *PACKAGES], check=True)
    return python


def imported(folder: Path) -> None:
    from kdloop.feedback import imports
    from storage import checkpoints
    from storage.database import open_database

    db = open_database(folder / "home" / "kdloop.db")
    checkpoints.ensure_base(db)
    for name in ("argilla.json", "argilla_flat.json", "json/result.json", "min/result.json"):
        report = imports.import_file(db, folder / name, who="script", train=True)
        print(f"{name}: {report.format}, {dict(report.new)}, {report.ratings} ratings, left out {dict(report.dropped)}")


def adapter(folder: Path, student: str) -> Path:
    """A version's MLX adapter, of a random small LoRA of the embedded student."""
    import torch
    from peft import LoraConfig, get_peft_model

    from kdloop.feedback import versions
    from kdloop.settings import Settings
    from kdloop.student.adopting import adopt
    from kdloop.student.base import read_weights
    from storage import checkpoints
    from storage.database import open_database

    torch.manual_seed(1)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])
    model = get_peft_model(read_weights(student, torch.float32), config)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.01)
    model.save_pretrained(folder / "peft")
    settings = Settings(home=folder / "other", student=student)
    checkpoints.ensure_base(open_database(settings.db))
    print(versions.write(settings, adopt(settings, folder / "peft", "script"), "mlx", folder / "mlx"))
    return folder / "mlx"


def with_rotary_base(student: str, out: Path) -> Path:
    """The student as mlx-lm reads it (findings/mlx_lm_rope_of_new_configs.sh)."""
    from kdloop.feedback.exports import name_rotary_base

    shutil.copytree(student, out)
    name_rotary_base(out / "config.json")
    return out


def main() -> None:
    from kdloop.student.base import find_student

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = installed(Path(sys.argv[1]) if sys.argv[1:] else folder / "venv")
        for code in (ARGILLA, LABEL_STUDIO):
            subprocess.run([python, "-c", code, folder], check=True)
        imported(folder)
        student = find_student("", folder / "student")
        command = [python, "-c", MLX, with_rotary_base(student, folder / "base"), adapter(folder, student)]
        found = subprocess.run(command, capture_output=True, text=True)
        print(found.stdout or found.stderr[-2000:])


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    print(json.dumps({"tools": PACKAGES}))
    main()
