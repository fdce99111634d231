"""A candidate that the judge prefers and that a guard alone blocks is not thrown away: its step is shortened, and it is
judged again, in the same round.

    theta = theta_0 + SHORTER (theta_1 - theta_0)        theta: the adapter's parameters (methods/step_size.py)

Each judgement is a gate of its own: it has the next number, so that it may err less, and prompts drawn anew. (Checks
and held-out pairs are the same ones again, with the next number's error.) The verdict says what was given up.
"""

from collections.abc import Callable
from dataclasses import replace

from kdloop.gate.spending import Turn
from kdloop.gate.verdict import Verdict
from storage.checkpoints import Checkpoint

SHORTER = 0.7  # of the step: what a guard sees grows about with the step, or its square (step_size.shortened)
MOST = 2  # times; at half of the step there is little left that people would notice
ANOTHER_SEED = 500_009  # between the draws of two gates of one round
SAID = "Its step was shortened to {share:.2g} of its length, as the whole of it had {limits}"


def next_gate(turn: Turn) -> Turn:
    return replace(turn, number=turn.number + 1, seed=turn.seed + ANOTHER_SEED)


def until_it_holds(
    candidate: Checkpoint,
    turn: Turn,
    judge: Callable[[Checkpoint, Turn, int], Verdict],
    shorten: Callable[[Checkpoint, int], Checkpoint],
) -> tuple[Checkpoint, Verdict, list[Verdict]]:
    """(the candidate, its verdict, those of its longer steps). `judge` and `shorten` are told how often it has been
    shortened: so far, and with this time."""
    given_up: list[Verdict] = []
    while True:
        verdict = judge(candidate, turn, len(given_up))
        if not can_be_shorter(verdict) or len(given_up) == MOST:
            return candidate, verdict, given_up
        given_up.append(verdict)
        candidate, turn = shorten(candidate, len(given_up)), next_gate(turn)


def can_be_shorter(verdict: Verdict) -> bool:
    return verdict.judgement.better and not verdict.passed


def told(given_up: list[Verdict]) -> dict:
    """What the stored verdict says of the longer steps: {} where there were none."""
    tries = [{"gate": v.turn.as_dict(), "reason": v.reason} for v in given_up]
    return {"tries": tries} if tries else {}


def in_words(reason: str, given_up: list[Verdict]) -> str:
    if not given_up:
        return reason
    return f"{reason}. {SAID.format(share=SHORTER ** len(given_up), limits=given_up[0].limits)}"
