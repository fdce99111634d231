"""How far to follow the direction that training found: as far as the base's own completions allow.

    theta(s) = origin + s (trained - origin)        in the adapter's parameters

s > 1 extrapolates (after ExPO, Zheng et al. 2024), s < 1 interpolates back. ExPO's line is one in the weights, this one
is in A and B: what they add, BA, has a part that grows with s squared. A short training so goes as far as a long one,
and one that went too far is drawn back instead of thrown away. s is the largest one found at which the negative
log-likelihood of completions by the untrained student has not risen by more than a budget: what the student could say
before, it can say after. (The search for a step size inside a constraint is TRPO's, Schulman et al. 2015.)
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from kdloop import packs
from kdloop.methods.lora import OnStep
from kdloop.raters.features import styles
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.scoring import nats
from kdloop.student.transformers import TransformersEngine
from storage.conversations import Message, as_prompt

ROUND_BUDGET = 0.02  # relative NLL rise that one round may add: beyond the edge it rises steeply
TOTAL_BUDGET = 0.04  # and all rounds together; the gate's guard stands at 0.05
MAX_SCALE = 4.0
FIRST = 2.0  # the scale tried first: most trainings end at 1.5 to 3
FARTHER = 1.2  # times the scale before, at most, where nothing says yet how the rise bends
TRIES = 5
CLOSE = 1.03  # times a scale within the limit: one beyond it that is nearer ends the search
DRAWS = 4
ANCHORS = 1.5  # completions by the untrained student for each prompt of the gate: over 32, the rise was up to 3 % off
SOME = slice(None, None, 3)  # of these, what is read again at the second scale and after: see AnchorNLL
TOKENS = 64  # of each, at most
SAMENESS_RISE = 0.015  # of the mean cosine between completions; the gate's guard stands above
ECHO_RISE = 0.05  # of the share that only repeats its prompt; the gate's guard stands at twice that
RELEVANCE_FALL = 0.05  # of the mean cosine between prompt and completion; the gate's guard stands at 0.08
SETTLED = 0.94  # cosine between the direction and what half of the steps had found; see DirectionEarlyStopping
LEAST = 12  # steps; a shorter training is not shortened
SEEN = 64  # one parameter of so many tells the cosine to 0.002
ALLOWED = (SAMENESS_RISE, ECHO_RISE, RELEVANCE_FALL)
DRAW_BACK = 0.8


def settle(
    model,
    start: dict[str, torch.Tensor],
    base: TransformersEngine,
    origin: Engine,
    max_tokens: int,
    styled: int,
    strength: float = 1.0,
) -> dict[str, float]:
    """Move the trained model along its direction to the edge of the region; {"step scale", "anchor NLL rise"}.

    `start` holds the parameters before training, and `origin` is the engine that has them. Each scale is tried as it
    would serve: merged. A scale is drawn back where `styled` completions, as many as the gate's, begin
    to be the same to all prompts, to say them again, or to leave them. `strength` is the share of that way that is gone
    in the end: 0.5 is half-baked.
    """
    tokens = min(max_tokens, TOKENS)
    prompts, samples = sample(base, tokens, round(ANCHORS * styled))
    before = style(prompts[:styled], samples[:styled])
    end, rise = parameters(model), AnchorNLL(base, prompts, [s.said for s in samples], origin)

    def engine_at(scale: float) -> Engine:
        place(model, start, end, scale)
        return base.load_trained(model)

    def rise_at(scale: float) -> float:
        found = rise(scale, engine_at(scale))
        print(f"step scale {scale:.2f}: NLL of the base's completions {found:+.2%}", flush=True)
        return found

    def goes_wrong(scale: float) -> bool:
        same, echoed, away = risen = style(*sample(engine_at(scale), tokens, styled)) - before
        seen = f"sameness {same:+.3f}, prompts repeated {echoed:+.3f}, relevance {-away:+.3f}"
        print(f"step scale {scale:.2f}: {seen}", flush=True)
        return bool((risen > ALLOWED).any())

    scale, found = line_search(rise_at, rise.start, budget(rise.start))
    tries = 0
    while tries < DRAWS and goes_wrong(scale):
        scale, tries = scale * DRAW_BACK, tries + 1
    scale *= strength
    if tries or strength != 1:
        found = rise_at(scale)
    place(model, start, end, scale)
    return {"step scale": scale, "anchor NLL rise": found, "drawn back": tries}


class DirectionEarlyStopping:
    """An on_step that ends a training whose direction has settled: half of the steps had found it already.

        cos(theta_t - theta_0, theta_{t/2} - theta_0) >= SETTLED

    What the later steps add is mostly length, which `settle` finds. Asked at even steps alone.
    """

    def __init__(self, model, start: dict[str, torch.Tensor], on_step: OnStep):
        self.model, self.start, self.on_step = model, start, on_step
        self.found: list[torch.Tensor] = []

    def __call__(self, step: int, steps: int, loss: float | None) -> bool:
        self.on_step(step, steps, loss)
        if step == 1:  # of another training, where a method has several
            self.found.clear()
        self.found.append(self.moved())
        if step % 2 or step < LEAST:
            return False
        alike = float(cosine_similarity(self.found[-1], self.found[step // 2 - 1], dim=0))
        if settled := alike >= SETTLED and step < steps:
            print(f"step {step} of {steps}: the direction of step {step // 2}, cosine {alike:.3f}; settled", flush=True)
        return settled

    @torch.no_grad()
    def moved(self) -> torch.Tensor:
        """One in SEEN of the parameters, less what it was at the start; where the model lies now."""
        now = ((p, self.start[name]) for name, p in self.model.named_parameters() if name in self.start)
        return torch.cat([(p - before.to(p.device)).flatten()[::SEEN].float() for p, before in now])


class AnchorNLL:
    """How much the NLL of the base's completions has risen, relative to the base's own, at a scale.

    All are read once; at other scales SOME, and what these were off is corrected for: it is the slope that they happen
    to see, so it grows with the scale from what it was at the origin.
    """

    def __init__(self, base: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]], origin: Engine):
        self.prompts, self.completions = prompts, completions
        self.before = nats(base, prompts, completions)
        self.start, self.off_at_start = (0.0, 0.0) if origin is base else self.read(origin)
        self.first: tuple[float, float] | None = None  # (scale, off) where all were read

    def __call__(self, scale: float, engine: Engine) -> float:
        if self.first is None:
            whole, off = self.read(engine)
            self.first = scale, off
            return whole
        at, off = self.first
        part = nats(engine, self.prompts[SOME], self.completions[SOME]).sum() / self.before[SOME].sum() - 1
        return float(part + self.off_at_start + scale / at * (off - self.off_at_start))

    def read(self, engine: Engine) -> tuple[float, float]:
        """(rise, what it is more than the part's)."""
        after = nats(engine, self.prompts, self.completions)
        whole, part = after.sum() / self.before.sum() - 1, after[SOME].sum() / self.before[SOME].sum() - 1
        return float(whole), float(whole - part)


def style(prompts: list[list[Message]], samples: list[Sample]) -> np.ndarray:
    """What three of the gate's guards will look at (features.styles)."""
    return styles(prompts, [s.text for s in samples])


def sample(engine: Engine, max_tokens: int, n: int) -> tuple[list[list[Message]], list[Sample]]:
    """(prompts, completions) on the training pack's first n prompts."""
    prompts = [as_prompt(q) for q in packs.prompts("general", "train")[:n]]
    return prompts, engine.complete(prompts, Sampling(max_tokens), list(range(len(prompts))))


def parameters(model) -> dict[str, torch.Tensor]:
    """A copy of the trainable parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def place(model, start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], scale: float) -> None:
    """Set the trainable parameters to start + scale (end - start)."""
    for name, p in model.named_parameters():
        if name in start:
            p.copy_(torch.lerp(start[name].to(p.device), end[name].to(p.device), scale))


def budget(risen: float) -> float:
    """The NLL rise over the base that this round's candidate may have."""
    return min(risen + ROUND_BUDGET, max(TOTAL_BUDGET, risen))


def line_search(rise: Callable[[float], float], start: float, limit: float) -> tuple[float, float]:
    """(scale, its rise): the largest tried scale with rise(scale) <= limit. `start` is rise(0), the origin's.

    Each guess is where a parabola through what was tried meets the limit. Returns the smallest scale that was tried
    where none is within the limit.
    """
    tried, scale, good, room = {}, FIRST, 0.0, max(limit - start, 1e-4)
    for _ in range(TRIES):
        tried[scale] = rise(scale)
        good = max((s for s, found in tried.items() if found <= limit), default=0.0)
        bad = min((s for s in tried if s > good), default=None)
        if good == MAX_SCALE or (good and limit - tried[good] < 0.15 * room) or (bad and bad < CLOSE * good):
            break
        if good and bad:
            guess = 0.98 * meets((good, tried[good] - start), (bad, tried[bad] - start), room)
            scale = min(max(guess, good + 0.1 * (bad - good)), bad - 0.05 * (bad - good))
        else:  # one point is no curve: as if the rise were a square
            growth = (room / max(tried[scale] - start, 1e-4)) ** 0.5
            scale = min(scale * (min(max(growth, 1.1), FARTHER) if good else max(growth * 0.97, 0.1)), MAX_SCALE)
    return (good, tried[good]) if good else min(tried.items())


def meets(first: tuple[float, float], second: tuple[float, float], height: float) -> float:
    """Where the parabola through the origin and two points reaches `height` > 0; the second point lies above it."""
    (x1, y1), (x2, y2) = first, second
    bend = (y2 / x2 - y1 / x1) / (x2 - x1)
    slope = y1 / x1 - bend * x1
    if bend <= 0:  # no convex curve: the chord
        return x1 + (height - y1) / (y2 - y1) * (x2 - x1)
    return (-slope + (slope**2 + 4 * bend * height) ** 0.5) / (2 * bend)
