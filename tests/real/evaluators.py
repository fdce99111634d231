"""Other people's evaluations of the student that the app serves, beside `pack measure` on the same tasks: lm-eval and
inspect, each with a task of its own from a pack's held-out part, asked through the API. `python -m tests.real.clients
lm_eval inspect` runs them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kdloop import packs
from kdloop.evaluation.bench.app_process import AppProcess
from kdloop.raters import verifiers
from storage import keys

PACK, A_MINUTE = "intents", keys.MOST_A_MINUTE
SCORED = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True} | {
    "ignore_case": True,
    "ignore_punctuation": True,
}
TABLE = "import json, sys; from lm_eval.utils import make_table; print(make_table(json.load(open(sys.argv[1]))))"


def tasks_file(folder: Path) -> Path:
    lines = (json.dumps({"prompt": t.prompt, "answer": t.answer}) for t in packs.tasks(PACK, "heldout"))
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "tasks.jsonl"


def measured(ours: AppProcess, folder: Path) -> dict:
    """By `pack measure`, in lm-eval's shape."""
    file = folder / "measured.json"
    command = [sys.executable, "-m", "kdloop", "pack", "measure", PACK, "--home", ours.home, "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(file.read_text())


def lm_eval(ours: AppProcess, folder: Path, bin: Path) -> Iterator[str]:
    """`folder` is for its files."""
    task = {"task": PACK, "dataset_path": "json", "test_split": "test", "output_type": "generate_until"}
    task |= {"dataset_kwargs": {"data_files": {"test": str(tasks_file(folder))}}}
    task |= {"doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}", "metric_list": [SCORED]}
    most = packs.load(PACK).max_tokens
    task |= {"generation_kwargs": {"do_sample": False, "max_gen_toks": most, "until": [], "store": False}}
    (folder / "task.yaml").write_text(json.dumps(task))  # JSON is YAML
    asked = f"model=kdloop,base_url={ours.url}/v1/chat/completions"
    command = [bin / "lm_eval", "--model", "local-chat-completions", "--model_args", asked, "--apply_chat_template"]
    command += ["--tasks", folder / "task.yaml", "--output_path", folder, "--log_samples"]
    run(command, folder, OPENAI_API_KEY=keys.new_key(ours.home / "kdloop.db", "lm_eval", A_MINUTE))
    results, samples = (max(folder.rglob(f"{kind}_*"), key=os.path.getmtime) for kind in ("results", "samples"))
    said = {row["doc"]["prompt"]: row["resps"][0][0] for row in map(json.loads, samples.open())}
    found = json.loads(results.read_text())["results"][PACK]
    own = measured(ours, folder)
    yield f"exact_match {found['exact_match,none']:.3f} ± {found['exact_match_stderr,none']:.3f}; {beside(said, own)}"
    tables = [printed([bin / "python", "-c", TABLE, file]) for file in (results, folder / "measured.json")]
    assert all(f"|{PACK}" in table for table in tables), tables
    yield "`pack measure --json` and its own results, both read by `lm_eval.utils.make_table`"


def inspect(ours: AppProcess, folder: Path, bin: Path) -> Iterator[str]:
    command = [bin / "inspect", "eval", f"{Path(__file__).with_name('inspect_task.py')}@pack"]
    command += ["-T", f"file={tasks_file(folder)}", "-T", f"max_tokens={packs.load(PACK).max_tokens}"]
    command += ["--model", "openai-api/student/kdloop", "--log-dir", folder / "logs", "--log-format", "json"]
    key = keys.new_key(ours.home / "kdloop.db", "inspect", A_MINUTE)
    run([*command, "--display", "plain"], folder, STUDENT_BASE_URL=f"{ours.url}/v1", STUDENT_API_KEY=key)
    log = json.loads(max(folder.glob("logs/*.json"), key=os.path.getmtime).read_text())
    said = {sample["input"]: sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"]}
    metrics = {name: found["value"] for name, found in log["results"]["scores"][0]["metrics"].items()}
    exact = f"exact {metrics['mean']:.3f} ± {metrics['stderr']:.3f}"
    yield f"{exact}; {beside(said, measured(ours, folder))}"


def beside(said: dict[str, str], own: dict) -> str:
    """What the pack's check makes of the completions that came through the API (by prompt), beside `pack measure`."""
    tasks = packs.tasks(PACK, "heldout")
    right = sum(verifiers.passed(t, said[t.prompt]) for t in tasks) / len(tasks)
    same = sum(said[row["doc"]["prompt"]] == row["resps"][0][0] for row in own["samples"][PACK])
    share, low, high = own["results"][PACK]["acc,none"], *own["kdloop"]["accuracy ci95"]["champion"]
    return (
        f"by the pack's check {right:.3f} of {len(tasks)}, where `pack measure` finds {share:.3f} "
        f"({low:.3f} to {high:.3f}); {same} completions are the same to the letter"
    )


def run(command: list, folder: Path, **environment: str) -> None:
    """Raises CalledProcessError; what it printed lies in `folder`."""
    with (folder / "run.log").open("w") as log:
        env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")} | environment
        subprocess.run(list(map(str, command)), check=True, env=env, stdout=log, stderr=log, cwd=folder)


def printed(command: list) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
