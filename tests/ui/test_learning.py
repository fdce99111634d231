"""The Learning tab's pictures show what rounds have measured, and its tables hold the same numbers."""

import re

import pytest

from kdloop.feedback import collect
from kdloop.gate.outcomes import Outcomes
from kdloop.raters.judge import Calibration
from kdloop.settings import Settings
from kdloop.ui import before_after, learning, prose
from kdloop.ui.plots import Point, picture, ticks
from storage import checkpoints, conversations, rounds, teachers
from storage.conversations import as_prompt

NAMES = (
    "mean words", "repetition rise", "end-of-turn rate change", "sameness rise", "relevance change", "NLL rise",
)  # fmt: skip

EXAMPLE = ("at", "group", "about", "left", "right", "voting", "following")


def judge(db, outcomes, against_base=None, judged_by="preference model", promoted=True, examples=()):
    """A round that ended with this verdict."""
    started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    verdict = {
        "passed": promoted,
        "reason": "",
        "judged_by": judged_by,
        "n": outcomes.n,
        "guards": {name: {"value": 0.01 * i, "limit": "-0.2 to 0.5", "ok": True} for i, name in enumerate(NAMES)},
        "against_base": against_base and against_base.as_dict(),
        "examples": list(examples),
        **outcomes.as_dict(),
    }
    k = checkpoints.publish(
        db, started.id, lambda d: (d / "w").write_text("x"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    end = checkpoints.promote if promoted else checkpoints.reject
    end(db, k.id, started.id, verdict=verdict)
    return k.id


@pytest.fixture
def filled(db):
    """What the tab shows, by the name of what shows it."""

    def fill():
        names = (
            "trial",
            "summary",
            "rates",
            "table",
            "guards",
            "votes",
            "hours",
            "scores",
            "standings",
            "judges",
            *EXAMPLE,
        )
        return dict(zip(names, learning.fill(Settings(home=db.parent)), strict=True))

    return fill


def said(pictures):
    """title -> its points, as they are told where the mouse rests."""
    figures = re.findall(r"<b>(.*?)</b>(.*?)</figure>", pictures)
    return {title: re.findall(r"<title>(.*?)</title>", drawn) for title, drawn in figures}


def estimate(round_id, value, low, high):
    return f"{round_id}: {value:.3g} ({low:.3g} to {high:.3g})"


def test_rates_against_the_base_are_plotted_only_where_they_were_measured(db, filled):
    first, second, third, base = Outcomes(30, 10, 24), Outcomes(10, 9, 3), Outcomes(20, 12, 32), Outcomes(40, 8, 16)
    judge(db, first, first)
    judge(db, second, judged_by="log-probability margins on held-out pairs", promoted=False)
    judge(db, third, base)
    shown = filled()
    assert said(shown["rates"]) == {
        "Win rate against the base": [estimate(i, o.win_rate, *o.ci95) for i, o in ((1, first), (3, base))],
        "Win rate against the version before": [
            estimate(i, o.win_rate, *o.ci95) for i, o in enumerate((first, second, third), start=1)
        ],
    }
    assert shown["rates"].count('fill="var(--body-background-fill)"') == 1, "the refused one is hollow"
    rows = shown["table"].to_dict("records")
    assert [r["against the base"][:4] for r in rows] == ["0.66", "", "0.75"]


def test_every_guard_is_in_a_picture_and_in_the_table(db, filled):
    judge(db, Outcomes(30, 10, 24))
    shown = filled()
    assert list(said(shown["guards"])) == list(NAMES)
    assert shown["guards"].count("stroke-dasharray") == 2 * len(NAMES), "its limits"
    assert shown["table"].to_dict("records")[0]["NLL rise"] == "0.05 (-0.2 to 0.5)"


def test_what_checks_have_found_is_shown_where_they_judged(db, filled):
    judge(db, Outcomes(30, 10, 24))
    checked = Outcomes(45, 12, 103)
    judge(db, checked, judged_by="checks of 160 prompts")
    shown = filled()
    gained = said(shown["rates"])["Share of checked prompts gained on the version before"]
    low, high = (2 * end - 1 for end in checked.ci95)
    assert gained == [estimate(2, 33 / 160, low, high)]
    rows = shown["table"].to_dict("records")
    assert [r["checks gained"] for r in rows] == ["", f"+0.21 ({low:+.2f} to {high:+.2f}): 45 gained, 12 lost"]
    assert rows[1]["judged by"] == "checks of 160 prompts"


def test_votes_and_standings_are_plotted_with_their_numbers_beside(db, filled):
    rival = judge(db, Outcomes(30, 10, 24))
    for i in range(6):
        conversation = conversations.start_conversation(db, "ann", kind="duel")
        turn = conversations.add_turn(db, conversation, as_prompt("Hello?"))
        pair = [
            conversations.add_completion(db, turn.id, "student", text=f"I am {i} {k}", checkpoint_id=k)
            for k in (1, rival)
        ]
        collect.choose(db, "ann", *pair, "right")
    shown = filled()
    assert re.search(r"UTC,0\n.* UTC,6\n", shown["votes"]) and list(shown["hours"]["votes"]) == [6]
    assert shown["hours"]["hour"][0].endswith(" UTC"), "whose clock is not known"
    best, base = said(shown["scores"])["Bradley-Terry scores of the Arena, with 95 % intervals, the base at 0"]
    rows = shown["standings"].to_dict("records")
    assert [r["version"] for r in rows] == ["v1", "v0"] and best.startswith("v1: ") and base == "v0: 0"
    assert rows[0]["score"] == f"{float(best.split()[1]):+.2f}" and " to " in best and rows[0]["duels"] == 6


def test_before_the_first_round_nothing_is_drawn(filled):
    shown = filled()
    assert "No version has been judged yet" in shown["summary"] and shown["rates"] == shown["guards"] == ""
    assert "Standings appear" in shown["scores"] and list(shown["table"].columns) == learning.JUDGED


def test_a_picture_escapes_its_words_and_leaves_out_what_is_no_number():
    drawn = picture("<b>&", "<i>", [Point("<u>", 1, 1, 1), Point("gone", float("nan"), 0, 1)], joined=False)
    assert not re.search(r"<b>&|<i>|<u>", drawn.replace("<figcaption><b>", ""))
    assert drawn.count("<circle") == 1 and "gone" not in drawn and "nan" not in drawn
    assert picture("a", "b", [Point("gone", float("nan"), 0, 1)]) == ""


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.3, 0.05, [-0.3, -0.2, -0.1, 0]), (12, 103, [20, 40, 60, 80, 100])],
)
def test_an_axis_has_a_few_round_numbers(low, high, found):
    assert ticks(low, high) == found


