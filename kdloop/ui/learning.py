"""The Learning tab: does the student get better? Win rates, votes, and answers before and after."""

from functools import partial
from itertools import accumulate

import gradio as gr
import pandas as pd

from kdloop.settings import Settings
from kdloop.ui import arena
from kdloop.ui.session import TABLE
from kdloop.ui.words import t, tell
from storage import checkpoints, feedback, rounds

JUDGED = ["round", "version", "verdict", "against the version before", "against the base"]
SERIES = ("win rate against the base", "low end of its interval", "high end")
TRENDS = {"mean words": "Words of an answer", "repetition rise": "Repetition, against the version before"}
EMPTY = "No version has been judged yet. Chat, rate some answers, and a round will try to make a better student."


def build(settings: Settings) -> dict:
    """Returns what `fill` fills; the page does so whenever the tab is opened."""
    summary = gr.Markdown(t(EMPTY), elem_id="learning")
    curve = gr.LinePlot(
        title=t("Win rate on held-out prompts, with its 95 % interval (0.5 = no better)"),
        x="round",
        y="win rate",
        color="series",
        y_lim=[0, 1],
        height=260,
    )
    table = gr.Dataframe(
        label=t("Rounds that reached the gate"),
        **TABLE,
        column_widths=[80, 90, 110, 230, 230, 150, 150, 180, 220],
    )
    with gr.Row():
        trends = [gr.LinePlot(title=t(title), x="round", y=guard, height=200) for guard, title in TRENDS.items()]
    with gr.Row():
        votes = gr.LinePlot(title=t("Votes so far"), x="hour", y="votes", height=220)
        standings = gr.Markdown(arena.table(settings), label=t("Arena standings"), elem_id="standings")
    examples = gr.Dataframe(label=t("The same prompts before and after the last round"), **TABLE)
    return {"outputs": [summary, curve, table, *trends, votes, standings, examples], "fill": partial(fill, settings)}


def fill(settings: Settings):
    judged = [r for r in reversed(rounds.list_rounds(settings.db, 200)) if r.verdict and r.verdict.get("n")]
    return (
        summary(settings, judged),
        curve(judged),
        table(settings, judged),
        *(trend(judged, guard) for guard in TRENDS),
        votes(settings),
        arena.table(settings),
        examples(judged),
    )


def summary(settings: Settings, judged: list) -> str:
    if not judged:
        return tell(EMPTY)
    promoted = [r for r in judged if r.status == "promoted"]
    best = checkpoints.serving(settings.db).name
    n, of = len(promoted), len(judged)
    return tell("Judged rounds that were promoted: **{n} of {of}**. **{best}** answers now.", n=n, of=of, best=best)


def curve(judged: list) -> pd.DataFrame:
    """From round 0, the base, which wins half of the time against itself."""
    rows = [(0, 0.5, series) for series in SERIES] if judged else []
    for r in judged:
        outcome = r.verdict.get("against_base") or r.verdict
        values = (outcome["win_rate"], *outcome["ci95"])
        rows += [(r.id, value, series) for series, value in zip(SERIES, values, strict=True)]
    return pd.DataFrame(rows, columns=["round", "win rate", "series"])


def table(settings: Settings, judged: list) -> pd.DataFrame:
    names = {k.id: k.name for k in checkpoints.lineage(settings.db)}
    rows = []
    for r in judged:
        base = r.verdict.get("against_base")
        said = (r.id, names.get(r.candidate_id, ""), r.status, interval(r.verdict), interval(base) if base else "")
        guards = list(r.verdict["guards"].items())[:4]
        rows.append(dict(zip(JUDGED, said, strict=True)) | {k: f"{g['value']:.3g} ({g['limit']})" for k, g in guards})
    return pd.DataFrame(rows, columns=None if rows else JUDGED).fillna("")


def trend(judged: list, guard: str) -> pd.DataFrame:
    rows = [(r.id, r.verdict["guards"][guard]["value"]) for r in judged if guard in r.verdict["guards"]]
    return pd.DataFrame(rows, columns=["round", guard])


def interval(outcome: dict) -> str:
    low, high = outcome["ci95"]
    n = outcome["wins"] + outcome["losses"] + outcome["ties"]
    return f"{outcome['win_rate']:.2f} ({low:.2f} to {high:.2f}), n = {n}"


def votes(settings: Settings) -> pd.DataFrame:
    counted = feedback.votes_by_hour(settings.db)
    hours = pd.to_datetime([hour + ":00" for hour, _ in counted])
    before = hours[:1] - pd.Timedelta(hours=1)  # a curve begins at nothing
    totals = list(accumulate(n for _, n in counted))
    return pd.DataFrame({"hour": before.append(hours), "votes": [0] * len(before) + totals})


def examples(judged: list) -> pd.DataFrame:
    kept = judged[-1].verdict.get("examples", []) if judged else []
    rows = [(e["prompt"], e["before"], e["after"]) for e in kept]
    return pd.DataFrame(rows, columns=["prompt", "before", "after"])
