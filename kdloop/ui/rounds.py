"""The Rounds tab: what runs, recipes with what they need, every round with a page of its own; start and cancel.

An error's text and the log are for owners: a traceback names paths and prompts.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
import pandas as pd

from kdloop import recipes
from kdloop.feedback import readiness
from kdloop.feedback.readiness import MIN_EXAMPLES, Readiness
from kdloop.rounds import replays
from kdloop.rounds.process import log_file
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.ui import addresses, loop, recipe_card, round_page, trial, verdicts
from kdloop.ui.session import IN_ORDER, PRIVATE, TABLE, allowed, named, owns, refusal, refused
from kdloop.ui.words import t, tell
from storage import audit, checkpoints, feedback, rounds
from storage.rounds import Round, RoundRunning

HISTORY = ("round", "status", "method", "from", "to", "examples", "verdict")
LEFT_OUT = (
    readiness.SILENT,
    "ties",
    "older votes",
    "longer than the student reads",
    "too long",
    "identical pairs",
    "near-identical pairs",
    "without a text",
    "liked, but only repeats the prompt",
    "repeated or contradicted",
    "contradictory",
    "outvoted",
    "decided by people",
    "same prompt as a held-out one",
)  # reasons of kdloop.feedback.examples, which have translations
USABLE = (
    "Of **{votes}** votes a round can learn from **{usable}** (pairs: {pairs}, likes: {likes}, dislikes: {dislikes})."
)
HELD_OUT = "For judging what it learned it keeps: {n}."
NOT_ENOUGH = (
    "That is too little for a round: it takes {most} pairs or likes, or {half} likes and {half} dislikes. Go on "
    "chatting and rating."
)
READINESS: dict[Path, tuple[tuple[int, int], Readiness]] = {}  # database -> (its counts of votes, the answer then)
LATEST = 0  # in place of a round's id


def build(settings: Settings, supervisor: Supervisor, state: gr.State) -> dict:
    alone = not settings.shared
    status = gr.Markdown(live(settings), elem_id="live")
    tried = gr.HTML(elem_id="rounds-trial")
    with gr.Row():
        recipe = gr.Dropdown(recipe_choices(t), value="", label=t("Recipe"), elem_id="recipe")
        start = gr.Button(t("Start a round now"), variant="primary", visible=alone, elem_id="start")
        cancel = gr.Button(t("Cancel the round"), variant="stop", visible=False, elem_id="cancel")
        again = gr.Button(t("Train again without what was deleted"), visible=False, elem_id="retrain")
    about = gr.HTML(elem_id="recipe-card")
    usable = gr.Markdown(elem_id="usable", elem_classes="kd-head")
    with gr.Accordion(t("All recipes"), open=False):
        every = gr.HTML(elem_id="recipes")
    history = gr.Dataframe(
        history_table(settings, False),
        label=t("Rounds"),
        **TABLE,
        elem_id="history",
        column_widths=[80, 110, 100, 60, 110, 110, 670],
    )
    which = gr.Dropdown(choices(settings, t("the latest")), value=LATEST, label=t("Round"), elem_id="round")
    addressed = gr.Textbox(visible="hidden", elem_id="go-round")  # the round that the address names, see page.js
    addressed.submit(named(partial(addressed_round, settings), "addressed_round"), addressed, which, **IN_ORDER)
    which.input(None, which, None, js="id => window.kdloop.round(id)")
    page = gr.HTML(elem_id="round-page")
    log = gr.Textbox(label=t("Log of this round"), lines=8, visible=False, elem_id="log")
    asked, outputs = [which, recipe, state], [status, about, start, cancel, history, page, log, usable, again, tried]
    refresh = named(partial(everything, settings), "refresh")
    timer = gr.Timer(2, active=False)
    looked = [timer.tick, which.change, recipe.change]
    gr.on(looked, refresh, asked, outputs, queue=False, trigger_mode="always_last", **PRIVATE)
    acts = (start, start_round, [recipe, state]), (cancel, cancel_round, state), (again, retrain, state)
    for button, act, inputs in acts:
        handler = named(partial(act, settings, supervisor), act.__name__)
        button.click(handler, inputs, None, concurrency_limit=None, **PRIVATE).then(
            refresh, asked, outputs, queue=False, **PRIVATE
        )
    outputs = [which, recipe, every, *outputs]
    return {"fill": partial(fill, settings), "inputs": asked, "outputs": outputs, "timer": timer}


def fill(settings: Settings, which: int, recipe: str, state: dict):
    """When the tab opens: the choices of rounds and recipes too; a refill by the timer would close one while somebody
    chooses."""
    READINESS.pop(settings.db, None)
    every = recipe_card.all_recipes(settings, readiness_now(settings))
    offered = gr.Dropdown(recipe_choices(tell), value=known_recipe(recipe))
    known = gr.Dropdown(choices(settings, tell("the latest")))
    return known, offered, every, *everything(settings, which, recipe, state)


def recipe_choices(say: Callable) -> list[tuple]:
    return [(say("People's votes"), ""), *((name, name) for name in recipes.offered())]


def everything(settings: Settings, which: int, recipe: str, state: dict):
    owner, shown = owns(settings, state), chosen(settings, which)
    running = rounds.running_round(settings.db)
    about, missing = recipe_card.card(settings, known_recipe(recipe), readiness_now(settings))
    start = gr.Button(visible=owner, interactive=not missing and not running)
    cancel = gr.Button(tell("Cancel round {id}", id=running.id) if running else None, visible=bool(owner and running))
    page = round_page.page(settings, shown, outcome(shown, owner)) if shown else ""
    log = gr.Textbox(log_tail(settings, shown) if owner else "", visible=owner)
    again = gr.Button(visible=owner and replays.first_step(settings.db) is not None)
    about += "" if owner else addresses.sign_in(tell("Only owners start rounds:"))
    told = usable(settings), again, trial.panel(settings)
    return live(settings), about, start, cancel, history_table(settings, owner), page, log, *told


def addressed_round(settings: Settings, id: str) -> gr.Dropdown:
    """Shows the round of an address, or the latest where there is none of that id."""
    known = choices(settings, tell("the latest"))
    return gr.Dropdown(known, value=next((value for _, value in known if str(value) == id), LATEST))


def known_recipe(name: str) -> str:
    return name if name and name in recipes.offered() else ""


def chosen(settings: Settings, which: int) -> Round | None:
    """The round of that id, or the latest; None before the first."""
    known = rounds.list_rounds(settings.db)
    return next((r for r in known if which in (LATEST, r.id)), known[0] if known else None)


def choices(settings: Settings, latest) -> list[tuple]:
    return [(latest, LATEST), *((f"{r.id} ({tell(r.status)})", r.id) for r in rounds.list_rounds(settings.db))]


def live(settings: Settings) -> str:
    running = rounds.running_round(settings.db)
    if running:
        return progress_line(settings, running)
    total, new = feedback.count_votes(settings.db)
    if not total:
        return tell("No round yet. Chat and rate some answers: that is what rounds learn from.")
    return tell("No round is running. New votes that wait for the next one: {new}", new=new)


def readiness_now(settings: Settings) -> Readiness:
    counted = feedback.count_votes(settings.db)
    if READINESS.get(settings.db, (None,))[0] != counted:  # reading thousands of votes at each tick would slow chats
        READINESS[settings.db] = counted, readiness.readiness(settings.db)
    return READINESS[settings.db][1]


def usable(settings: Settings) -> str:
    """How many votes a round that starts now could learn from, and why not all."""
    known = readiness_now(settings)
    if not known.votes:
        return ""
    numbers = {name: getattr(known, name) for name in ("votes", "usable", "pairs", "likes", "dislikes")}
    sentences = [tell(USABLE, **numbers)]
    if known.held_out:
        sentences.append(tell(HELD_OUT, n=known.held_out))
    if known.left_out:
        reasons = ", ".join(f"{n} {tell(why)}" for why, n in known.left_out.most_common())
        sentences.append(tell("Not used: {reasons}.", reasons=reasons))
    if waits := trial.line(settings):
        sentences.append(waits)
    if not known.enough and settings.method == "auto":
        sentences.append(tell(NOT_ENOUGH, most=MIN_EXAMPLES, half=MIN_EXAMPLES // 2))
    return " ".join(sentences)


def progress_line(settings: Settings, running: Round) -> str:
    """Round, phase, a bar where there are steps, and how long it will take."""
    now = rounds.progress_now(settings.db, running.id)
    head = f"**{tell('Round')} {running.id} · {tell(now[0].phase if now else running.status)}**"
    parts = [f"{head} · {loop.doing(settings, running)}", loop.left(settings, running)]
    if now and not now[0].note and now[0].steps > 1:
        at = now[0]
        done = round(20 * at.step / at.steps)
        loss = tell("loss {loss}", loss=f"{at.loss:.3f}") if at.loss is not None else ""
        parts[:1] = [f"{head} `{'█' * done}{'░' * (20 - done)}` {at.step}/{at.steps}", loss]
    return " · ".join(filter(None, parts))


def log_tail(settings: Settings, shown: Round | None) -> str:
    """The last lines that are for people; progress bars are not."""
    path = shown and log_file(settings, shown.id)
    if not path or not path.exists():
        return ""
    lines = path.read_text(errors="replace").replace("\r", "\n").splitlines()
    return "\n".join([line for line in lines if line.strip() and "%|" not in line and "warn" not in line.lower()][-12:])


def history_table(settings: Settings, owner: bool) -> pd.DataFrame:
    versions = {k.id: k.name for k in checkpoints.lineage(settings.db)}
    rows = [
        (
            r.id,
            tell(r.status),
            r.method or "",
            versions.get(r.base_id, ""),
            verdicts.in_words(versions.get(r.candidate_id, "")),
            r.counts.get("train", ""),
            outcome(r, owner),
        )
        for r in rounds.list_rounds(settings.db)
    ]
    return pd.DataFrame(rows, columns=[tell(head) for head in HISTORY])


def outcome(r: Round, owner: bool) -> str:
    if r.status == "failed" and not owner:
        return tell(loop.BROKE)
    return verdicts.in_words((r.verdict or {}).get("reason") or r.error or r.why)


def start_round(settings: Settings, supervisor: Supervisor, recipe: str, state: dict) -> None:
    who = allowed(settings, state)
    try:
        known = known_recipe(recipe)  # never a file that a visitor names
        wanted = recipe_card.needed(settings, known, readiness.readiness(settings.db))
        if missing := recipe_card.unmet(wanted):
            raise ValueError(" ".join(map(recipe_card.in_words, missing)))
        started = supervisor.start(
            "auto" if known else settings.method, recipe=recipes.load(known).as_dict() if known else None
        )
    except (RoundRunning, ValueError) as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "started a round", f"{started.id} {recipe or ''}".strip())
    gr.Info(tell("Round {id} has started", id=started.id))


def retrain(settings: Settings, supervisor: Supervisor, state: dict) -> None:
    """The champion's line without what was erased since; the supervisor starts the steps after the first."""
    who = allowed(settings, state)
    if not (step := replays.first_step(settings.db)):
        raise refused("No version that this one comes from has read anything that was deleted")
    try:
        started = supervisor.repeat(step)
    except RoundRunning as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "trained again after an erasure", str(started.id))
    gr.Info(tell("Round {id} has started", id=started.id))


def cancel_round(settings: Settings, supervisor: Supervisor, state: dict) -> None:
    who = allowed(settings, state)
    running = rounds.running_round(settings.db)
    if not running:
        raise refused("No round is running")
    rounds.request_cancel(settings.db, running.id)
    audit.record(settings.db, who, "cancelled a round", str(running.id))
    gr.Info(tell("Round {id} will stop", id=running.id))
