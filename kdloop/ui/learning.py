"""The Learning tab: does the student get better? Win rates, what the guards measure, votes, standings, and answers
before and after. Every picture has its numbers in a table beside it."""

import re
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate

import gradio as gr
import pandas as pd

from kdloop.chat import arena
from kdloop.chat.arena import Standing
from kdloop.settings import Settings
from kdloop.ui import before_after, trial, verdicts
from kdloop.ui.plots import Point, curve, picture, side_by_side
from kdloop.ui.round_page import GUARDS
from kdloop.ui.session import TABLE
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import checkpoints, feedback, rounds, teachers
from storage.rounds import Round

RATES = ("against the version before", "against the base", "checks gained")
JUDGED = ["round", "version", "verdict", *RATES, "judged by", "decided by"]
STANDINGS, HOURS = ("version", "score", "95 % interval", "duels"), ("hour", "votes", "votes so far")
JUDGES = (
    "judge",
    "agreement with people",
    "changed with the order",
    "unreadable",
    "longer ones, more than people",
    "may train",
)
EMPTY = "No version has been judged yet. Chat, rate some answers, and a round will try to make a better student."
HOW_TO_READ = (
    "Below, from left to right, the rounds, on held-out prompts: bars are 95 % intervals, a hollow dot is a refused "
    "candidate, and a dashed line is 0.5, where nobody is better, or what a guard allows."
)
GAINED = "{value} ({range}): {wins} gained, {losses} lost"
NO_STANDINGS = "Standings appear when two different versions have met."


def build(settings: Settings) -> dict:
    """Returns what `fill` fills; the page does so whenever the tab is opened."""
    tried = gr.HTML(elem_id="learning-trial")
    summary = gr.Markdown(t(EMPTY), elem_id="learning")
    rates = gr.HTML(elem_id="win-rates")
    table = gr.Dataframe(
        label=t("Rounds that reached the gate"),
        **TABLE,
        column_widths=[70, 100, 90, 200, 200, 100, 200, 130, *[130] * 12],
    )
    guards = gr.HTML(elem_id="guards")
    with gr.Row():
        with gr.Column():  # on a phone, one column is below the other
            votes = gr.HTML(elem_id="votes")
            hours = gr.Dataframe(label=t("Votes by hour"), **TABLE, max_height=240, column_widths=[160, 100, 120])
        with gr.Column():
            scores = gr.HTML(elem_id="scores")
            standings = gr.Dataframe(
                label=t("Arena standings"),
                **TABLE,
                max_height=240,
                column_widths=[100, 90, 160, 90],
                elem_id="standings",
            )
    examples = before_after.build(settings)
    judges = gr.Dataframe(label=t("AI judges, compared with people's votes"), **TABLE, visible=False, elem_id="judges")
    outputs = [tried, summary, rates, table, guards, votes, hours, scores, standings, judges, *examples]
    return {"outputs": outputs, "fill": partial(fill, settings)}


def fill(settings: Settings):
    judged = [r for r in reversed(rounds.list_rounds(settings.db, 200)) if r.verdict and r.verdict.get("n")]
    counted, standings = votes(settings), arena.standings(settings.db)
    return (
        trial.panel(settings),
        summary(settings, judged),
        curves(judged),
        table(settings, judged),
        trends(judged),
        votes_curve(counted),
        by_hour(counted),
        scores(standings) or tell(NO_STANDINGS),
        ranks(standings),
        judges(settings),
        *before_after.shown(before_after.examples(judged[-1] if judged else None)),
    )


def summary(settings: Settings, judged: list[Round]) -> str:
    if not judged:
        return tell(EMPTY)
    promoted = [r for r in judged if r.status == "promoted"]
    best = checkpoints.serving(settings.db).name
    n, of = len(promoted), len(judged)
    text = tell("Judged rounds that were promoted: **{n} of {of}**. **{best}** answers now.", n=n, of=of, best=best)
    return f"{text} {tell(HOW_TO_READ)}"


def curves(judged: list[Round]) -> str:
    """Against the base, where a round measured that; against the version before; and what the checks say, if any."""
    base = [point(r, r.verdict["against_base"]) for r in judged if r.verdict.get("against_base")]
    before, checked = [point(r, r.verdict) for r in judged], [point(r, gain(r.verdict)) for r in judged if checks(r)]
    axis, rate = tell("round"), {"marks": [0.5], "span": (0, 1), "unit": tell("share of comparisons won, ties half")}
    gained_unit = tell("share of prompts")
    return side_by_side(
        [
            picture(tell("Win rate against the base"), axis, base, **rate),
            picture(tell("Win rate against the version before"), axis, before, **rate),
            picture(
                tell("Share of checked prompts gained on the version before"), axis, checked, [0], unit=gained_unit
            ),
        ]
    )


def point(r: Round, outcome: dict) -> Point:
    return Point(str(r.id), outcome["win_rate"], *outcome["ci95"], hollow=r.status != "promoted")


def checks(r: Round) -> bool:
    return r.verdict["judged_by"].startswith("checks of")


def gain(verdict: dict) -> dict:
    """Of a round that checks have judged: the share of prompts that pass now, less the share that passed before."""
    return {"win_rate": 2 * verdict["win_rate"] - 1, "ci95": [2 * end - 1 for end in verdict["ci95"]]}


