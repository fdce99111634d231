"""How the gate spends its error: over the gates since the last promotion, and over the looks of one gate.

    alpha_k = alpha 6 / (pi k)^2       for gate number k since the last promotion; all of them together spend alpha

A candidate that is no better is promoted with a probability of at most alpha before the next true promotion, however
many rounds are tried (alpha spending, Foster & Stine 2008). One gate looks up to four times: prompts are sampled in
parts, and it ends at the first look that settles it. The looks share alpha_k by the union bound, so each one's exact
sign test stands on its own. To end because there is too little gain spends nothing.
"""

from dataclasses import asdict, dataclass
from math import pi

from kdloop.gate.outcomes import Outcomes

ERROR = 0.05  # of all gates since the last promotion together
LOOKS = ((0.25, 0.0), (0.5, 0.25), (0.75, 0.25), (1.0, 0.5))  # (share of the prompts, share of the gate's error)
LEAST_WIN_RATE = 0.55  # a gain that nobody would notice is not worth a swap; a convention
LEAST_GAIN_BY_CHECKS = 0.525  # 5 points of accuracy, a tie being half a win
MIN_DECIDED = 12  # where a sign test at 0.025 needs 10 of 12: below that a few lucky prompts would be enough


@dataclass(frozen=True)
class Look:
    """After `n` prompts: `alpha` is what this look may spend; at 0 it can only end the gate for too little gain."""

    n: int
    alpha: float


@dataclass(frozen=True)
class Turn:
    """Which gate this is: number `number` since version `since` was promoted, its prompts drawn by `seed`."""

    number: int = 1
    since: int = 0
    seed: int = 0

    def as_dict(self) -> dict:
        return asdict(self)

    @property
    def error(self) -> float:
        return ERROR * 6 / (pi * self.number) ** 2

    def looks(self, prompts: int, once: bool = False) -> list[Look]:
        """At `prompts` prompts in all; `once` where they cannot be taken in parts."""
        parts = [(1.0, 1.0)] if once else LOOKS
        return [Look(max(1, round(share * prompts)), spent * self.error) for share, spent in parts]

    def __str__(self) -> str:
        return f"gate no. {self.number} since v{self.since}"


def settled(outcomes: Outcomes, look: Look, least: float) -> bool | None:
    """True where the candidate is shown to be better, False where it gains too little to go on, else None."""
    enough = outcomes.decided >= MIN_DECIDED
    if enough and look.alpha and outcomes.p_value < look.alpha and outcomes.win_rate >= least:
        return True
    hopeless = outcomes.win_rate < (least if look.alpha else 0.5)
    return False if hopeless else None
