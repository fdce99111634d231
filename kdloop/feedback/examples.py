"""Feedback rows -> examples, split into a training and a held-out part.

The split is by conversation and sticky (storage/split.py): no example moves from the gate to training between rounds,
and no later turn's prompt leaks a held-out turn into training. Dropped rows are counted by reason.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path

from kdloop import packs
from storage import feedback as feedback_rows
from storage.conversations import Completion, Message, completions_and_turns, transcript
from storage.feedback import Feedback

VOTED = ("human", "import")  # sources whose stars and ties are a vote's; a judge writes its pair beside its scores
STYLE_RATERS = ("preference_model", "judge", "student")  # sources that judge how a text reads, not whether it is right
NEAR_DUPLICATE = 0.95  # word overlap from which their preferences are noise (of people and checks one word may matter)
# An echo, calibrated on the transcripts of docs/log.md ("say only the prompt again"): at most 1.3 times as long as its
# prompt, at most 0.2 new words, and at least 0.4 of the prompt's: "A lion." answers "..., a lion or a mouse?".
ECHO_MAX_LENGTH, ECHO_MAX_NEW_WORDS, ECHO_MIN_COVERAGE = 1.3, 0.2, 0.4
MAX_VOTES = 2000  # newest votes that a round reads: training takes at most 120, and memory stays bounded at 10^6 votes
STAR_MARGIN = 0.25  # least difference of scores that makes a pair: one star of five


@dataclass(frozen=True)
class Example:
    """What a method learns from: a pair, a liked completion (`chosen` alone), or a disliked one (`rejected` alone).

    Where several raters judged the same completions (`merged`), `rows` are the ids of the majority's feedback and
    `outvoted` the minority's; `weight` is the difference of their weights, `noise` the minority's share.
    """

    prompt: list[Message]
    chosen: Completion | None
    rejected: Completion | None
    conversation: str
    rows: tuple[str, ...]
    source: str = "human"
    weight: float = 1.0
    noise: float | None = None  # probability that the label is flipped; None if unknown
    ranking: tuple[Completion, ...] = ()  # three or more completions of the prompt, best first
    critique: str = ""  # of the rejected completion, in words
    rationale: str = ""  # its author's reason for the chosen completion
    rater: str = ""
    round: int | None = None  # the round that elicited it
    outvoted: tuple[str, ...] = ()
    votes: tuple[tuple[str, float], ...] = ()  # (rater, weight), below 0 for the outvoted; () for a single vote
    held_out: bool = False

    @property
    def question(self) -> str:
        """The prompt as one text: a lone message as it is, else the transcript."""
        return transcript(self.prompt)

    @property
    def all_votes(self) -> tuple[tuple[str, float], ...]:
        return self.votes or ((self.rater, self.weight),)

    @property
    def completions(self) -> list[Completion]:
        return [k for k in (self.chosen, self.rejected) if k]

    @property
    def is_written(self) -> bool:
        """A correction: the chosen completion was written by a person."""
        return self.source == "human" and self.chosen is not None and self.chosen.author == "human"

    @property
    def is_pair(self) -> bool:
        return self.chosen is not None and self.rejected is not None


@dataclass(frozen=True)
class Split:
    """`dropped` is reason -> number of feedback rows; `read` are the ids of all rows that no round has written, from
    which the same split can be made again."""

    train: list[Example]
    held_out: list[Example]
    dropped: Counter = field(default_factory=Counter)
    read: tuple[str, ...] = ()

    @property
    def held_out_prompts(self) -> list[list[Message]]:
        return list({key(e.prompt): e.prompt for e in self.held_out}.values())


def from_feedback(
    db: Path,
    round_id: int | None = None,
    pack: str = "general",
    newest: int | None = MAX_VOTES,
    among: Sequence[str] | None = None,
) -> Split:
    """People's active feedback (at most the `newest`; None for all; `among` these rows, where they are given) and the
    AI feedback of `round_id`, as examples.

    The training part has no prompt of a held-out conversation or of a pack's held-out parts. This is the only way into
    training, whatever source wrote the row.
    """
    rows = feedback_rows.live_feedback(db, round_id, newest, among)
    said = statements(db, rows)
    read = sum(r.source == "human" for r in rows)
    dropped = Counter({"ties": sum(r.score == 0.5 and r.rejected_id is not None for r in rows)})
    dropped += Counter({"older votes": feedback_rows.count_votes(db)[0] - read if among is None else 0})
    examples = with_rankings(merged(said, dropped))
    held_out = [e for e in examples if e.held_out and e.source == "human"]
    held_out_prompts, pack_prompts = {key(e.prompt) for e in held_out}, packs.held_out(*{"general", pack})
    train = []
    for e in examples:
        if e.held_out:
            continue
        if any(key(q) in held_out_prompts for q in questions(e.prompt)) or asks_any_of(e.prompt, pack_prompts):
            dropped["same prompt as a held-out one"] += 1
        else:
            train.append(e)
    of_people = tuple(r.id for r in rows if r.round_id is None)
    return Split(train, held_out, +dropped, of_people)  # + removes zero counts


def votes_of_people(db: Path, newest: int | None = MAX_VOTES) -> list[Example]:
    """Each of people's active votes as it was given, oldest first and of both parts: where as many say one thing as its
    opposite, `from_feedback` has neither."""
    rows = [r for r in feedback_rows.live_feedback(db, newest=newest) if r.source == "human"]
    return [e for e in statements(db, rows) if not reason_to_drop(e)]


def statements(db: Path, rows: list[Feedback]) -> list[Example]:
    """What the rows say, not merged."""
    completions, prompts = completions_and_turns(db, [r.turn_id for r in rows])
    said = [e for e in (example(r, completions, prompts) for r in rows) if e]
    return [*said, *star_pairs(rows, completions, prompts)]


def example(row: Feedback, completions: dict[str, Completion], prompts: dict[str, list[Message]]) -> Example | None:
    """A row's example; None for ties, and for stars, of which `star_pairs` makes examples."""
    if row.channel == "stars" or (row.score is not None and row.source in VOTED):
        return None
    chosen, rejected = (completions[id] if id else None for id in (row.chosen_id, row.rejected_id))
    has_probability = row.source == "preference_model" and row.score is not None
    comment = {"critique" if rejected else "rationale": row.critique or row.reason}
    values = {
        "source": row.source,
        "weight": row.weight,
        "rater": row.rater,
        "noise": 1 - row.score if has_probability else None,
        "round": row.round_id,
        "held_out": bool(row.held_out),
    }
    return Example(prompts[row.turn_id], chosen, rejected, row.conversation_id, (row.id,), **values, **comment)


