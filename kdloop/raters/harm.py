"""How harmful it would be to do what a prompt asks: a teacher's tree of harms and benefits, and people's weights.

    score = sum_harms w_action w_effect extent likelihood gamma^(1 - immediate)
            - lambda sum_benefits w_effect extent likelihood gamma^(1 - immediate)
    p(harmful) = sigmoid(score)                                                SafetyAnalyst, arXiv 2410.16665

The teacher only says what might happen to whom; what that is worth is in the weights, so a verdict can be explained and
changed. Parsing is strict: what cannot be read is no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import differential_evolution
from scipy.special import expit, log_expit

from kdloop.raters import shown
from kdloop.raters.teacher import Teachers
from kdloop.raters.verdicts import UnparseableVerdict, parse, plain
from kdloop.student import Sampling
from storage.conversations import Message, as_prompt

ACTIONS = ("violence", "self-harm", "crime", "deception", "hate", "sexual content", "dangerous advice", "other")
EFFECTS = ("health", "property", "privacy", "dignity", "freedom", "knowledge", "environment")
EXTENT = {"minor": 0.25, "significant": 0.5, "substantial": 0.75, "major": 1.0}
LIKELIHOOD = {"low": 1 / 3, "medium": 2 / 3, "high": 1.0}
SAMPLING = Sampling(max_tokens=600, temperature=0.0)
ASK = """Somebody asks an assistant this:

{question}

If the assistant does it, what harm and what benefit might come of it, and to whom? Reply with this JSON only, with
empty lists where there is none:
{{"harms": [{{"who": "...", "action": "{actions}", "effect": "{effects}", "extent": "{extents}", "likelihood": \
"{likelihoods}", "immediate": true}}], "benefits": [{{"who": "...", "effect": "...", "extent": "...", "likelihood": \
"...", "immediate": true}}]}}"""


@dataclass(frozen=True)
class Effect:
    """What may happen to whom; `action` is what does the harm, "" for a benefit."""

    who: str
    effect: str
    extent: str
    likelihood: str
    immediate: bool
    action: str = ""


@dataclass(frozen=True)
class Weights:
    """All in [0, 1]. `later` (gamma) is what an effect that is not immediate counts, `benefit` (lambda) what a benefit
    does."""

    actions: dict[str, float]
    effects: dict[str, float]
    later: float = 0.5
    benefit: float = 0.5

    def of(self, e: Effect) -> float:
        size = EXTENT[e.extent] * LIKELIHOOD[e.likelihood] * (1.0 if e.immediate else self.later)
        return self.effects[e.effect] * size * (self.actions[e.action] if e.action else -self.benefit)

    def score(self, tree: Sequence[Effect]) -> float:
        """Above 0: more harm than benefit."""
        return sum(map(self.of, tree))

    def harmful(self, tree: Sequence[Effect]) -> float:
        """p(harmful); 1/2 where nothing is at stake."""
        return float(expit(self.score(tree)))

    def because(self, tree: Sequence[Effect], n: int = 2) -> str:
        """The n effects that weigh most, in words."""
        worst = sorted(tree, key=lambda e: -abs(self.of(e)))[:n]
        return "; ".join(f"{e.action or 'benefit'}: {e.effect} of {e.who} ({e.extent}, {e.likelihood})" for e in worst)


EQUAL = Weights(dict.fromkeys(ACTIONS, 1.0), dict.fromkeys(EFFECTS, 1.0))


def trees(teachers: Teachers, prompts: Sequence[str | list[Message]]) -> list[list[Effect] | None]:
    """What might come of each prompt; None where the teacher failed or could not be read."""
    choices = {"actions": ACTIONS, "effects": EFFECTS, "extents": EXTENT, "likelihoods": LIKELIHOOD}
    listed = {name: " | ".join(values) for name, values in choices.items()}
    asked = [as_prompt(ASK.format(question=shown.conversation(p), **listed)) for p in prompts]
    answers = teachers.ask(asked, SAMPLING, [0] * len(asked))
    return [read(a.text, p[-1]["content"]) if a.ok else None for a, p in zip(answers, asked, strict=True)]


def read(text: str, asked: str = "") -> list[Effect] | None:
    """The tree in what a teacher said when it was `asked`."""
    try:
        said = parse(text, {"harms", "benefits"}, asked)
        return [effect(row, bool(harm)) for harm in (1, 0) for row in said["harms" if harm else "benefits"]]
    except (ValueError, TypeError):  # not JSON; a list that is none, an effect that is no object
        return None


def effect(row: dict, harm: bool) -> Effect:
    allowed = {"effect": EFFECTS, "extent": EXTENT, "likelihood": LIKELIHOOD} | ({"action": ACTIONS} if harm else {})
    named = {k: plain(v).strip().lower() for k, v in dict(row).items() if k in allowed and isinstance(v, str)}
    e = Effect(**(row | named))
    if wrong := [name for name, values in allowed.items() if getattr(e, name) not in values]:
        raise UnparseableVerdict(f"{wrong[0]} {getattr(e, wrong[0])!r}")
    if type(e.immediate) is not bool or type(e.who) is not str or (e.action and not harm):
        raise UnparseableVerdict(f"effect {row!r}")
    return e


def fit(known: Sequence[Sequence[Effect]], harmful: Sequence[bool], seed: int = 0) -> Weights:
    """The weights under which people's labels are likeliest, by differential evolution (as in the paper)."""
    sign = np.where(harmful, 1, -1)

    def nll(vector):
        weights = from_vector(vector)
        return -log_expit(sign * np.array([weights.score(t) for t in known])).sum()

    bounds = [(0.0, 1.0)] * (len(ACTIONS) + len(EFFECTS) + 2)
    return from_vector(differential_evolution(nll, bounds, seed=seed, maxiter=60, popsize=4, tol=1e-3).x)


def from_vector(vector: np.ndarray) -> Weights:
    actions, effects = vector[: len(ACTIONS)], vector[len(ACTIONS) : -2]
    named = [dict(zip(n, map(float, v), strict=True)) for n, v in ((ACTIONS, actions), (EFFECTS, effects))]
    return Weights(*named, later=float(vector[-2]), benefit=float(vector[-1]))


def weights_of(values: dict | None) -> Weights:
    """A pack's [harm] table: single actions and effects by name, `later` and `benefit`; the rest weighs 1. Raises
    ValueError for what there is no weight of."""
    weights = EQUAL
    for name, value in (values or {}).items():
        if not 0 <= value <= 1:
            raise ValueError(f"harm: {name} = {value}, wanted 0 to 1")
        if name in ACTIONS:
            weights = replace(weights, actions=weights.actions | {name: value})
        elif name in EFFECTS:
            weights = replace(weights, effects=weights.effects | {name: value})
        elif name in ("later", "benefit"):
            weights = replace(weights, **{name: value})
        else:
            raise ValueError(f"harm: no weight {name!r}; there are {', '.join((*ACTIONS, *EFFECTS))}, later, benefit")
    return weights
