"""How far to follow the direction that training found: the step size, by a line search within a constraint.

    theta(s) = theta_0 + s (theta_1 - theta_0)        theta: the adapter's parameters before and after training

s > 1 extrapolates (after ExPO, Zheng et al. 2024), s < 1 interpolates back. ExPO's line is one in the weights, this one
is in A and B: what they add, BA, has a part that grows with s squared. So a short training goes as far as a long one,
and one that went too far is shortened instead of thrown away. s is the largest one found at which the negative
log-likelihood (NLL) of completions by the untrained student, the anchors, has risen by no more than a budget. That is
one-sided, as sharper is likelier, so the step is shortened where the exact KL divergence from the untrained student is
too large, or the entropy has changed too much. (A line search for the step within a trust region is TRPO's, Schulman et
al. 2015, Appendix C; theirs is bounded by KL divergence, and backtracks only.)
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from kdloop import packs
from kdloop.methods.lora import OnStep
from kdloop.raters.features import styles
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.scoring import ENTROPY_CHANGE, MAX_KL, Divergence, at_temperature_1, divergence, nats
from kdloop.student.transformers import TransformersEngine
from storage.conversations import Message, as_prompt

Parameters = dict[str, torch.Tensor]  # the trainable parameters by name

# Each value was set by runs of `simulate` and `bench methods` (docs/log.md).
ROUND_BUDGET = 0.02  # relative NLL rise per round: with 0.01, and fewer anchors, seed 1 won 0.70; with 0.02 it won 0.76
TOTAL_BUDGET = 0.04  # and of all rounds together: below the gate's guard of 0.05, which reads other completions
MAX_SCALE = 4.0  # a limit of 2.5 stopped trainings at an NLL of -4 %; at 4.5 it had risen by 16 %
INITIAL_SCALE = 2.0  # most trainings end at 1.5 to 3
MAX_GROWTH = 1.2  # of the scale before anything bounds it from above: 1.5 was always far over, by 24 to 37 %
MAX_TRIES = 5  # of a scale: each is a read of the anchors, 6 to 20 s on two cores
BRACKET_RATIO = 1.03  # of a scale beyond the limit to one within it: two more tries from 1.02 moved the scale by 0.01
LIMIT_SHARE = 0.8  # of the gate's limits of divergence, which it reads on other texts
DIVERGENCE_PROMPTS, DIVERGENCE_TOKENS = 24, 48  # at most: 1,000 tokens, at each of which the divergence is exact
MAX_SHORTENINGS = 3  # one is enough where the divergence is a parabola
MAX_BACKTRACKS = 4  # to 0.41 of the scale, which no measured training needed; then the gate's guards judge
BACKTRACK_FACTOR = 0.8  # not tuned; each look at the style samples the gate's prompts, about 20 s
ANCHORS_PER_PROMPT = 1.5  # of the gate: 96 for 64. By 32, the rise was off by up to 3 %
ANCHOR_SUBSET = slice(None, None, 3)  # what is read of them after the first scale: 6 s instead of 15, see AnchorNLL
ANCHOR_TOKENS = 64  # at most: with whole completions a training took 312 s, where 300 are allowed
# How much sameness, echoing and distance from the prompt may rise (features.styles). The gate's guards stand higher.
MAX_SAMENESS_RISE = 0.015  # mean cosine between completions: 24 of them showed 0.012 by chance; the guard 0.025
MAX_ECHO_RISE = 0.05  # share that only repeats its prompt: half of the guard's 0.10, which seeds 2 and 3 came near
MAX_RELEVANCE_FALL = 0.05  # mean cosine of prompt and completion: twice the error (0.022 to 0.033); guard 0.08
MAX_STYLE_CHANGE = (MAX_SAMENESS_RISE, MAX_ECHO_RISE, MAX_RELEVANCE_FALL)
CONVERGED_COSINE = 0.94  # of a direction and that of half the steps: it won 0.875 of 300; 0.93 lost 0.07 on one seed
MIN_STEPS = 12  # a shorter training is not ended: 7 of 25 steps won 0.83, 14 won 0.915
COSINE_STRIDE = 64  # every 64th parameter gives the cosine to 0.002


def settle(
    model,
    start: Parameters,
    base: TransformersEngine,
    origin: Engine,
    max_tokens: int,
    styled: int,
    strength: float = 1.0,
) -> dict[str, float]:
    """Move the trained model along its direction as far as the budget allows.

    `start` holds theta_0, and `origin` is the engine that has it; `base` is the untrained student. Each scale is tried
    as it would be served: merged. It is shortened where it diverges too far (`shortened`), and backtracks while the
    style of `styled` completions, as many as the gate's, goes wrong. `strength` is the share of that way that is taken
    in the end: 0.5 is "half-baked". Returns {"step scale", "anchor NLL rise" (relative), "KL" (of the last scale whose
    divergence was read, nats per token), "drawn back" (number of backtracks)}.
    """
    tokens = min(max_tokens, ANCHOR_TOKENS)
    prompts, anchors = sample(base, tokens, round(ANCHORS_PER_PROMPT * styled))
    base_style = style(prompts[:styled], anchors[:styled])
    end, anchor_nll = parameters(model), AnchorNLL(base, prompts, [s.written for s in anchors], origin)

    def engine_at(scale: float) -> Engine:
        place(model, start, end, scale)
        return base.load_trained(model)

    def rise_at(scale: float) -> float:
        rise = anchor_nll.rise(scale, engine_at(scale))
        print(f"step scale {scale:.2f}: NLL of the base's completions {rise:+.2%}", flush=True)
        return rise

    def style_change_at(scale: float) -> np.ndarray:
        return style(*sample(engine_at(scale), tokens, styled)) - base_style

    asked, said = sample_at_1(base, min(DIVERGENCE_PROMPTS, styled))

    def divergence_at(scale: float) -> Divergence:
        return divergence(base, engine_at(scale), asked, said)

    searched, rise = line_search(rise_at, anchor_nll.at_origin, budget(anchor_nll.at_origin))
    scale, kl = shortened(searched, divergence_at)
    scale, backtracks = backtrack(scale, style_change_at)
    scale *= strength
    if scale != searched:
        rise = rise_at(scale)
    place(model, start, end, scale)
    return {"step scale": scale, "anchor NLL rise": rise, "KL": kl, "drawn back": backtracks}


def shortened(scale: float, divergence_at: Callable[[float], Divergence]) -> tuple[float, float]:
    """(the scale, shortened until its divergence from the base is within the limits; KL(base, it) there). The KL grows
    with the square of the scale, the entropy's change with the scale itself."""
    d = divergence_at(scale)
    for _ in range(MAX_SHORTENINGS):
        entropy = d.entropy_q / max(d.entropy_p, 1e-9) - 1
        limit = ENTROPY_CHANGE[0] if entropy < 0 else ENTROPY_CHANGE[1]
        print(f"step scale {scale:.2f}: KL {d.forward:.3f}, entropy {entropy:+.1%}", flush=True)
        room = min((LIMIT_SHARE * MAX_KL / max(d.forward, 1e-9)) ** 0.5, LIMIT_SHARE * limit / (entropy or 1e-9))
        if room >= 1:
            break
        scale *= 0.97 * room
        d = divergence_at(scale)
    return scale, d.forward