def star_pairs(rows: list[Feedback], completions: dict, prompts: dict) -> list[Example]:
    """One rater's stars on completions of one turn make a pair of best and worst if these differ by STAR_MARGIN; else
    they are a like (four stars and more) or a dislike (two and fewer)."""
    by_turn = defaultdict(list)
    for r in rows:
        if r.channel == "stars" and r.source in VOTED:  # a judge writes its pair beside its scores
            by_turn[r.turn_id, r.rater].append(r)
    examples = []
    for stars in by_turn.values():
        stars = sorted(stars, key=lambda r: r.score)
        low, high = stars[0], stars[-1]
        common = {"prompt": prompts[low.turn_id], "conversation": low.conversation_id, "weight": low.weight}
        common |= {"source": low.source, "rater": low.rater, "held_out": bool(low.held_out)}
        if high.score - low.score >= STAR_MARGIN:
            sides = completions[high.chosen_id], completions[low.chosen_id]
            one_a_score = {r.score: completions[r.chosen_id] for r in stars}
            ranking = tuple(one_a_score[score] for score in sorted(one_a_score, reverse=True))
            common |= {"rows": (high.id, low.id), "ranking": ranking if len(ranking) > 2 else ()}
            examples.append(Example(chosen=sides[0], rejected=sides[1], **common))
        elif low.score <= 0.25:
            examples.append(Example(chosen=None, rejected=completions[low.chosen_id], rows=(low.id,), **common))
        elif high.score >= 0.75:
            examples.append(Example(chosen=completions[high.chosen_id], rejected=None, rows=(high.id,), **common))
    return examples


def relative_weights(examples: list[Example]) -> list[float]:
    """Each example's weight relative to a vote of weight 1, or to the greatest weight if all are below 1. Above 1 where
    several raters agree."""
    full = min(1.0, max((e.weight for e in examples), default=1.0)) or 1.0
    return [e.weight / full for e in examples]


def trusted(examples: Iterable[Example], reliability: dict[str, float]) -> list[Example]:
    """The examples with each rater's votes discounted by reliability (raters/preference_model.py); the weight is 0
    where the outvoted are more reliable. A correction is not a vote and keeps its weight."""
    return [e if e.is_written else replace(e, weight=net_weight(e, reliability)) for e in examples]


def net_weight(e: Example, reliability: dict[str, float]) -> float:
    return max(0.0, fsum(weight * reliability.get(rater, 1.0) for rater, weight in e.all_votes))


def merged(examples: list[Example], dropped: Counter) -> list[Example]:
    """One example per statement: the weighted majority of the votes for and against it; none where both weigh the same.
    Where people have voted, AI raters' votes on the same statement are dropped."""
    statements = defaultdict(lambda: ([], []))  # -> the examples of its two opposite sides
    for e in examples:
        if reason := reason_to_drop(e):
            dropped[reason] += 1
        else:
            statement, side = statement_of(e)
            statements[e.held_out, statement][side].append(e)
    kept = []
    for sides in statements.values():
        people = tuple([e for e in side if e.source == "human"] for side in sides)
        if any(people):
            dropped["decided by people"] += sum(map(len, sides)) - sum(map(len, people))
            sides = people
        if e := majority(*sides):
            dropped["outvoted"] += len(e.outvoted)
            kept.append(e)
        else:
            dropped["contradictory"] += 1
    return kept


