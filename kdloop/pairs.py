"""Feedback -> examples, split into a training and a held-out part.

The split is by a stable hash of the conversation: nothing moves from the gate to training between rounds, and no later
turn's prompt carries a held-out turn into training. What is dropped is counted, never silent.
"""

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdloop import packs
from storage import feedback as feedback_rows
from storage.conversations import Completion, Message, completions_and_turns
from storage.feedback import Feedback

HELD_OUT_SHARE = 0.2
NEAR = 0.95  # pairs whose words agree more than this teach nothing but noise
ECHO_LENGTH, ECHO_OWN_WORDS = 1.3, 0.2  # of the prompt's length at most; and so few of its words are its own
ECHO_COVERS = 0.4  # of the prompt's words at least: "Paris." may answer "Is it Rome or Paris?"
NEWEST = 2000  # people's votes that a round reads: its training takes 64 of them, and its memory stays the same
STAR_MARGIN = 0.25  # two completions of one turn make a pair when their stars differ by at least one of four steps


@dataclass(frozen=True)
class Example:
    """What a method learns from. Both sides: a pair; `chosen` alone: liked; `rejected` alone: disliked."""

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

    @property
    def question(self) -> str:
        return self.prompt[-1]["content"]

    @property
    def completions(self) -> list[Completion]:
        return [k for k in (self.chosen, self.rejected) if k]

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


def is_held_out(conversation: str) -> bool:
    digest = hashlib.sha256(f"kdloop held-out {conversation}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE


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
    examples = with_rankings(without_contradictions([*examples, *star_pairs(rows, completions, prompts)], dropped))
    held_out = [e for e in examples if is_held_out(e.conversation) and e.source == "human"]
    asked, packed = {key(e.prompt) for e in held_out}, packs.held_out(*{"general", pack})
    train = []
    for e in examples:
        if is_held_out(e.conversation):
            continue
        if any(key(q) in asked or packs.normal(q[-1]["content"]) in packed for q in questions(e.prompt)):
            dropped["same prompt as a held-out one"] += 1
        else:
            train.append(e)
    return Split(train, held_out, dropped)


def example(row: Feedback, completions: dict[str, Completion], prompts: dict[str, list[Message]]) -> Example | None:
    """A row's example; None for what says nothing on its own: ties, scores (see star_pairs)."""
    if row.channel == "stars" or (row.score is not None and row.source == "human"):
        return None
    chosen, rejected = (completions[id] if id else None for id in (row.chosen_id, row.rejected_id))
    noise = 1 - row.score if row.source == "preference_model" and row.score else None
    words = {"critique" if rejected else "rationale": row.critique or row.reason}
    said = {
        "source": row.source,
        "weight": row.weight,
        "rater": row.rater,
        "noise": noise,
        "round": row.round_id,
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
        common["rater"] = low.rater
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
    """How much each counts beside the one that counts most."""
    most = max((e.weight for e in examples), default=1.0)
    return [e.weight / most for e in examples]


def without_contradictions(examples: list[Example], dropped: Counter) -> list[Example]:
    """One example per statement. Opposite statements on the same completions cancel, unless one has the majority of
    the raters' weights."""
    balance, first = Counter(), {}
    for e in examples:
        if e.is_pair and near(e.chosen.text, e.rejected.text):
            dropped["near-identical pairs"] += 1
            continue
        if e.chosen and echoes(e.question, e.chosen.text):  # the gate's guard would refuse what it teaches
            dropped["liked, but only repeats the prompt"] += 1
            continue
        statement, sign = direction(e)
        if statement in first:
            dropped["repeated or contradicted"] += 1
        first.setdefault((statement, sign), e)
        known = first[statement, sign]
        said = {"critique": known.critique or e.critique, "rationale": known.rationale or e.rationale}
        first[statement, sign] = replace(known, **said)
        first.setdefault(statement, e)
        balance[statement] += sign * e.weight
    kept = []
    for statement, net in balance.items():
        if abs(net) < 1e-9:
            dropped["contradictory"] += 1
        else:
            e = first[statement, 1 if net > 0 else -1]
            rows = tuple(dict.fromkeys(e.rows))
            kept.append(replace(e, rows=rows))
    return kept


def with_rankings(examples: list[Example]) -> list[Example]:
    """A completion preferred to one that was itself preferred to a third: an edit, and the choice that came before."""
    worse = {e.chosen.id: e.rejected for e in examples if e.is_pair}
    return [
        replace(e, ranking=(e.chosen, e.rejected, worse[e.rejected.id]))
        if e.is_pair and not e.ranking and e.rejected.id in worse
        else e
        for e in examples
    ]


def direction(e: Example) -> tuple[tuple, int]:
    """(what is spoken of, which way): the same key for a pair and its opposite, for a like and its dislike."""
    prompt = key(e.prompt)
    if not e.is_pair:
        return (prompt, e.completions[0].text), 1 if e.chosen else -1
    texts = (e.chosen.text, e.rejected.text)
    return (prompt, *sorted(texts)), 1 if texts == tuple(sorted(texts)) else -1


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


def key(prompt: list[Message]) -> str:
    return "\n".join(f"{m['role']}: {' '.join(m['content'].lower().split())}" for m in prompt)
