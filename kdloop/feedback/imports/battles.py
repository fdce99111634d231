"""Models compared by people and judges: LMArena's battles, MT-bench's judgments, UltraFeedback's scores.

A vote on two conversations of several turns is about their last answers, and the answers before them differ: only such
votes are read in which both answered the same prompt. A tie is kept and teaches nothing; "both bad" is two dislikes.
"""

import json
import re
from collections.abc import Iterator

from kdloop.feedback.imports import fields
from kdloop.feedback.imports.fields import APART, Dropped, Format, Wrong, last_said, messages, rated, said, text, time
from storage.conversations import Message, as_prompt
from storage.imports import Rated, Rating, Said

LEFT, RIGHT, TIE, BAD = ["left"], ["right"], ["tie"], ["bad"]
WINNERS = {"model_a": LEFT, "model_b": RIGHT, "tie": TIE, "tie (bothbad)": BAD, "both_bad": BAD, "bothbad": BAD}
UNREADABLE = "the judge's verdict could not be read"
VERDICT = re.compile(r"\[\[(\d+\.?\d*|[ABC])\]\]")  # as the judge writes it; FastChat reads [[A]] or the first number
JUDGED = {"model_1": LEFT, "model_2": RIGHT, "tie": TIE, "error": None}
ASKED = re.compile(r"\[(?:User )?Question\]\n(.*?)\n\n\[The Start", re.DOTALL)
ANSWERED = re.compile(r"\[The Start of (Assistant(?: [AB])?)'s Answer\]\n(.*?)\n\[The End of \1's Answer\]", re.DOTALL)


def verdict(winner: list[str], **about) -> list[Rating]:
    if winner == BAD:
        return [Rating(rejected=k, **about) for k in (0, 1)]
    sides = (1, 0) if winner == RIGHT else (0, 1)
    return [Rating(*sides, score=0.5 if winner == TIE else None, **about)]


def battle(row: dict) -> Iterator[Rated]:
    """LMArena, and people's judgments of MT-bench: `turn` says after how many turns it was judged."""
    talks = [messages(row[f"conversation_{side}"], f"conversation_{side}") for side in "ab"]
    if "turn" in row and "question_id" in row and "conv_metadata" not in row:
        turns = int(fields.number(row["turn"], "turn"))
        talks = [talk[: 2 * turns] if turns > 0 else talk for talk in talks]
    (before, left), (other, right) = map(last_said, talks)
    if before != other:
        raise Dropped(APART)
    winner = fields.choice(row["winner"], "winner", WINNERS)
    sides = [said(m, model(row, f"model_{side}")) for m, side in ((left, "a"), (right, "b"))]
    rater = row.get("judge", row.get("evaluation_session_id", "")) or ""
    rater = json.dumps(rater) if isinstance(rater, list) else text(rater, "judge")
    at = time(row.get("tstamp", row.get("timestamp")), "tstamp")
    yield rated(before, sides, verdict(winner, rater=rater, at=at))


def model(row: dict, field: str) -> str:
    return text(row.get(field) or "", field)


def kaggle(row: dict) -> Iterator[Rated]:
    """LMArena's table of 55,000: prompts and answers are lists in JSON, winners are columns of 0 and 1."""
    asked, left, right = (turns_of(row[name], name) for name in ("prompt", "response_a", "response_b"))
    if len(asked) != 1:
        raise Dropped(APART)
    won = [name for name in ("model_a", "model_b", "tie") if fields.number(row[f"winner_{name}"], f"winner_{name}")]
    if len(won) != 1:
        raise Wrong(f"winner_model_a, winner_model_b, winner_tie name {len(won)} winners, not one")
    if len(left) != 1 or len(right) != 1 or None in (*left, *right, *asked):
        raise Dropped(fields.EMPTY)
    sides = [Said(words, model(row, f"model_{side}")) for (words,), side in ((left, "a"), (right, "b"))]
    yield rated(as_prompt(asked[0]), sides, verdict(WINNERS[won[0]]))


def turns_of(value, field: str) -> list[str | None]:
    try:
        turns = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise Wrong(f"{field} is a text that is no list in JSON") from None
    return [None if t is None else text(t, f"{field}[{i}]") for i, t in enumerate(fields.listed(turns, field))]