def table(settings: Settings, judged: list[Round]) -> pd.DataFrame:
    names = {k.id: verdicts.in_words(k.name) for k in checkpoints.lineage(settings.db)}
    heads, by = [tell(head) for head in JUDGED], trial.decided_by(settings)
    rows = []
    for r in judged:
        base = r.verdict.get("against_base")
        rates = interval(r.verdict), interval(base) if base else "", gained(r.verdict) if checks(r) else ""
        judge, people = verdicts.in_words(r.verdict["judged_by"]), by.get(r.candidate_id, "")
        cells = (r.id, names.get(r.candidate_id, ""), tell(r.status), *rates, judge, people)
        guards = {
            tell(name): f"{g['value']:.3g} ({verdicts.in_words(g['limit'])})" for name, g in r.verdict["guards"].items()
        }
        rows.append(dict(zip(heads, cells, strict=True)) | guards)
    return pd.DataFrame(rows, columns=None if rows else heads).fillna("")


def interval(outcome: dict) -> str:
    low, high = outcome["ci95"]
    n = outcome["wins"] + outcome["losses"] + outcome["ties"]
    return f"{outcome['win_rate']:.2f} ({span(f'{low:.2f}', f'{high:.2f}')}), n = {n}"


def span(low: str, high: str) -> str:
    return tell("{low} to {high}", low=low, high=high)


def gained(verdict: dict) -> str:
    more = gain(verdict)
    low, high = more["ci95"]
    about = {"value": f"{more['win_rate']:+.2f}", "range": span(f"{low:+.2f}", f"{high:+.2f}")}
    return tell(GAINED, **about, wins=verdict["wins"], losses=verdict["losses"])


def trends(judged: list[Round]) -> str:
    """Every guard's number by round; dashed, the limits of the last round that had it."""
    found: dict[str, list[Point]] = {}
    limits = {}
    for r in judged:
        for name, g in r.verdict["guards"].items():
            found.setdefault(name, []).append(Point(str(r.id), *[g["value"]] * 3, hollow=r.status != "promoted"))
            limits[name] = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", g["limit"])[:2]]
    return side_by_side(
        picture(tell(name), tell("round"), at, limits[name], unit=unit(name)) for name, at in found.items()
    )


def unit(guard: str) -> str:
    """Of its number, and which way is better."""
    of, way, _ = GUARDS.get(guard, ("", "", ""))
    return f"{tell(of)}: {tell(way)}" if of else ""


def votes(settings: Settings) -> list[tuple[datetime, int, int]]:
    """(hour, votes in it, votes until its end), hours without any left out."""
    counted = feedback.votes_by_hour(settings.db)
    totals = accumulate(n for _, n in counted)
    hours = (datetime.fromisoformat(hour + ":00+00:00") for hour, _ in counted)
    return [(hour, n, total) for hour, (_, n), total in zip(hours, counted, totals, strict=True)]


def votes_curve(counted: list[tuple[datetime, int, int]]) -> str:
    """From nothing, an hour before the first."""
    if not counted:
        return ""
    first = counted[0][0] - timedelta(hours=1)
    points = [(0, 0), *(((hour - first) / timedelta(hours=1), total) for hour, _, total in counted)]
    form = "%m-%d %H:%M" if points[-1][0] <= 48 else "%m-%d"
    axis, unit = tell("hour, as this browser's clock shows it"), tell("votes so far")
    return curve(tell("Votes so far"), axis, unit, points, lambda n: local(at(first, n), form))


def at(first: datetime, hours: float) -> str:
    return (first + timedelta(hours=hours)).isoformat()


def by_hour(counted: list[tuple[datetime, int, int]]) -> pd.DataFrame:
    """The newest hour first."""
    rows = [(local(hour.isoformat()), n, total) for hour, n, total in reversed(counted)]
    return pd.DataFrame(rows, columns=[tell(head) for head in HOURS])


def scores(standings: list[Standing]) -> str:
    points = [Point(verdicts.in_words(s.name), s.score, s.low, s.high) for s in standings]
    title = tell("Bradley-Terry scores of the Arena, with 95 % intervals, the base at 0")
    return picture(title, tell("version"), points, [0], joined=False, unit=tell("score: higher is better"))


def ranks(standings: list[Standing]) -> pd.DataFrame:
    rows = [
        (verdicts.in_words(s.name), f"{s.score:+.2f}", span(f"{s.low:+.2f}", f"{s.high:+.2f}"), s.n) for s in standings
    ]
    return pd.DataFrame(rows, columns=[tell(head) for head in STANDINGS])


def judges(settings: Settings) -> gr.Dataframe:
    """The latest calibration of each, by its name: its model may be a directory of the owner's."""
    known = teachers.calibrations(settings.db)
    rows = [
        (
            key.partition(" (")[0],
            f"{r['agreement']:.2f} ({span(*(f'{end:.2f}' for end in r['ci95']))}), n = {r['decided']}",
            f"{r['flips']} / {r['n']}",
            f"{r['unreadable']} / {r['n']}",
            f"{r['longer']:+.2f}",
            verdicts.in_words(r["refusal"]) or tell("yes"),
        )
        for key, r in known.items()
    ]
    return gr.Dataframe(pd.DataFrame(rows, columns=[tell(head) for head in JUDGES]), visible=bool(rows))
