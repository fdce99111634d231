"""Two camps of people who like opposite things: found in their votes, with a p-value, and said in words.

A taste is a Bradley-Terry model of one person's votes (preference_model.py). Two people are opposed where each one's
model predicts the other's votes the wrong way round, by `sum_test` on the margins in both directions; the larger p
counts, times the number of pairs of people (Bonferroni). That is exact against the votes of either of the two being
coin flips, and conservative where both like the same. One direction would not do: the model of somebody who flips coins
points anywhere, and half of all places are the wrong way round for everybody else.

The two that are furthest apart are the seeds; everybody else joins the camp whose other members' pooled model predicts
their votes, or neither. The split is hard EM over raters, as in MaxMin-RLHF (Chakraborty et al. 2024, arXiv
2402.08925), with Bradley-Terry models of our features; ours are the test before it, in both directions, and that nobody
is put into a camp whose model does not predict them.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdloop.feedback.examples import Example
from kdloop.raters.averaging import averaged
from kdloop.raters.features import SURFACE
from kdloop.raters.preference_model import MAX_RATER_VOTES, best_prior, posterior, standardised, sum_test, votes_of

P = 0.01  # error of finding camps where one of any two people flips coins
MIN_VOTES = 12  # of a person, to be tested: all of them missed, 2^-12, times the 36 pairs of nine people is below P
JOIN_P, MIN_JOIN_VOTES = 0.05, 5  # to be put into a camp, where an owner may block one: 2^-5 is below it, 2^-4 is not
MOST_TESTED = 12  # people with most votes: their 66 pairs are within what SUM_FLIPS resolve, and fitted within 2 s
MOST_PEOPLE = 40  # with most votes, who may join
PASSES = 4  # of who belongs where; two are the rule
SAID, FAINT = 3, 0.1  # features that a camp is said to like, at most; share of the largest below which one is not


@dataclass(frozen=True)
class Camp:
    """`people` by their votes, most first; `votes` are those that were read; `likes` as `PreferenceModel.strongest`."""

    people: tuple[str, ...]
    votes: int
    likes: tuple[str, ...]


@dataclass(frozen=True)
class Camps:
    """The camp of more people first. `p_value` is corrected for the number of pairs."""

    first: Camp
    second: Camp
    p_value: float

    @property
    def both(self) -> tuple[Camp, Camp]:
        return self.first, self.second


def find(votes: list[Example]) -> Camps | None:
    """Of people's votes, oldest first; None where no two are opposed. Corrections are no choices and do not count. Read
    are the newest MAX_RATER_VOTES of each of the MOST_PEOPLE busiest."""
    cast = [e for e in votes if e.source == "human" and not e.is_written]
    busiest = sorted(votes_of(cast).items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_PEOPLE]
    own = {rater: given[-MAX_RATER_VOTES:] for rater, given in busiest if len(given) >= MIN_JOIN_VOTES}
    tested = [rater for rater, given in own.items() if len(given) >= MIN_VOTES][:MOST_TESTED]
    if len(tested) < 2:
        return None
    x = standardised(cast)[0]
    rows = {rater: np.array([sign * x[i] for i, sign in given]) for rater, given in own.items()}
    seeds, p_value = most_opposed({rater: rows[rater] for rater in tested})
    if p_value >= P:
        return None
    sides = divided(rows, seeds)
    weights = [pooled(rows, side)[0] for side in sides]
    said = [liked(weights[0], weights[1]), liked(weights[1], weights[0])]
    camps = [Camp(tuple(s), sum(len(rows[r]) for r in s), likes) for s, likes in zip(sides, said, strict=True)]
    first, second = sorted(camps, key=lambda c: (-len(c.people), -c.votes))
    return Camps(first, second, p_value)


def most_opposed(rows: dict[str, np.ndarray]) -> tuple[tuple[str, str], float]:
    """Each person's (n, d) comparisons -> (the pair that is furthest apart, its p-value times the number of pairs). The
    distance is that of the nearer direction, in standard deviations of the sum of margins under coin flips."""
    tastes = {rater: averaged(x, len(SURFACE))[0] for rater, x in rows.items()}
    misses = {(r, q): -(rows[q] @ tastes[r]) for r in rows for q in rows if r != q}
    far = {way: m.sum() / (np.sqrt((m * m).sum()) or 1.0) for way, m in misses.items()}
    pairs = list(combinations(rows, 2))
    r, q = max(pairs, key=lambda pair: min(far[pair], far[pair[::-1]]))
    return (r, q), min(1.0, len(pairs) * max(sum_test(misses[r, q]), sum_test(misses[q, r])))


def divided(rows: dict[str, np.ndarray], seeds: tuple[str, str]) -> tuple[list[str], list[str]]:
    """The people of each camp. A seed stays in its own; others go where their votes are likelier by the model of the
    camp's other people, if that is above chance (JOIN_P), in passes until nobody moves."""
    sides = ([seeds[0]], [seeds[1]])
    for _ in range(PASSES):
        whole = [pooled(rows, side)[0] for side in sides]
        moved: tuple[list[str], list[str]] = ([], [])
        for rater, x in rows.items():
            if rater in seeds:
                moved[seeds.index(rater)].append(rater)
                continue
            by = [pooled(rows, s, without=rater)[0] if rater in s else w for s, w in zip(sides, whole, strict=True)]
            margins = [x @ weights for weights in by]
            better = int(np.logaddexp(0, -margins[1]).sum() < np.logaddexp(0, -margins[0]).sum())
            if sum_test(margins[better]) < JOIN_P:
                moved[better].append(rater)
        if moved == sides:
            break
        sides = moved
    return sides


def pooled(rows: dict[str, np.ndarray], people: list[str], without: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The posterior of the weights by all of these people's votes, but one's."""
    x = np.concatenate([rows[rater] for rater in people if rater != without])
    return posterior(x, best_prior(x))


def liked(weights: np.ndarray, others: np.ndarray) -> tuple[str, ...]:
    """Surface features with large weights by which a camp, whose they are, differs from the other one; none where all
    are faint beside the embedding's."""
    apart = weights * (weights - others)
    first = [i for i in np.argsort(-apart[: len(SURFACE)])[:SAID] if apart[i] > FAINT * apart.max()]
    return tuple(f"{'more' if weights[i] > 0 else 'less'} {SURFACE[i]}" for i in first)
