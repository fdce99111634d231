"""Every kind of feedback from people. All refer to rows by id, are idempotent, and are checked to be about the person's
own chats: another person's id is an unknown one.
"""

from collections.abc import Mapping
from pathlib import Path

from kdloop import packs
from storage import conversations, feedback, trials
from storage.conversations import Completion
from storage.feedback import AIChoice

MAX_CHARACTERS = 8000  # of a correction or critique; as for a message of a chat
CHOICES = ("left", "right", "tie", "both bad")
REASONS = ("wrong", "too long", "off-topic", "unsafe", "style")


def thumb(
    db: Path, person: str, completion_id: str, liked: bool | None, why: str = "", reasons: tuple[str, ...] = ()
) -> str | None:
    """Like, dislike, or retract it (None), `why` in words or by some of REASONS. Returns the feedback row's id. Raises
    ValueError as `rateable`, for another reason, and for more words than are kept."""
    completion = rateable(db, person, completion_id)
    known_reasons(reasons)
    if liked is None:
        feedback.retract(db, person, "thumb", completion_id)
        return None
    side = "chosen_id" if liked else "rejected_id"
    words = require_text(why, "A critique") if why.strip() else ""
    about = {side: completion_id, "critique": words, "reason": in_order(reasons)}
    return feedback.add_feedback(db, completion.turn_id, rater=person, channel="thumb", **about)


def stars(db: Path, person: str, completion_id: str, n: int) -> str:
    """One to five stars. Raises ValueError for another number."""
    if n not in (1, 2, 3, 4, 5):
        raise ValueError(f"{n!r} stars; give 1 to 5")
    return score(db, person, completion_id, (n - 1) / 4)


def score(db: Path, person: str, completion_id: str, value: float, why: str = "") -> str:
    """From 0 to 1, `why` in words; stars are five of these."""
    completion = rateable(db, person, completion_id)
    about = {"chosen_id": completion_id, "score": value, "critique": why.strip()}
    return feedback.add_feedback(db, completion.turn_id, rater=person, channel="stars", **about)


def choose(db: Path, person: str, left_id: str, right_id: str, choice: str) -> list[str]:
    """A blind choice between two completions of one turn, one of which may be empty: it can be lost against. A tie is
    stored but not trained on; "both bad" is two dislikes. Raises ValueError for another choice, or completions of
    different turns."""
    if choice not in CHOICES:
        raise ValueError(f"Choice {choice!r}; one of {', '.join(CHOICES)}")
    left, right = comparable(db, person, left_id, right_id, choice)
    if choice == "both bad":
        return [
            feedback.add_feedback(db, k.turn_id, rater=person, channel="choice", rejected_id=k.id)
            for k in (left, right)
        ]
    return [prefer(db, person, left.turn_id, left.id, right.id, choice)]


def comparable(db: Path, person: str, left_id: str, right_id: str, choice: str) -> tuple[Completion, Completion]:
    """The two. Raises ValueError where this choice between them cannot be made."""
    left, right = rateable(db, person, left_id, empty=True), rateable(db, person, right_id, empty=True)
    if left.turn_id != right.turn_id or left.id == right.id:
        raise ValueError("A choice is between two completions of the same prompt")
    if not {"left": left.text, "right": right.text}.get(choice, left.text or right.text):
        raise ValueError("That answer is empty: choose the other one")
    return left, right


def edit(db: Path, person: str, completion_id: str, text: str) -> str:
    """A correction: a completion written by the person, preferred to the student's. The same text twice is one row.

    Raises ValueError for an unchanged text; the smallest change is a correction.
    """
    completion, text = rateable(db, person, completion_id), correction_text(text)
    if text == completion.text:
        raise ValueError("The correction is the same as what the student wrote")
    corrections = feedback.edits(db, person, completion_id)
    if text in corrections:
        return corrections[text]
    better = conversations.add_completion(db, completion.turn_id, "human", text=text, name=person)
    return feedback.add_feedback(
        db, completion.turn_id, rater=person, channel="edit", chosen_id=better, rejected_id=completion_id
    )


def critique(db: Path, person: str, completion_id: str, text: str, reasons: tuple[str, ...] = ()) -> str:
    """What is wrong with a completion: some of REASONS, a text, or both. Raises ValueError for neither."""
    completion = rateable(db, person, completion_id)
    known_reasons(reasons)
    if not reasons or (text or "").strip():
        text = require_text(text, "A critique")
    return feedback.add_feedback(
        db,
        completion.turn_id,
        rater=person,
        channel="critique",
        rejected_id=completion_id,
        critique=text,
        reason=in_order(reasons),
    )