def backtrack(scale: float, style_change_at: Callable[[float], np.ndarray]) -> tuple[float, int]:
    """(the scale, times how often it was shortened until its style was acceptable; at most MAX_BACKTRACKS)."""
    for backtracks in range(MAX_BACKTRACKS):
        change = sameness, echoes, distance = style_change_at(scale)
        seen = f"sameness {sameness:+.3f}, prompts repeated {echoes:+.3f}, relevance {-distance:+.3f}"
        print(f"step scale {scale:.2f}: {seen}", flush=True)
        if not (change > MAX_STYLE_CHANGE).any():
            return scale, backtracks
        scale *= BACKTRACK_FACTOR
    return scale, MAX_BACKTRACKS


class DirectionEarlyStopping:
    """An on_step that ends a training whose direction has converged: half of the steps had found it already.

        cos(theta_t - theta_0, theta_{t/2} - theta_0) >= CONVERGED_COSINE

    What the later steps add is mostly length, which `settle` finds. Looked at after even steps alone. On three seeds of
    `simulate` it saved 36 to 44 % of the steps, and the win rate was 0.875 of 300 against 0.825 (docs/log.md).
    """

    def __init__(self, model, start: Parameters, on_step: OnStep):
        self.model, self.start, self.on_step = model, start, on_step
        self.directions: list[torch.Tensor] = []  # after each step

    def __call__(self, step: int, steps: int, loss: float | None) -> bool:
        """Whether to stop after `step` of `steps`; passes them on to `on_step`."""
        self.on_step(step, steps, loss)
        if step == 1:  # of another training, where a method has several
            self.directions.clear()
        self.directions.append(self.direction())
        if step % 2 or step < MIN_STEPS:
            return False
        cosine = float(cosine_similarity(self.directions[-1], self.directions[step // 2 - 1], dim=0))
        if converged := cosine >= CONVERGED_COSINE and step < steps:
            print(f"step {step} of {steps}: cosine to the direction of step {step // 2} {cosine:.3f}; ends", flush=True)
        return converged

    @torch.no_grad()
    def direction(self) -> torch.Tensor:
        """Every COSINE_STRIDE-th entry of theta - theta_0, on the model's device."""
        now = ((p, self.start[name]) for name, p in self.model.named_parameters() if name in self.start)
        return torch.cat([(p - before.to(p.device)).flatten()[::COSINE_STRIDE].float() for p, before in now])


class AnchorNLL:
    """How much the anchors' NLL has risen at a scale, relative to the base's own.

    All of them are read once, at the first scale; at the others ANCHOR_SUBSET alone, corrected by a control variate:
    the error of the subset is mostly another slope, so it grows linearly with the scale from its value at the origin.
    Against all 96 read at four scales it was off by at most 0.4 %, the subset alone by 1.7 %, nearly a round's budget;
    and each of the reads after the first takes 6 s instead of 15 (docs/log.md).
    """

    def __init__(self, base: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]], origin: Engine):
        self.prompts, self.completions = prompts, completions
        self.base_nll = nats(base, prompts, completions)  # (n,)
        self.at_origin, self.error_at_origin = (0.0, 0.0) if origin is base else self.read_all(origin)
        self.first: tuple[float, float] | None = None  # (scale, error of the subset) where all were read

    def rise(self, scale: float, engine: Engine) -> float:
        """The relative rise at `scale`, whose parameters `engine` has; the first call reads all of the anchors."""
        if self.first is None:
            rise, error = self.read_all(engine)
            self.first = scale, error
            return rise
        first_scale, error = self.first
        nll = nats(engine, self.prompts[ANCHOR_SUBSET], self.completions[ANCHOR_SUBSET])
        subset = nll.sum() / self.base_nll[ANCHOR_SUBSET].sum() - 1
        return float(subset + self.error_at_origin + scale / first_scale * (error - self.error_at_origin))

    def read_all(self, engine: Engine) -> tuple[float, float]:
        """(the rise of all, by how much it is above the subset's)."""
        nll = nats(engine, self.prompts, self.completions)
        rise = nll.sum() / self.base_nll.sum() - 1
        subset = nll[ANCHOR_SUBSET].sum() / self.base_nll[ANCHOR_SUBSET].sum() - 1
        return float(rise), float(rise - subset)


def style(prompts: list[list[Message]], samples: list[Sample]) -> np.ndarray:
    """(sameness, share of echoes, distance from the prompt), which three guards of the gate bound (features.styles)."""
    return styles(prompts, [s.text for s in samples])


def sample(engine: Engine, max_tokens: int, n: int) -> tuple[list[list[Message]], list[Sample]]:
    """(prompts, completions) on the training pack's first n prompts; the seeds are 0 to n - 1."""
    prompts = [as_prompt(q) for q in packs.prompts("general", "train")[:n]]
    return prompts, engine.complete(prompts, Sampling(max_tokens), list(range(len(prompts))))


def sample_at_1(engine: Engine, n: int) -> tuple[list[list[Message]], list[tuple]]:
    """(prompts, completions) at temperature 1 on the training pack's last n prompts."""
    prompts = [as_prompt(q) for q in packs.prompts("general", "train")[-n:]]
    sampled = engine.complete(prompts, at_temperature_1(DIVERGENCE_TOKENS), list(range(len(prompts))))
    return prompts, [s.written for s in sampled]


def parameters(model) -> Parameters:
    """A copy of the trainable parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def place(model, start: Parameters, end: Parameters, scale: float) -> None:
    """Set the trainable parameters to start + scale (end - start).

    PEFT's `set_scale` is another line: it multiplies all of BA, also what a champion's adapter had at the start.
    """
    for name, p in model.named_parameters():
        if name in start:
            p.copy_(torch.lerp(start[name].to(p.device), end[name].to(p.device), scale))


def budget(rise: float) -> float:
    """The largest NLL rise over the base that this round's candidate may have, where its origin has `rise`."""
    return min(rise + ROUND_BUDGET, max(TOTAL_BUDGET, rise))


def line_search(rise_at: Callable[[float], float], at_origin: float, limit: float) -> tuple[float, float]:
    """(scale, its rise): the largest tried scale with rise_at(scale) <= limit; the smallest one where none is.

    `at_origin` is rise_at(0). Each guess is where a parabola through the origin and what was tried meets the limit. (A
    chord had stopped at a rise of -1.6 % where 2 % were allowed: the rise first falls, then climbs. SciPy's bracketing
    root finders begin with a scale beyond the limit; here one is found on the way, within five reads in all.)
    """
    tried, scale, good, room = {}, INITIAL_SCALE, 0.0, max(limit - at_origin, 1e-4)
    for _ in range(MAX_TRIES):
        tried[scale] = rise_at(scale)
        good = max((s for s, rise in tried.items() if rise <= limit), default=0.0)
        bad = min((s for s in tried if s > good), default=None)
        near_limit = good and limit - tried[good] < 0.15 * room  # what is left, 0.3 % of NLL, is not worth a read
        if good == MAX_SCALE or near_limit or (bad and bad < BRACKET_RATIO * good):
            break
        if good and bad:  # a little below the crossing, and not so near to either that nothing would be learned
            guess = 0.98 * crossing((good, tried[good] - at_origin), (bad, tried[bad] - at_origin), room)
            scale = min(max(guess, good + 0.1 * (bad - good)), bad - 0.05 * (bad - good))
        else:  # one point is no parabola: as if the rise were quadratic in the scale
            growth = (room / max(tried[scale] - at_origin, 1e-4)) ** 0.5
            scale = min(scale * (min(max(growth, 1.1), MAX_GROWTH) if good else max(growth * 0.97, 0.1)), MAX_SCALE)
    return (good, tried[good]) if good else min(tried.items())


def crossing(first: tuple[float, float], second: tuple[float, float], height: float) -> float:
    """The x at which the parabola through the origin and two points (x, y) reaches `height` > 0, the second point
    lying above it; the chord's where the parabola is not convex."""
    (x1, y1), (x2, y2) = first, second
    curvature = (y2 / x2 - y1 / x1) / (x2 - x1)
    slope = y1 / x1 - curvature * x1
    if curvature <= 0:
        return x1 + (height - y1) / (y2 - y1) * (x2 - x1)
    return (-slope + (slope**2 + 4 * curvature * height) ** 0.5) / (2 * curvature)