def judged_pair(row: dict) -> Iterator[Rated]:
    """MT-bench, a judge asked in both orders: where they differ it is a tie, as MT-bench counts it."""
    first = fields.choice(row["g1_winner"], "g1_winner", JUDGED)
    second = fields.choice(row["g2_winner"], "g2_winner", JUDGED)
    if first is None or second is None:
        raise Dropped(UNREADABLE)
    for field in ("g1_judgment", "g2_judgment"):
        one_verdict(row, field)
    before, (left, right) = judged_texts(row, "g1_user_prompt", 2)
    sides = [Said(left, model(row, "model_1")), Said(right, model(row, "model_2"))]
    yield rated(before, sides, verdict(first if first == second else TIE, **by_judge(row)))


def judged(row: dict) -> Iterator[Rated]:
    """MT-bench, one answer: from 1 to 10, or -1 where the judge's score could not be read."""
    if fields.number(row["score"], "score") == -1:
        raise Dropped(UNREADABLE)
    before, (words,) = judged_texts(row, "user_prompt", 1)
    score = fields.scaled(row["score"], "score", 1, 10)
    rating = Rating(0, score=score, channel="stars", critique=one_verdict(row, "judgment"), **by_judge(row))
    yield rated(before, [Said(words, model(row, "model"))], [rating])


def one_verdict(row: dict, field: str) -> str:
    """What a judge wrote. Raises Dropped where it names two verdicts, of which the row has whichever FastChat looks for
    first (findings/fastchat_first_verdict.sh)."""
    judgment = text(row.get(field) or "", field)
    if len(set(VERDICT.findall(judgment))) > 1:
        raise Dropped("the judge wrote two verdicts")
    return judgment


def judged_texts(row: dict, field: str, n: int) -> tuple[list[Message], list[str]]:
    """The question and the answers, out of what the judge was shown: the file has them nowhere else."""
    shown = text(row[field], field)
    asked, answers = ASKED.search(shown), [words for _, words in ANSWERED.findall(shown)]
    if not asked or len(answers) != n:
        raise Dropped("the question and the answers are not where MT-bench shows them to a judge (second turns)")
    return as_prompt(asked[1]), answers


def by_judge(row: dict) -> dict:
    judge = row.get("judge") or ""
    name = judge[0] if isinstance(judge, list) and judge else judge
    return {"rater": text(name, "judge"), "at": time(row.get("tstamp"), "tstamp")}


def ultrafeedback(row: dict) -> Iterator[Rated]:
    """Several completions of an instruction, each with GPT-4's overall score from 1 to 10."""
    asked, completions, ratings = text(row["instruction"], "instruction"), [], []
    for i, k in enumerate(fields.listed(row["completions"], "completions")):
        field = f"completions[{i}]"
        k = fields.mapping(k, field)
        words = text(k["response"] if "response" in k else fields.missing(field, "response"), f"{field}.response")
        if not words.strip() or k.get("overall_score") is None:
            continue
        score = fields.scaled(k["overall_score"], f"{field}.overall_score", 0, 10)
        critique = text(k.get("critique") or "", f"{field}.critique")
        ratings.append(Rating(len(completions), score=score, channel="stars", rater="gpt-4", critique=critique))
        completions.append(Said(words, text(k.get("model") or "", f"{field}.model")))
    yield rated(as_prompt(asked), completions, ratings)


def ultrafeedback_binarized(row: dict) -> Iterator[Rated]:
    """Argilla's table of it."""
    sides = (
        Said(text(row[f"{side}_response"], f"{side}_response"), text(row.get(f"{side}_model") or "", f"{side}_model"))
        for side in ("chosen", "rejected")
    )
    yield fields.pair(as_prompt(text(row["instruction"], "instruction")), *sides, rater="gpt-4")


FORMATS = {
    "mt_bench_pairs": Format("MT-bench, pairs", lambda r: {"g1_winner", "g1_user_prompt"} <= r.keys(), judged_pair),
    "mt_bench_scores": Format("MT-bench, scores", lambda r: {"judgment", "user_prompt", "score"} <= r.keys(), judged),
    "battles": Format(
        "LMArena, or MT-bench by people", lambda r: {"conversation_a", "conversation_b", "winner"} <= r.keys(), battle
    ),
    "battles_table": Format("LMArena, as a table", lambda r: {"response_a", "winner_model_a"} <= r.keys(), kaggle),
    "ultrafeedback": Format("UltraFeedback", lambda r: {"instruction", "completions"} <= r.keys(), ultrafeedback),
    "ultrafeedback_binarized": Format(
        "UltraFeedback, binarized",
        lambda r: {"instruction", "chosen_response", "rejected_response"} <= r.keys(),
        ultrafeedback_binarized,
    ),
}