def known_reasons(reasons: tuple[str, ...]) -> None:
    if unknown := set(reasons) - set(REASONS):
        raise ValueError(f"Reasons {sorted(unknown)}; there are {', '.join(REASONS)}")


def in_order(reasons: tuple[str, ...]) -> str:
    return ", ".join(r for r in REASONS if r in reasons)


def comment(db: Path, person: str, completion_id: str, text: str) -> str:
    """Words that are neither for nor against a completion. They are kept, and teach nothing: score 0.5 is no vote."""
    completion, text = rateable(db, person, completion_id), require_text(text, "A comment")
    about = {"rejected_id": completion_id, "critique": text, "score": 0.5}
    return feedback.add_feedback(db, completion.turn_id, rater=person, channel="critique", **about)


def lessons(db: Path, person: str, probabilities: Mapping[str, float]) -> list[AIChoice]:
    """AI choices for this person to check: those of a running trial that nobody has judged first, then disputed ones,
    then the least certain; on the packs' prompts only: other people's prompts are private. `probabilities` by id are
    newer than the rows' own (raters/active.py)."""
    waiting, on_trial = feedback.ai_choices(db, person, packs.prompts("general", "train")), trials.waiting_pairs(db)

    def order(a: AIChoice) -> tuple:
        tried = {a.chosen_id, a.rejected_id} in on_trial
        return not tried, not a.disputed, abs(probabilities.get(a.id, a.probability) - 0.5)

    return sorted(waiting, key=order)


def review(db: Path, person: str, ai_choice_id: str, choice: str) -> str:
    """A person's own choice between the two completions that an AI rater compared: "left" is what the AI chose."""
    if choice not in ("left", "right", "tie"):
        raise ValueError(f"Choice {choice!r}; one of left, right, tie")
    pair = unchecked(db, person, ai_choice_id)
    return prefer(db, person, pair.turn_id, pair.chosen_id, pair.rejected_id, choice)


def fix(db: Path, person: str, ai_choice_id: str, text: str) -> str:
    """A person's own completion, preferred to the better one of the two that an AI rater compared."""
    pair, text = unchecked(db, person, ai_choice_id), correction_text(text)
    if text in (pair.chosen, pair.rejected):
        raise ValueError("That is one of the two answers as it stands: choose it, or change something in it")
    better = conversations.add_completion(db, pair.turn_id, "human", text=text, name=person)
    return feedback.add_feedback(
        db, pair.turn_id, rater=person, channel="edit", chosen_id=better, rejected_id=pair.chosen_id
    )


def unchecked(db: Path, person: str, ai_choice_id: str) -> AIChoice:
    """Raises ValueError if the pair has been checked already."""
    pair = feedback.ai_choice(db, person, ai_choice_id)
    if not pair:
        raise ValueError("This pair is checked already: take the next one")
    return pair


def prefer(db: Path, person: str, turn_id: str, left_id: str, right_id: str, choice: str) -> str:
    """Record left, right or tie; the caller has checked that this person may compare the two."""
    better, worse = (right_id, left_id) if choice == "right" else (left_id, right_id)
    score = 0.5 if choice == "tie" else None
    return feedback.add_feedback(
        db, turn_id, rater=person, channel="choice", chosen_id=better, rejected_id=worse, score=score
    )


def undo(db: Path, person: str, channel: str, completion_id: str) -> int:
    """Retract a person's feedback on a completion by channel; returns the number of retracted rows."""
    return feedback.retract(db, person, channel, rateable(db, person, completion_id, empty=True).id)


def rateable(db: Path, person: str, completion_id: str, empty: bool = False) -> Completion:
    """Raises ValueError unless it is a finished completion of the student, with a text unless it may be `empty`: not
    because somebody has stopped it."""
    completion = conversations.completion(db, completion_id, person)
    finished = completion.status not in ("open", "failed") if completion.text else empty and ended(completion)
    if completion.author != "student" or not finished:
        raise ValueError("Only a completion that the student has finished can be rated")
    return completion


def ended(completion: Completion) -> bool:
    return completion.status in ("finished", "cut")


def correction_text(text: str) -> str:
    """A correction without surrounding blank lines; the first line keeps its indentation, as code needs it."""
    require_text(text, "A correction")
    return text.rstrip().lstrip("\r\n")


def require_text(text: str, what: str) -> str:
    """The stripped text. Raises ValueError for an empty or over-long one."""
    text = (text or "").strip()
    if not text:
        raise ValueError(f"{what} needs some words")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{what} has {len(text)} characters; at most {MAX_CHARACTERS} are kept")
    return text
