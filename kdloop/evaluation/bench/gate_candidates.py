"""Bad candidates for `bench gate`: made from the real student, and put through the real gate.

A kind is made by editing weights, or by a short training on bad texts at twice its step, without the limits that a
round's step size keeps to: what a round would shorten, the gate has to block. Each is judged by a preference model of a
concise rater's votes; and once more as if a judge had been fooled, where guards alone stand between it and people. What
passes those goes to a trial by eight people who want an answer to the point.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdloop.evaluation.bench import gate_raters
from kdloop.evaluation.bench.gate_pool import Pool
from kdloop.evaluation.example_raters import concise
from kdloop.feedback.examples import Example, Split
from kdloop.gate.evidence import MOST_WITH_TIES, trail
from kdloop.gate.guards import Guard, Spread, divergence_guards, text_guards, topic_guards
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import Drawn, decide
from kdloop.methods import METHODS, step_size
from kdloop.methods.lora import RANK, Plan, trainable_student
from kdloop.raters.features import embed, repetition
from kdloop.raters.preference_model import PreferenceModel, fit
from kdloop.student import Sample, Sampling
from kdloop.student.base import find_student
from kdloop.student.merging import updated
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage.conversations import Completion
from storage.trials import Vote

GATE_PROMPTS, TOKENS = 24, 64  # half as many as a gate asks, and the longest completion
LESSONS, EPOCHS = 24, 4  # texts of a short training: 12 steps of 8
STRENGTHS = (1.0, 0.5, 2.0, 1.5, 0.75)  # by seed: of the step of a training, of the noise
NOISE = 0.1  # of each matrix's norm, by a random matrix of the adapter's rank
CUT_WORDS, REPEATS, LONG = 5, 6, 3


class Remembered(TransformersEngine):
    """Asked the same again it says the same, without sampling."""

    def serve(self, model):
        self.known: dict[tuple, Sample] = {}
        return super().serve(model)

    def complete(self, prompts, sampling: Sampling, seeds: list[int]) -> list[Sample]:
        keys = [(str(p), sampling, seed) for p, seed in zip(prompts, seeds, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self.known]
        if new:
            found = super().complete([prompts[i] for i in new], sampling, [seeds[i] for i in new])
            self.known.update(zip((keys[i] for i in new), found, strict=True))
        return [self.known[key] for key in keys]


@dataclass
class Bench:
    """What all candidates share."""

    home: Path
    student: str
    pool: Pool

    @cached_property
    def base(self) -> Remembered:
        return Remembered(find_student(self.student, self.home), dtype=device_and_dtype()[1])

    @cached_property
    def votes(self) -> Split:
        """Of a concise rater."""
        liked, rng = {"concise": self.pool.within(self.pool.rated(concise))}, np.random.default_rng(22)
        raters = gate_raters.ROWS[0]
        votes = gate_raters.voted(raters, self.pool, liked, gate_raters.parted(self.pool, rng)[0], 72, rng)
        return Split([e for e in votes if not e.held_out], [e for e in votes if e.held_out])

    @cached_property
    def rater(self) -> PreferenceModel:
        return fit(self.votes.train, self.votes.held_out)

    def trained(self, kind: str, strength: float) -> Remembered:
        """At `strength` of twice the step of the training of this kind, which is kept in a file."""
        model = trainable_student(self.base.source, None, self.base.dtype, 22, self.base.untrained)
        start, file = step_size.parameters(model), self.home / "bench" / f"gate {kind}.pt"
        if file.exists():
            end = torch.load(file, weights_only=True)
        else:
            method, lessons = LESSONS_OF[kind](self)
            plan = Plan(22, epochs=EPOCHS, max_tokens=TOKENS)
            METHODS[method].train(model, self.base.tokenizer, lessons, plan, lambda *_: None)
            end = step_size.parameters(model)
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(end, file)
        step_size.place(model, start, end, strength * step_size.INITIAL_SCALE)
        return self.base.load_trained(model)

    def edited(self, edit: Callable[[nn.Module], nn.Module]) -> Remembered:
        return copy(self.base).serve(edit(self.base.untrained).eval().requires_grad_(False))


def flipped(bench: Bench) -> tuple[str, list[Example]]:
    """A concise rater's votes the wrong way round."""
    pairs = [e for e in bench.votes.train if e.is_pair][:LESSONS]
    return "dpo", [replace(e, chosen=e.rejected, rejected=e.chosen) for e in pairs]


def texts(change: Callable[[list[str]], str]) -> Callable[[Bench], tuple[str, list[Example]]]:
    """Fine-tuning on what `change` makes of a prompt's completions."""

    def lessons(bench: Bench) -> tuple[str, list[Example]]:
        groups = list(zip(bench.pool.prompts, bench.pool.groups, strict=True))[:LESSONS]
        bad = [Completion(str(i), str(i), "student", 1, change([s.text for s in g])) for i, (_, g) in enumerate(groups)]
        return "sft", [Example(p, k, None, k.id, (k.id,)) for (p, _), k in zip(groups, bad, strict=True)]

    return lessons


LESSONS_OF = {
    "labels flipped": flipped,
    "length-hacked": texts(lambda group: "\n\n".join((group * LONG)[:LONG])),
    "repetition": texts(lambda group: " ".join([group[0].split(". ")[0][:80]] * REPEATS)),
    "cut answers": texts(lambda group: " ".join(group[0].split()[:CUT_WORDS])),
    "empty": texts(lambda group: ""),
}


