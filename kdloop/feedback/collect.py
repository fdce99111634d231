"""Every way a person's feedback comes in. All by id, all idempotent, all checked to be about the person's own chat."""

from collections.abc import Mapping
from pathlib import Path

from kdloop import packs
from storage import conversations, feedback
from storage.conversations import Completion
from storage.feedback import AIChoice

MAX_CHARACTERS = 8000
CHOICES = ("left", "right", "tie", "both bad")
REASONS = ("wrong", "too long", "off-topic", "unsafe", "style")


def thumb(db: Path, person: str, completion_id: str, liked: bool | None) -> str | None:
    """Like, dislike, or take it back (None). Returns the feedback row's id."""
    about = rateable(db, person, completion_id)
    if liked is None:
        feedback.retract(db, person, "thumb", completion_id)
        return None
    side = "chosen_id" if liked else "rejected_id"
    return feedback.add_feedback(db, about.turn_id, rater=person, channel="thumb", **{side: completion_id})


def stars(db: Path, person: str, completion_id: str, n: int) -> str:
    """One to five."""
    if n not in (1, 2, 3, 4, 5):
        raise ValueError(f"{n!r} stars; give 1 to 5")
    about = rateable(db, person, completion_id)
    return feedback.add_feedback(
        db, about.turn_id, rater=person, channel="stars", chosen_id=completion_id, score=(n - 1) / 4
    )


def choose(db: Path, person: str, left_id: str, right_id: str, choice: str) -> list[str]:
    """A blind choice between two completions of one turn. A tie is kept but teaches nothing; both bad dislikes both."""
    if choice not in CHOICES:
        raise ValueError(f"Choice {choice!r}; one of {', '.join(CHOICES)}")
    left, right = rateable(db, person, left_id), rateable(db, person, right_id)
    if left.turn_id != right.turn_id or left.id == right.id:
        raise ValueError("A choice is between two completions of the same prompt")
    if choice == "both bad":
        return [
            feedback.add_feedback(db, k.turn_id, rater=person, channel="choice", rejected_id=k.id)
            for k in (left, right)
        ]
    return [prefer(db, person, left.turn_id, left.id, right.id, choice)]


def edit(db: Path, person: str, completion_id: str, text: str) -> str:
    """The person's better text: a human completion, preferred to the student's. The same text twice is one row.

    However little was changed: only the very same text is refused.
    """
    about, text = rateable(db, person, completion_id), written(text)
    if text == about.text:
        raise ValueError("The correction is the same as what the student wrote")
    known = feedback.edits(db, person, completion_id)
    if text in known:
        return known[text]
    better = conversations.add_completion(db, about.turn_id, "human", text=text, name=person)
    return feedback.add_feedback(
        db, about.turn_id, rater=person, channel="edit", chosen_id=better, rejected_id=completion_id
    )


def critique(db: Path, person: str, completion_id: str, text: str, reasons: tuple[str, ...] = ()) -> str:
    """What is wrong with a completion: some of REASONS, or words, or both."""
    about = rateable(db, person, completion_id)
    if unknown := set(reasons) - set(REASONS):
        raise ValueError(f"Reasons {sorted(unknown)}; there are {', '.join(REASONS)}")
    if not reasons or (text or "").strip():
        text = words(text, "A critique")
    return feedback.add_feedback(
        db,
        about.turn_id,
        rater=person,
        channel="critique",
        rejected_id=completion_id,
        critique=text,
        reason=", ".join(r for r in REASONS if r in reasons),
    )


def lessons(db: Path, person: str, sure: Mapping[str, float]) -> list[AIChoice]:
    """AI choices for this person to check, disputed ones first, then the least sure; on the packs' prompts only: what
    others asked is theirs. `sure` holds newer probabilities than the rows' own, by id (raters/active.py)."""
    waiting = feedback.ai_choices(db, person, packs.prompts("general", "train"))
    return sorted(waiting, key=lambda a: (not a.disputed, abs(sure.get(a.id, a.probability) - 0.5)))


def review(db: Path, person: str, ai_choice_id: str, choice: str) -> str:
    """A person's own choice between the two completions that an AI rater compared: "left" is what the AI chose."""
    if choice not in ("left", "right", "tie"):
        raise ValueError(f"Choice {choice!r}; one of left, right, tie")
    about = unchecked(db, person, ai_choice_id)
    return prefer(db, person, about.turn_id, about.chosen_id, about.rejected_id, choice)


def fix(db: Path, person: str, ai_choice_id: str, text: str) -> str:
    """A better completion, written by a person, than both that an AI rater compared."""
    about, text = unchecked(db, person, ai_choice_id), written(text)
    if text in (about.chosen, about.rejected):
        raise ValueError("That is one of the two answers as it stands: choose it, or change something in it")
    better = conversations.add_completion(db, about.turn_id, "human", text=text, name=person)
    return feedback.add_feedback(
        db, about.turn_id, rater=person, channel="edit", chosen_id=better, rejected_id=about.chosen_id
    )


def unchecked(db: Path, person: str, ai_choice_id: str) -> AIChoice:
    about = feedback.ai_choice(db, person, ai_choice_id)
    if not about:
        raise ValueError("This pair is checked already: take the next one")
    return about


def prefer(db: Path, person: str, turn_id: str, left_id: str, right_id: str, choice: str) -> str:
    """Record left, right or tie between two completions that were checked to be this person's to compare."""
    better, worse = (right_id, left_id) if choice == "right" else (left_id, right_id)
    score = 0.5 if choice == "tie" else None
    return feedback.add_feedback(
        db, turn_id, rater=person, channel="choice", chosen_id=better, rejected_id=worse, score=score
    )


def undo(db: Path, person: str, channel: str, completion_id: str) -> int:
    """Take back what was said of a completion through a channel; how many statements that were."""
    return feedback.retract(db, person, channel, rateable(db, person, completion_id).id)


def rateable(db: Path, person: str, completion_id: str) -> Completion:
    about = conversations.completion(db, completion_id, person)
    if about.author != "student" or about.status in ("open", "failed") or not about.text:
        raise ValueError("Only a completion that the student has finished can be rated")
    return about


def written(text: str) -> str:
    """A correction as its author wrote it: of the white space around it, the first line's indentation belongs to it."""
    words(text, "A correction")
    return text.rstrip().lstrip("\r\n")


def words(text: str, what: str) -> str:
    text = (text or "").strip()
    if not text:
        raise ValueError(f"{what} needs some words")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{what} has {len(text)} characters; at most {MAX_CHARACTERS} are kept")
    return text
