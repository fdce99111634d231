"""Feedback -> examples, split into a training and a held-out part.

The split is by conversation and sticky (storage/split.py): nothing moves from the gate to training between rounds, and
no later turn's prompt carries a held-out turn into training. What is dropped is counted, never silent.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path

from kdloop import packs
from storage import feedback as feedback_rows
from storage.conversations import Completion, Message, completions_and_turns, transcript
from storage.feedback import Feedback
from storage.split import is_held_out as is_held_out  # of an id that its maker has chosen

GUESSES = ("preference_model", "judge", "student")  # sources that go by how a text reads, not by what is right in it
NEAR = 0.95  # pairs of theirs whose words agree more than this teach nothing but noise
ECHO_LENGTH, ECHO_OWN_WORDS = 1.3, 0.2  # of the prompt's length at most; and so few of its words are its own
ECHO_COVERS = 0.4  # of the prompt's words at least: "Paris." may answer "Is it Rome or Paris?"
NEWEST = 2000  # people's votes that a round reads: its training takes 64 of them, and its memory stays the same
STAR_MARGIN = 0.25  # two completions of one turn make a pair when their stars differ by at least one of four steps


@dataclass(frozen=True)
class Example:
    """What a method learns from. Both sides: a pair; `chosen` alone: liked; `rejected` alone: disliked.

    Where several raters spoke of the same completions (`merged`), `rows` are the votes that say so and `outvoted` those
    that say the opposite; `weight` is the difference of their weights, `noise` the share of the outvoted.
    """

    prompt: list[Message]
    chosen: Completion | None
    rejected: Completion | None
    conversation: str
    rows: tuple[str, ...]
    source: str = "human"
    weight: float = 1.0
    noise: float | None = None  # probability that the vote is the wrong way round; None where nobody knows
    ranking: tuple[Completion, ...] = ()  # three or more completions of the prompt, best first
    critique: str = ""  # what was said of the rejected completion, in words
    rationale: str = ""  # why the chosen completion is the answer, in its author's words
    rater: str = ""
    round: int | None = None  # that elicited it
    outvoted: tuple[str, ...] = ()
    votes: tuple[tuple[str, float], ...] = ()  # (rater, weight), the weight of the outvoted below 0; () is one vote
    held_out: bool = False

    @property
    def question(self) -> str:
        """All that was asked, as one text: the message where there is one, else the whole conversation."""
        return transcript(self.prompt)

    @property
    def all_votes(self) -> tuple[tuple[str, float], ...]:
        return self.votes or ((self.rater, self.weight),)

    @property
    def completions(self) -> list[Completion]:
        return [k for k in (self.chosen, self.rejected) if k]

    @property
    def is_written(self) -> bool:
        """A person's own better text: a correction."""
        return self.source == "human" and self.chosen is not None and self.chosen.author == "human"

    @property
    def is_pair(self) -> bool:
        return self.chosen is not None and self.rejected is not None


@dataclass(frozen=True)
class Split:
    train: list[Example]
    held_out: list[Example]
    dropped: Counter = field(default_factory=Counter)

    @property
    def held_out_prompts(self) -> list[list[Message]]:
        return list({key(e.prompt): e.prompt for e in self.held_out}.values())


def from_feedback(db: Path, round_id: int | None = None, pack: str = "general", newest: int | None = NEWEST) -> Split:
    """People's live feedback (at most the `newest`; None for all), and the AI feedback of `round_id`, as examples.

    No prompt of the training part is one that a person's held-out conversation, or a pack, holds out: this is the one
    way into training, whatever source wrote the row.
    """
    rows = feedback_rows.live_feedback(db, round_id, newest)
    completions, prompts = completions_and_turns(db, [r.turn_id for r in rows])
    examples = [e for e in (example(r, completions, prompts) for r in rows) if e]
    read = sum(r.source == "human" for r in rows)
    dropped = Counter({"ties": sum(r.score == 0.5 and r.rejected_id is not None for r in rows)})
    dropped += Counter({"older votes": feedback_rows.count_votes(db)[0] - read})
    examples = with_rankings(merged([*examples, *star_pairs(rows, completions, prompts)], dropped))
    held_out = [e for e in examples if e.held_out and e.source == "human"]
    asked, packed = {key(e.prompt) for e in held_out}, packs.held_out(*{"general", pack})
    train = []
    for e in examples:
        if e.held_out:
            continue
        if any(key(q) in asked for q in questions(e.prompt)) or asks_any_of(e.prompt, packed):
            dropped["same prompt as a held-out one"] += 1
        else:
            train.append(e)
    return Split(train, held_out, +dropped)  # + leaves out what was never counted


def example(row: Feedback, completions: dict[str, Completion], prompts: dict[str, list[Message]]) -> Example | None:
    """A row's example; None for what says nothing on its own: ties, scores (see star_pairs)."""
    if row.channel == "stars" or (row.score is not None and row.source == "human"):
        return None
    chosen, rejected = (completions[id] if id else None for id in (row.chosen_id, row.rejected_id))
    knows = row.source == "preference_model" and row.score is not None
    words = {"critique" if rejected else "rationale": row.critique or row.reason}
    said = {
        "source": row.source,
        "weight": row.weight,
        "rater": row.rater,
        "noise": 1 - row.score if knows else None,
        "round": row.round_id,
        "held_out": bool(row.held_out),
    }
    return Example(prompts[row.turn_id], chosen, rejected, row.conversation_id, (row.id,), **said, **words)


