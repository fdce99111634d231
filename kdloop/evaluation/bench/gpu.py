"""On a GPU: kdloop beside transformers and TRL alone, and a whole round. At most eight minutes; one JSON.

    python -m kdloop bench gpu --json gpu.json [SECTION ...]

Each section runs in a process of its own, so one that fails, hangs or fills the memory takes nothing from the others;
what went wrong stands in the JSON. Medians of three turns after one that does not count.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from threading import Event

import torch

from kdloop import packs
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

NO_GPU = "No GPU: PyTorch {} sees none here. `make gpu` measures one; on a CPU there is `make bench`."
SECONDS = 460  # for all sections
TURNS = 3
ROWS = 256
RATER = f"{Path(__file__).parent.parent / 'example_raters.py'}:concise"
HOW = Sampling(96, temperature=0.8, top_p=0.95)


def said(*words) -> None:
    print(f"[{time.monotonic() - BEGUN:6.1f} s]", *words, flush=True)


BEGUN = time.monotonic()


def student() -> str:
    settings = Settings.from_environment()
    return find_student(settings.student, settings.home)


def medians(turns: dict[str, Callable[[], dict]]) -> dict:
    """Of each number that the turns tell, one turn first that does not count. What is a list holds all turns."""
    found: dict[str, dict] = {}
    for name, turn in turns.items():
        first = turn()
        said(name, "first turn", first)
        told = [turn() for _ in range(TURNS)]
        found[name] = {k: statistics.median(t[k] for t in told) for k in first} | {"turns": told, "first": first}
        said(name, {k: v for k, v in found[name].items() if k not in ("turns", "first")})
    return found


def timed(work: Callable[[], int]) -> dict:
    """{"seconds", "tokens", "tokens_per_second"} of work that tells its tokens."""
    torch.cuda.synchronize()
    begun = time.monotonic()
    tokens = work()
    torch.cuda.synchronize()
    seconds = time.monotonic() - begun
    return {"seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds}


def questions(n: int) -> list[str]:
    known = [
        *packs.prompts("general", "train"),
        *packs.prompts("general", "gate"),
        *packs.prompts("general", "heldout"),
    ]
    return [known[i % len(known)] for i in range(n)]


def generated(model, engine: TransformersEngine, asked: list[str], how: Sampling) -> int:
    """By transformers' `generate`, all of them in one padded batch; the tokens of the completions."""
    heads = [Template.of(engine.tokenizer).prompt_ids(as_prompt(q)) for q in asked]
    inputs = engine.tokenizer.pad({"input_ids": heads}, return_tensors="pt").to(model.device)
    sampled = {"do_sample": True, "temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p}
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=how.max_tokens, pad_token_id=0, **sampled)
    rows = out[:, inputs["input_ids"].size(1) :].tolist()
    texts = engine.tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert len(texts) == len(asked)
    return sum(next((at for at, token in enumerate(row) if token in engine.template.ends), len(row)) for row in rows)


def completed(engine: TransformersEngine, asked: list[str], how: Sampling) -> int:
    samples = engine.complete([as_prompt(q) for q in asked], how, list(range(len(asked))))
    return sum(s.completion_tokens for s in samples)


def against_generate(engine: TransformersEngine, plain, asked: list[str], how: Sampling) -> dict:
    found = medians(
        {
            "kdloop": lambda: timed(lambda: completed(engine, asked, how)),
            "generate": lambda: timed(lambda: generated(plain, engine, asked, how)),
        }
    )
    ratio = found["kdloop"]["tokens_per_second"] / found["generate"]["tokens_per_second"]
    return found | {"ratio": ratio, "bar": ">= 8", "recorded": engine.decoders != [] and engine.decoders[-1].captured}


def sampling() -> dict:
    """256 rows of 96 tokens by the student."""
    from transformers import AutoModelForCausalLM

    engine = TransformersEngine(student())
    plain = AutoModelForCausalLM.from_pretrained(engine.source, dtype=engine.dtype).to(engine.device).eval()
    found = against_generate(engine, plain, questions(ROWS), HOW)
    return found | {"step_ms": step_ms(engine), "same_as_growing": alike(engine)}


def alike(engine: TransformersEngine, n: int = 32) -> dict[str, float]:
    """By temperature, the mean share of a completion up to where the recorded steps and the growing cache part: in bf16
    near ties fall either way."""
    asked, found = [as_prompt(q) for q in questions(n)], {}
    for temperature in (0.0, 0.8):
        how, texts = replace(HOW, max_tokens=48, temperature=temperature), []
        for engine.static in (False, True):
            texts.append([s.text for s in engine.complete(asked, how, list(range(n)))])
        found[str(temperature)] = statistics.mean(shared(a, b) for a, b in zip(*texts, strict=True))
    return found


def shared(a: str, b: str) -> float:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return same / max(1, len(a), len(b))


@torch.inference_mode()
def step_ms(engine: TransformersEngine) -> dict[str, float]:
    """Of one replayed step of each recorded decoder, by the device's own clock."""
    found = {}
    for decoder in (d for d in engine.decoders if d.captured):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        decoder.at.fill_(1), decoder.draws.step.fill_(1)
        start.record()
        for _ in range(50):
            decoder.graph.replay()
        end.record()
        torch.cuda.synchronize()
        found[f"{decoder.rows} rows, {decoder.length} tokens"] = start.elapsed_time(end) / 50
    return found


