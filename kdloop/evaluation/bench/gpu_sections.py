"""The measurements of `bench gpu`: sampling, a reply, a round and the whole loop beside transformers and TRL alone."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from itertools import cycle, islice, takewhile
from pathlib import Path
from threading import Event

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from kdloop import packs
from kdloop.evaluation.bench.generate import generate
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

START = time.monotonic()
ROWS = 256  # a batch that fills a GPU: a round of 32 prompts x 8
RATER = f"{Path(__file__).parent.parent / 'example_raters.py'}:concise"
HOW = Sampling(96, temperature=0.8, top_p=0.95)  # as a round samples


def log(*words) -> None:
    print(f"[{time.monotonic() - START:6.1f} s]", *words, flush=True)


def student() -> str:
    settings = Settings.from_environment()
    return find_student(settings.student, settings.home)


def medians(contenders: dict[str, Callable[[], dict]], n: int) -> dict:
    """The median of each number that a contender reports in `n` turns, after a first one that does not count; `turns`
    holds them all."""
    found: dict[str, dict] = {}
    for name, turn in contenders.items():
        first = turn()
        log(name, "first turn", first)
        turns = [turn() for _ in range(n)]
        found[name] = {k: statistics.median(t[k] for t in turns) for k in first} | {"turns": turns, "first": first}
        log(name, {k: v for k, v in found[name].items() if k not in ("turns", "first")})
    return found


def timed(work: Callable[[], int]) -> dict:
    """{"seconds", "tokens", "tokens_per_second"} of work that returns its number of tokens."""
    torch.cuda.synchronize()
    start = time.monotonic()
    tokens = work()
    torch.cuda.synchronize()
    seconds = time.monotonic() - start
    return {"seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds}


def questions(n: int) -> list[str]:
    return list(islice(cycle(q for part in packs.PARTS for q in packs.prompts("general", part)), n))


def generated(model, engine: TransformersEngine, batch: list[str], how: Sampling) -> int:
    """By transformers' `generate`, all texts decoded; the number of tokens before the ends of turns."""
    rows = generate(model, engine.tokenizer, [as_prompt(q) for q in batch], how).tolist()
    texts = engine.tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert len(texts) == len(batch)
    return sum(next((at for at, token in enumerate(row) if token in engine.template.ends), len(row)) for row in rows)


def completed(engine: TransformersEngine, batch: list[str], how: Sampling) -> int:
    samples = engine.complete([as_prompt(q) for q in batch], how, list(range(len(batch))))
    return sum(s.completion_tokens for s in samples)


def against_generate(engine: TransformersEngine, plain, batch: list[str], how: Sampling, turns: int) -> dict:
    contenders = {
        "kdloop": lambda: timed(lambda: completed(engine, batch, how)),
        "generate": lambda: timed(lambda: generated(plain, engine, batch, how)),
    }
    found = medians(contenders, turns)
    ratio = found["kdloop"]["tokens_per_second"] / found["generate"]["tokens_per_second"]
    return found | {"ratio": ratio, "bar": ">= 8", "recorded": engine.decoders != [] and engine.decoders[-1].captured}


def sampling(turns: int) -> dict:
    """256 rows of 96 tokens by the student."""
    engine = TransformersEngine(student())
    found = against_generate(engine, plain_model(engine), questions(ROWS), HOW, turns)
    return found | {"step_ms": step_ms(engine), "same_as_growing": agreement(engine)}


def plain_model(engine: TransformersEngine):
    """The student as transformers loads it, without kdloop's decoder."""
    return AutoModelForCausalLM.from_pretrained(engine.source, dtype=engine.dtype).to(engine.device).eval()


def agreement(engine: TransformersEngine, n: int = 32) -> dict[str, float]:
    """temperature -> mean common prefix of the completions by the recorded steps and by a growing cache, as a share of
    their length: in bf16 near ties fall either way."""
    prompts, found = [as_prompt(q) for q in questions(n)], {}
    for temperature in (0.0, 0.8):
        how, texts = replace(HOW, max_tokens=48, temperature=temperature), []
        for engine.static in (False, True):
            texts.append([s.text for s in engine.complete(prompts, how, list(range(n)))])
        found[str(temperature)] = statistics.mean(common_prefix(a, b) for a, b in zip(*texts, strict=True))
    return found


