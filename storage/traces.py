"""Where a person's words lie outside of their own conversations: rounds ask the student and teachers what people asked.

Such copies carry no person's id, so they are found by their text.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlite_utils import Database

BRIEF = 5  # words; what is shorter counts only as a line of its own: "why is it so" is in everybody's mouth
SPEAKER = r"(?:Person|Assistant|System|User|Human):"
ADDED = re.compile(rf"^(\[[^\]]*\]|\d+\.|{SPEAKER})\s+| Use about \d+ words\.$")  # to a line, by knowledge sources
ROUNDS = "v.person > 'round ' and v.person < 'round!'"  # whose conversations rounds have written


@dataclass(frozen=True)
class Words:
    """Texts to look for: `lines` as whole lines, `passages` anywhere, however their white space was changed."""

    lines: frozenset[str]
    passages: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Words":
        texts = {t.strip() for t in texts} - {""}
        lines = frozenset(t for t in texts if len(t.split()) < BRIEF and "\n" not in t)
        return cls(lines, tuple(" ".join(t.split()) for t in texts - lines))

    def are_in(self, text: str) -> bool:
        if self.lines and any(ADDED.sub("", line.strip()) in self.lines for line in text.split("\n")):
            return True
        flat = " ".join(text.split()) if self.passages else ""
        return any(passage in flat for passage in self.passages)


def words_of(c: Database, person: str, conversation: str | None = None) -> tuple[set[str], set[str]]:
    """(what a person asked, what they wrote as better answers), in one conversation and in no other of them, or
    anywhere."""
    asked = c.execute(
        "select json_extract(t.prompt, '$[#-1].content'), v.id from turns t "
        "join conversations v on v.id = t.conversation_id where v.person = ?",
        [person],
    ).fetchall()
    wrote = c.execute(
        "select k.text, t.conversation_id from completions k join turns t on t.id = k.turn_id "
        "where k.author = 'human' and k.name = ?",
        [person],
    ).fetchall()
    return only_in(conversation, asked), only_in(conversation, wrote)


def only_in(conversation: str | None, said: list) -> set[str]:
    """Of (text, the conversation that it is in)."""
    elsewhere = {text for text, id in said if id != conversation} if conversation else set()
    return {text for text, _ in said} - elsewhere


def in_rounds(c: Database, person: str, asked: set[str], wrote: set[str]) -> list[str]:
    """Turns that rounds wrote with these words. What others have voted on stays: it is a pack's prompt, for people are
    shown no other (kdloop.feedback.collect.lessons)."""
    others = "select 1 from feedback f where f.turn_id = t.id and f.source = 'human' and f.rater <> ?"
    turns = f"conversations v join turns t on t.conversation_id = v.id where {ROUNDS} and not exists ({others})"
    said, better = Words.of(asked | wrote), Words.of(wrote)
    found = [id for id, prompt in c.execute(f"select t.id, t.prompt from {turns}", [person]) if holds(said, prompt)]
    if wrote:
        texts = (
            f"select k.turn_id, k.text, k.author, k.name from completions k where turn_id in (select t.id from {turns})"
        )
        found += [r[0] for r in c.execute(texts, [person]) if r[2:] != ("human", person) and better.are_in(r[1])]
    return sorted(set(found))


def holds(words: Words, messages: str) -> bool:
    return any(words.are_in(m["content"]) for m in json.loads(messages))


def in_calls(c: Database, words: Words) -> list[int]:
    """Rows of calls that asked a teacher with these words, or got them back."""
    calls = c.execute("select rowid, json_extract(request, '$.messages'), text from calls where request <> '{}'")
    return [id for id, messages, text in calls if holds(words, messages) or words.are_in(text)]