def star_pairs(rows: list[Feedback], completions: dict, prompts: dict) -> list[Example]:
    """Stars that one rater gave to completions of one turn become pairs by their margin; a lone star becomes a thumb
    when it is not in the middle."""
    by_turn = defaultdict(list)
    for r in rows:
        if r.channel == "stars" and r.source == "human":  # a judge's scores come with the pair that they make
            by_turn[r.turn_id, r.rater].append(r)
    examples = []
    for stars in by_turn.values():
        stars = sorted(stars, key=lambda r: r.score)
        low, high = stars[0], stars[-1]
        common = {"prompt": prompts[low.turn_id], "conversation": low.conversation_id, "weight": low.weight}
        common |= {"rater": low.rater, "held_out": bool(low.held_out)}
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
    """How much each counts beside one full vote, or where none is full, beside the one that counts most. Above 1 where
    several raters agree."""
    full = min(1.0, max((e.weight for e in examples), default=1.0)) or 1.0
    return [e.weight / full for e in examples]


def trusted(examples: Iterable[Example], reliability: dict[str, float]) -> list[Example]:
    """The examples with each rater's votes discounted by how reliable these are (raters/preference_model.py); 0 where
    those outvoted are more reliable. What a person wrote is no vote: it keeps its weight."""
    return [e if e.is_written else replace(e, weight=net(e, reliability)) for e in examples]


def net(e: Example, reliability: dict[str, float]) -> float:
    return max(0.0, fsum(weight * reliability.get(rater, 1.0) for rater, weight in e.all_votes))


def merged(examples: list[Example], dropped: Counter) -> list[Example]:
    """One example per statement. Votes for it and votes for its opposite take their weights from each other; where both
    weigh the same, nothing is left. What people have said, no AI rater contradicts."""
    statements = defaultdict(lambda: ([], []))
    for e in examples:
        if why := teaches_nothing(e):
            dropped[why] += 1
        else:
            statement, side = direction(e)
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


def teaches_nothing(e: Example) -> str:
    """Why; "" where it does. What a person wrote always does, however little they changed."""
    if e.is_pair and e.chosen.text == e.rejected.text:
        return "identical pairs"
    if e.is_written:
        return ""
    if e.is_pair and e.source in GUESSES and near(e.chosen.text, e.rejected.text):
        return "near-identical pairs"
    if e.chosen and echoes(e.prompt[-1]["content"], e.chosen.text):  # the gate's guard would refuse what it teaches
        return "liked, but only repeats the prompt"
    return ""


def majority(*sides: list[Example]) -> Example | None:
    """The example of the side that weighs more, each rater once a side; None where both weigh the same."""
    votes = [{e.rater: e.weight for e in side} for side in sides]
    weights = [fsum(side.values()) for side in votes]
    left = abs(weights[0] - weights[1])
    if left < 1e-9:
        return None
    more, less = (0, 1) if weights[0] > weights[1] else (1, 0)
    won, lost, agree, against = sides[more], sides[less], votes[more], votes[less]
    several = len(agree) + len(against) > 1
    return replace(
        won[0],
        rows=rows_of(won),
        outvoted=rows_of(lost),
        weight=left,
        noise=min(weights) / fsum(weights) if several else won[0].noise,
        votes=(*agree.items(), *((rater, -weight) for rater, weight in against.items())) if several else (),
        ranking=next((e.ranking for e in won if e.ranking), ()),
        critique=next((e.critique for e in won if e.critique), ""),
        rationale=next((e.rationale for e in won if e.rationale), ""),
    )


def rows_of(examples: list[Example]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id for e in examples for id in e.rows))


def with_rankings(examples: list[Example]) -> list[Example]:
    """A completion preferred to one that was itself preferred to a third: an edit, and the choice that came before."""
    worse = {(key(e.prompt), e.chosen.text): e.rejected for e in examples if e.is_pair}

    def third(e: Example) -> Completion | None:
        return worse.get((key(e.prompt), e.rejected.text)) if e.is_pair and not e.ranking else None

    return [replace(e, ranking=(e.chosen, e.rejected, last)) if (last := third(e)) else e for e in examples]


def direction(e: Example) -> tuple[tuple, bool]:
    """(what is spoken of, which way): the same key for a pair and its opposite, for a like and its dislike."""
    prompt = key(e.prompt)
    if not e.is_pair:
        return (prompt, e.completions[0].text), e.chosen is not None
    texts = (e.chosen.text, e.rejected.text)
    return (prompt, *sorted(texts)), texts == tuple(sorted(texts))


def near(a: str, b: str) -> bool:
    """Jaccard similarity of their words (with counts) above NEAR."""
    x, y = Counter(re.findall(r"\w+", a.lower())), Counter(re.findall(r"\w+", b.lower()))
    union = (x | y).total()
    return union == 0 or (x & y).total() / union > NEAR


def echoes(prompt: str, completion: str) -> bool:
    """Does it say hardly anything but the prompt's own words? Short, on topic, complete, and no answer."""
    said, asked = re.findall(r"\w+", completion.lower()), re.findall(r"\w+", prompt.lower())
    own, covered = set(said) - set(asked), set(said) & set(asked)
    its_words = len(own) <= ECHO_OWN_WORDS * len(set(said)) and len(covered) >= ECHO_COVERS * len(set(asked))
    return len(said) > 1 and len(said) <= ECHO_LENGTH * len(asked) and its_words


def questions(prompt: list[Message]) -> list[list[Message]]:
    """What was asked on the way, too: a method that learns whole conversations learns the answers to all of it."""
    return [prompt[: at + 1] for at, m in enumerate(prompt) if m["role"] == "user"]


def asks_any_of(prompt: list[Message], known: frozenset[str]) -> bool:
    """Is any message of the person, now or on the way, one of these (normalised) prompts?"""
    return any(packs.normal(q[-1]["content"]) in known for q in questions(prompt))


def key(prompt: list[Message]) -> str:
    return "\n".join(f"{m['role']}: {' '.join(m['content'].lower().split())}" for m in prompt)