def test_a_judge_is_shown_beside_people_and_why_it_may_not_train(db, filled):
    assert not filled()["judges"].visible
    teachers.record_calibration(
        db, "judge tess (/home/me/model, rubric 12ab)", Calibration(40, 36, 34, 2, 1, 0.05).as_dict()
    )
    teachers.record_calibration(db, "judge coin (m, rubric 12ab)", Calibration(40, 30, 15, 9, 0, 0.3).as_dict())
    shown = filled()["judges"]
    assert shown.visible and "/home/me" not in str(shown.value)
    good, bad = shown.value["data"]
    assert good == ["judge tess", "0.94 (0.82 to 0.98), n = 36", "2 / 40", "1 / 40", "+0.05", "yes"]
    assert bad[0] == "judge coin" and "no better than chance, 9 verdicts changed with the order" in bad[-1]


def test_before_and_after_are_compared_one_prompt_at_a_time(db, filled):
    assert not filled()["group"].visible
    judge(db, Outcomes(30, 10, 24), examples=[{"prompt": "Old?", "before": "a", "after": "b"}])
    told = ({"prompt": f"Why {n}?", "before": "Once `x`.", "after": f"{n} <i>now</i>"} for n in (1, 2))
    judge(db, Outcomes(30, 10, 24), promoted=False, examples=told)
    first = filled()
    assert first["group"].visible and first["following"].visible and not first["voting"].visible
    assert prose.plain(first["about"].partition("\n\n")[0]) == "Why 1?" and first["about"].endswith("1 of 2")
    assert "before" in first["left"] and "<code>" in first["left"], "as the chat shows it"
    assert "after" in first["right"] and "<i>" not in first["right"]
    second = dict(zip(EXAMPLE, before_after.after(Settings(home=db.parent), first["at"]), strict=True))
    assert second["about"].endswith("2 of 2") and "2 " in prose.plain(second["right"].partition("</div>")[2])
    again = before_after.after(Settings(home=db.parent), second["at"])
    assert again[EXAMPLE.index("about")] == first["about"], "after the last, the first"