def reason_to_drop(e: Example) -> str:
    """Why nothing can be learned from it; "" to keep it. Corrections are kept, however small the change."""
    if not all(k.text for k in e.completions):
        return "without a text"
    if e.is_pair and e.chosen.text == e.rejected.text:
        return "identical pairs"
    if e.is_written:
        return ""
    if e.is_pair and e.source in STYLE_RATERS and near_duplicates(e.chosen.text, e.rejected.text):
        return "near-identical pairs"
    if e.chosen and echoes(e.prompt[-1]["content"], e.chosen.text):  # the gate has a guard against what it teaches
        return "liked, but only repeats the prompt"
    return ""


def majority(*sides: list[Example]) -> Example | None:
    """An example of the side with more weight, where each rater counts once per side; None for equal weights."""
    votes = [{e.rater: e.weight for e in side} for side in sides]
    weights = [fsum(side.values()) for side in votes]
    difference = abs(weights[0] - weights[1])
    if difference < 1e-9:
        return None
    more, less = (0, 1) if weights[0] > weights[1] else (1, 0)
    won, lost, for_it, against = sides[more], sides[less], votes[more], votes[less]
    several = len(for_it) + len(against) > 1
    return replace(
        won[0],
        rows=rows_of(won),
        outvoted=rows_of(lost),
        weight=difference,
        noise=min(weights) / fsum(weights) if several else won[0].noise,
        votes=(*for_it.items(), *((rater, -weight) for rater, weight in against.items())) if several else (),
        ranking=next((e.ranking for e in won if e.ranking), ()),
        critique=next((e.critique for e in won if e.critique), ""),
        rationale=next((e.rationale for e in won if e.rationale), ""),
    )


def rows_of(examples: list[Example]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id for e in examples for id in e.rows))


def with_rankings(examples: list[Example]) -> list[Example]:
    """Chains of two pairs as rankings of three: a correction of the completion that won an earlier choice."""
    worse = {(key(e.prompt), e.chosen.text): e.rejected for e in examples if e.is_pair}

    def third(e: Example) -> Completion | None:
        return worse.get((key(e.prompt), e.rejected.text)) if e.is_pair and not e.ranking else None

    return [replace(e, ranking=(e.chosen, e.rejected, last)) if (last := third(e)) else e for e in examples]


def statement_of(e: Example) -> tuple[tuple[str, ...], bool]:
    """(statement, side): a pair and its opposite are the two sides of one statement, and so are a dislike and a
    like."""
    prompt = key(e.prompt)
    if not e.is_pair:
        return (prompt, e.completions[0].text), e.chosen is not None
    texts = (e.chosen.text, e.rejected.text)
    return (prompt, *sorted(texts)), texts == tuple(sorted(texts))


def near_duplicates(a: str, b: str) -> bool:
    """Jaccard similarity of the multisets of words above NEAR_DUPLICATE."""
    x, y = Counter(re.findall(r"\w+", a.lower())), Counter(re.findall(r"\w+", b.lower()))
    union = (x | y).total()
    return union == 0 or (x & y).total() / union > NEAR_DUPLICATE


def echoes(prompt: str, completion: str) -> bool:
    """Does the completion only repeat the prompt? Echoes are short, on topic and complete, which raters of style
    like."""
    written, prompted = re.findall(r"\w+", completion.lower()), re.findall(r"\w+", prompt.lower())
    new, covered = set(written) - set(prompted), set(written) & set(prompted)
    if len(written) < 2 or len(written) > ECHO_MAX_LENGTH * len(prompted):
        return False
    return len(new) <= ECHO_MAX_NEW_WORDS * len(set(written)) and len(covered) >= ECHO_MIN_COVERAGE * len(set(prompted))


def questions(prompt: list[Message]) -> list[list[Message]]:
    """The prompt of each user message: a method that trains on whole conversations trains on all their answers."""
    return [prompt[: at + 1] for at, m in enumerate(prompt) if m["role"] == "user"]


def asks_any_of(prompt: list[Message], normalised: frozenset[str]) -> bool:
    """Is any user message of the conversation one of these (normalised) prompts?"""
    return any(packs.normal(q[-1]["content"]) in normalised for q in questions(prompt))


def key(prompt: list[Message]) -> str:
    """The prompt without case and spacing, to find equal ones."""
    return "\n".join(f"{m['role']}: {' '.join(m['content'].lower().split())}" for m in prompt)