def big() -> dict:
    """256 rows of 64 tokens by random weights in the shape of Qwen3-1.7B; the tokenizer is the student's."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    shape = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    config = Qwen3Config(**shape, num_key_value_heads=8, head_dim=128, vocab_size=151_936, tie_word_embeddings=True)
    small = TransformersEngine(student())
    with torch.device(small.device):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    engine = copy(small).of(plain)
    said("made", sum(p.numel() for p in plain.parameters()), "weights")
    return against_generate(engine, plain, questions(ROWS), replace(HOW, max_tokens=64)) | {"step_ms": step_ms(engine)}


def stream() -> dict:
    """One person's reply."""
    from transformers import AutoModelForCausalLM

    engine = TransformersEngine(student())
    plain = AutoModelForCausalLM.from_pretrained(engine.source, dtype=engine.dtype).to(engine.device).eval()
    [question], how = questions(1), replace(HOW, max_tokens=200)
    firsts: list[float] = []

    def streamed() -> int:
        *_, sample = engine.stream(as_prompt(question), how, 1, Event())
        firsts.append(sample.first_token_seconds)
        return sample.completion_tokens

    found = medians(
        {
            "kdloop": lambda: timed(streamed),
            "generate": lambda: timed(lambda: generated(plain, engine, [question], how)),
        }
    )
    ratio = found["kdloop"]["tokens_per_second"] / found["generate"]["tokens_per_second"]
    return found | {"ratio": ratio, "bar": ">= 10", "first_token_seconds": firsts, "step_ms": step_ms(engine)}


def round_phases() -> dict:
    """16 prompts x 4 sampled, 64 pairs trained on twice, 64 prompts judged twice; the plain script and kdloop."""
    from kdloop.evaluation.bench import plain_trl, rounds

    source, limit = student(), 64
    job = rounds.job(source, limit, rounds.own_pairs(source, limit, 64), 16, 64)
    said(len(job["pairs"]), "pairs")

    def turn(carry_out: Callable[[dict], dict]) -> dict:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found = carry_out(job)
        return found | {"seconds": sum(found[k] for k in rounds.PHASES)}

    found = medians({"kdloop": lambda: turn(rounds.carry_out), "plain": lambda: turn(plain_trl.carry_out)})
    ours, plain = found["kdloop"], found["plain"]
    phases = {k: plain[k] / ours[k] for k in rounds.PHASES}
    memory = {"memory_ratio": ours["peak_gib"] / plain["peak_gib"], "memory_bar": "<= 1.25"}
    return found | {"ratio": plain["seconds"] / ours["seconds"], "bar": ">= 3", "phases": phases} | memory


def simulated() -> dict:
    """The whole loop: 36 votes of the rater `concise`, one round, in kdloop's own processes."""
    before, most, done = used(), [0], Event()

    def watch() -> None:
        while not done.wait(0.3):
            most[0] = max(most[0], used() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as home:
        out, log = Path(home) / "report.json", Path(home) / "round.log"
        how = ["--rater", RATER, "--votes", "36", "--rounds", "1", "--seed", "1", "--home", home, "--json", str(out)]
        begun = time.monotonic()
        with log.open("w") as file:
            run = [sys.executable, "-m", "kdloop", "simulate", *how]
            ended = subprocess.run(run, stdout=file, stderr=subprocess.STDOUT, check=False)
        done.set(), watcher.join()
        told, logs = log.read_text(), sorted(Path(home).rglob("*.log"))
        inside = "\n".join(p.read_text(errors="replace")[-3000:] for p in logs if p != log)
        if not out.exists():
            return {"failed": f"exit code {ended.returncode}", "log": told[-6000:] + inside}
        report = json.loads(out.read_text())
    [one] = report["rounds"]
    seconds = {"all_seconds": time.monotonic() - begun, "round_seconds": sum(one["seconds"].values())}
    kept = {k: one[k] for k in ("status", "reason", "seconds", "heldout", "pairs")}
    gib = {"peak_gib_of_all_processes": most[0] / 2**30}
    return kept | seconds | gib | {"bar": "promoted, <= 90 s of round", "log": (told + inside)[-4000:]}


def used() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


SECTIONS = {  # in the order of their worth
    "round": (round_phases, 200),
    "sampling": (sampling, 100),
    "simulate": (simulated, 200),
    "stream": (stream, 80),
    "big": (big, 120),
}


def section(name: str, seconds: float) -> dict:
    """In a process of its own; its result, or what went wrong."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out.json"
        command = [sys.executable, "-m", "kdloop", "bench", "gpu", name, "--inside", str(out), "--turns", str(TURNS)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {seconds:.0f} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        return json.loads(out.read_text()) if out.exists() else {"failed": "its process ended without a result"}


def inside(name: str, out: Path) -> None:
    try:
        found = SECTIONS[name][0]()
    except Exception as error:  # a section that fails is a result
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-6000:]}
    out.write_text(json.dumps(found))


def card() -> dict:
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": time.strftime("%Y-%m-%d"),
    }


def main(argv: list[str] | None = None) -> int:
    global TURNS
    parser = argparse.ArgumentParser(prog="python -m kdloop bench gpu", description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which: {', '.join(SECTIONS)}; else all")
    parser.add_argument("--json", type=Path, help="write the result to this file, after each section")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all sections")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each measurement")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    TURNS = args.turns
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; there are: {', '.join(SECTIONS)}")
    if not torch.cuda.is_available():
        print(NO_GPU.format(torch.__version__))
        return 2
    if args.inside:
        inside(args.sections[0], args.inside)
        return 0
    found = card() | {"sections": {}}
    said(found, student())
    for name in args.sections or SECTIONS:
        left = args.seconds - (time.monotonic() - BEGUN)
        said(name, f"({left:.0f} s left)")
        result = section(name, min(left, SECTIONS[name][1])) if left > 20 else {"failed": "no time was left for it"}
        found["sections"][name] = result
        said(name, json.dumps({k: v for k, v in result.items() if k not in ("log", "turns")})[:1500])
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))
    return 0 if not any("failed" in r for r in found["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