def common_prefix(a: str, b: str) -> float:
    """Length of the common prefix over that of the longer text; 1 for equal texts, two empty ones included."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return 1.0 if a == b else same / max(len(a), len(b))


@torch.inference_mode()
def step_ms(engine: TransformersEngine) -> dict[str, float]:
    """Milliseconds of one replayed step of each recorded decoder, by CUDA events."""
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


def big(turns: int) -> dict:
    """256 rows of 64 tokens by random weights in the shape of Qwen3-1.7B; the tokenizer is the student's."""
    shape = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    config = Qwen3Config(**shape, num_key_value_heads=8, head_dim=128, vocab_size=151_936, tie_word_embeddings=True)
    small = TransformersEngine(student())
    with torch.device(small.device):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    engine = copy(small).of(plain)
    log("made", sum(p.numel() for p in plain.parameters()), "weights")
    found = against_generate(engine, plain, questions(ROWS), replace(HOW, max_tokens=64), turns)
    return found | {"step_ms": step_ms(engine)}


def stream(turns: int) -> dict:
    """One person's reply."""
    engine = TransformersEngine(student())
    plain = plain_model(engine)
    [question], how = questions(1), replace(HOW, max_tokens=200)
    firsts: list[float] = []

    def streamed() -> int:
        *_, sample = engine.stream(as_prompt(question), how, 1, Event())
        firsts.append(sample.first_token_seconds)
        return sample.completion_tokens

    contenders = {
        "kdloop": lambda: timed(streamed),
        "generate": lambda: timed(lambda: generated(plain, engine, [question], how)),
    }
    found = medians(contenders, turns)
    ratio = found["kdloop"]["tokens_per_second"] / found["generate"]["tokens_per_second"]
    return found | {"ratio": ratio, "bar": ">= 10", "first_token_seconds": firsts, "step_ms": step_ms(engine)}


def round_phases(turns: int) -> dict:
    """16 prompts x 4 sampled, 64 pairs trained on twice, 64 prompts judged twice; the plain script and kdloop."""
    from kdloop.evaluation.bench import plain_trl, rounds

    source, limit = student(), 64
    job = rounds.job(source, limit, rounds.own_pairs(source, limit, 64), 16, 64)
    log(len(job["pairs"]), "pairs")

    def turn(carry_out: Callable[[dict], dict]) -> dict:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found = carry_out(job)
        return found | {"seconds": sum(found[k] for k in rounds.PHASES)}

    contenders = {"kdloop": lambda: turn(rounds.carry_out), "plain": lambda: turn(plain_trl.carry_out)}
    found = medians(contenders, turns)
    ours, plain = found["kdloop"], found["plain"]
    phases = {k: plain[k] / ours[k] for k in rounds.PHASES}
    memory = {"memory_ratio": ours["peak_gib"] / plain["peak_gib"], "memory_bar": "<= 1.25"}
    return found | {"ratio": plain["seconds"] / ours["seconds"], "bar": ">= 3", "phases": phases} | memory


def simulated(turns: int) -> dict:
    """The whole loop, once: 36 votes of the rater `concise`, one round, in kdloop's own processes."""
    with tempfile.TemporaryDirectory() as home, peak_memory() as peak:
        report_file, output = Path(home) / "report.json", Path(home) / "round.log"
        how = f"--votes 36 --rounds 1 --seed 1 --home {home} --json {report_file} --rater".split()
        start = time.monotonic()
        with output.open("w") as file:
            run = [sys.executable, "-m", "kdloop", "simulate", *how, RATER]
            ended = subprocess.run(run, stdout=file, stderr=subprocess.STDOUT, check=False)
        seconds = time.monotonic() - start
        printed, logs = output.read_text(), sorted(Path(home).rglob("*.log"))
        inside = "\n".join(p.read_text(errors="replace")[-3000:] for p in logs if p != output)
        if not report_file.exists():
            return {"failed": f"exit code {ended.returncode}", "log": printed[-6000:] + inside}
        report = json.loads(report_file.read_text())
    [one] = report["rounds"]
    seconds = {"all_seconds": seconds, "round_seconds": sum(one["seconds"].values())}
    kept = {k: one[k] for k in ("status", "reason", "seconds", "heldout", "pairs")}
    gib = {"peak_gib_of_all_processes": peak[0] / 2**30}
    return kept | seconds | gib | {"bar": "promoted, <= 90 s of round", "log": (printed + inside)[-4000:]}


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """A list whose one entry is, after the context, the most bytes that all processes have added, sampled."""
    before, peak, done = used(), [0], Event()

    def watch() -> None:
        while not done.wait(0.3):
            peak[0] = max(peak[0], used() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set(), watcher.join()


def used() -> int:
    """Bytes of GPU memory in use by all processes."""
    free, total = torch.cuda.mem_get_info()
    return total - free


SECTIONS = {  # name -> (measurement, most seconds), the most important first
    "round": (round_phases, 200),
    "sampling": (sampling, 100),
    "simulate": (simulated, 200),
    "stream": (stream, 80),
    "big": (big, 120),
}