def sharpened(factor: float):
    """All logits times `factor`: by a head of its own."""

    def edit(untrained):
        model, head = updated(untrained, {}), untrained.get_output_embeddings()
        model.lm_head = nn.Linear(head.in_features, head.out_features, bias=False, dtype=head.weight.dtype)
        model.lm_head.weight = nn.Parameter(head.weight.detach() * factor)
        return model

    return lambda bench, seed, strength: bench.edited(edit)


def noisy(bench: Bench, seed: int, strength: float) -> Remembered:
    return bench.edited(lambda untrained: updated(untrained, random_updates(untrained, seed, NOISE * strength)))


def nan(bench: Bench, seed: int, strength: float) -> Remembered:
    """One number of one matrix."""

    def edit(untrained):
        updates = random_updates(untrained, seed, 0.0)
        a, b, scaling = updates[name := sorted(updates)[seed % len(updates)]]
        b[seed % len(b), 0] = float("nan")
        return updated(untrained, updates | {name: (a, b, scaling)})

    return bench.edited(edit)


def random_updates(untrained, seed: int, share: float) -> dict:
    """Of the adapter's rank, `share` as large as each matrix."""
    draw, updates = torch.Generator().manual_seed(seed), {}
    for name, module in untrained.named_modules():
        if type(module) is nn.Linear and module is not untrained.get_output_embeddings():
            a, b = (
                torch.randn(*shape, generator=draw)
                for shape in ((RANK, module.in_features), (module.out_features, RANK))
            )
            size = share * module.weight.float().norm() / (b @ a).norm()
            updates[name] = (a, b, float(size))
    return updates


KINDS: dict[str, Callable[[Bench, int, float], Remembered]] = {
    "sharpened by 1.3": sharpened(1.3),
    "sharpened by 1.6": sharpened(1.6),
    "noise": noisy,
    "NaN": nan,
    **{kind: (lambda bench, seed, strength, kind=kind: bench.trained(kind, strength)) for kind in LESSONS_OF},
}


def to_the_point(question: str, samples: list[Sample]) -> list[float]:
    """What the people of the trial like: on topic, complete, without repetition; nothing is worst."""
    vectors = embed([question, *(s.text for s in samples)])
    on_topic = vectors[1:] @ vectors[0]
    return [
        float(topic) - 2 * repetition(s.text) + 0.1 * (s.status == "finished") if s.text.strip() else -9.0
        for topic, s in zip(on_topic, samples, strict=True)
    ]


def cell(kind: str, seed: int, bench: Bench) -> dict:
    """{"stage" at which it is blocked, "guards" that do, were the judge fooled, and the "trial" where none does}."""
    try:
        candidate = KINDS[kind](bench, seed, STRENGTHS[seed % len(STRENGTHS)])
        return through_the_gate(candidate, seed, bench)
    except (RuntimeError, ValueError) as error:  # as the round would: it ends as failed, and nothing serves
        return {"stage": "crash", "why": f"{type(error).__name__}: {str(error)[:120]}", "guards": ["round fails"]}


def through_the_gate(candidate: Remembered, seed: int, bench: Bench) -> dict:
    rng = np.random.default_rng(seed)
    prompts = [bench.pool.prompts[i] for i in rng.permutation(len(bench.pool.questions))[: 2 * GATE_PROMPTS]]
    turn, sampling, base = Turn(seed=seed), Sampling(TOKENS), bench.base
    verdict = decide(candidate, base, base, bench.votes, prompts, bench.rater, sampling, turn)
    drawn = Drawn((candidate, base, base), prompts, sampling, turn.seed)
    new, old, _ = drawn.part(0, GATE_PROMPTS)
    asked = prompts[:GATE_PROMPTS]
    guards = [*text_guards(new, old, [e.chosen for e in bench.votes.train if e.chosen]), *topic_guards(asked, new, old)]
    if not broken(guards):  # the dear ones, where no other has blocked
        guards += divergence_guards(candidate, base, base, Spread.of(prompts, turn.seed))
    stage = "people" if verdict.passed else "judge" if not verdict.judgement.better else "guard"
    found = {
        "stage": stage,
        "why": verdict.reason,
        "guards": broken(guards),
        "values": {g.name: g.value for g in guards},
    }
    gains = [np.subtract(*to_the_point(p[-1]["content"], [a, b])) for p, a, b in zip(asked, new, old, strict=True)]
    found["true"] = float(np.mean([0.5 + 0.5 * np.sign(g) for g in gains]))
    return found | ({"trial": tried(gains, rng)} if not broken(guards) else {})


def broken(guards: list[Guard]) -> list[str]:
    return [g.name for g in guards if not g.ok]


def tried(gains: list[float], rng) -> dict:
    """A trial by eight people who draw these comparisons."""
    drawn = rng.choice(gains, 2 * MOST_WITH_TIES)
    votes = [Vote(str(rng.integers(8)), 0.5 if gain == 0 else float(gain > 0)) for gain in drawn]
    found = trail(votes, shared=True)
    return {"outcome": found[-1].decision, "compared": len(found) - 1}
