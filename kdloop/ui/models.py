"""The Models tab: every version, where it comes from, what it learned from; downloads; promote and roll back."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import gradio as gr
import pandas as pd

from kdloop.feedback import cards
from kdloop.feedback import versions as versions_out
from kdloop.settings import Settings
from kdloop.student.base import base_name, licence, origin
from kdloop.student.identity import named_base
from kdloop.student.serving import UNFIT, Serving
from kdloop.student.vocabulary import NotConvertible
from kdloop.ui import addresses, files, lineage, sure, trial, verdicts
from kdloop.ui.files import fresh_path
from kdloop.ui.session import PRIVATE, TABLE, allowed, named, owns, paced, refusal, refused
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import audit, checkpoints, offers, rounds, trials
from storage.checkpoints import BrokenCheckpoint, Checkpoint

OFFER = "Offer this version in the chat, by this name"
OFFER_INFO = "People choose it above their chat, beside the one that serves. Without a name it is offered no longer."
OWNERS_ONLY = "Only owners download versions and choose which one answers:"
COLUMNS = ["version", "status", "decided by", "from", "method", "examples", "of them AI", "verdict", "promoted"]


def build(settings: Settings, serving: Serving, state: gr.State) -> dict:
    lineage_picture = gr.HTML(picture(settings), elem_id="lineage")
    table = gr.Dataframe(
        versions(settings),
        label=t("Versions"),
        **TABLE,
        column_widths=[110, 110, 130, 60, 100, 110, 110, 400, 170],
    )
    alone = not settings.shared
    chosen = gr.Dropdown(choices(settings), label=t("Version"), elem_id="version")
    with gr.Accordion(t("Model card: what it learned from, whose words, which licence"), open=False):
        card = gr.Markdown(elem_id="card")
    outputs = [lineage_picture, table, chosen]
    with gr.Column(visible=alone) as owners:
        with gr.Row():
            form = gr.Dropdown(
                [(t(form.title), name) for name, form in versions_out.FORMS.items()],
                value="adapter",
                label=t("Download as"),
            )
            download_it = partial(download, settings)
            files.offer(t("Download it"), download_it, "download_version", [chosen, form, state], limit=1)
        with gr.Row():
            describe, act = partial(what_serves, settings), partial(serve, settings, serving)
            sure.ask_first(t("Serve this version…"), describe, act, "serve_version", chosen, state, outputs)
        offered = offer_form()
        give = named(partial(offer, settings, serving), "offer_version")
        given = offered.submit(give, [chosen, offered, state], offered, **PRIVATE)
        given.success(named(partial(fill, settings), "offered"), None, outputs, queue=False, **PRIVATE)
    sign_in = gr.HTML(visible=False)
    chosen.change(named(partial(model_card, settings), "model_card"), chosen, card, queue=False, **PRIVATE)
    return {"inputs": state, "outputs": [*outputs, owners, sign_in], "fill": partial(opened, settings)}


def opened(settings: Settings, state: dict):
    """When the tab opens: what only owners can do is there for owners."""
    owner = owns(settings, state)
    where = addresses.sign_in(tell(OWNERS_ONLY))
    return *fill(settings), gr.Column(visible=owner), gr.HTML(where, visible=not owner)


def fill(settings: Settings):
    return picture(settings), versions(settings), gr.Dropdown(choices(settings))


def what_serves(settings: Settings, id, state: dict) -> str:
    """Also that a trial ends by it."""
    allowed(settings, state)
    names = {"name": find(settings, id).name, "now": checkpoints.serving(settings.db).name}
    text = tell("Yes: {name} answers from now on in place of {now}", **names)
    return f"{text}. {tell('That ends the running trial')}" if trials.running(settings.db) else text


def picture(settings: Settings) -> str:
    return lineage.picture(checkpoints.lineage(settings.db), {r.id: r for r in rounds.list_rounds(settings.db, 1000)})


def kept(settings: Settings) -> list[Checkpoint]:
    """What can be served: a candidate of the running trial, too."""
    on_trial = (now := trials.running(settings.db)) and now.challenger
    lineage = checkpoints.lineage(settings.db)
    return [k for k in lineage if (k.status != "candidate" or k.id == on_trial) and not k.pruned_at]


def choices(settings: Settings) -> list[tuple[str, int]]:
    names = {o.checkpoint.id: f", “{o.name}”" for o in offers.offered(settings.db)}
    return [(f"{verdicts.in_words(k.name)} ({tell(k.status)}{names.get(k.id, '')})", k.id) for k in kept(settings)]


def versions(settings: Settings) -> pd.DataFrame:
    known = checkpoints.lineage(settings.db)
    names, by_id = {k.id: k.name for k in known}, {r.id: r for r in rounds.list_rounds(settings.db, 10_000)}
    rows, by = [], trial.decided_by(settings)
    for k in reversed(known):
        r = by_id.get(k.round_id)
        n, ai = (r.counts.get("train", ""), r.counts.get("ai", "")) if r else ("", "")
        came = tell("trained elsewhere" if k.path else "the student as it came")
        why = verdicts.in_words((r.verdict or {}).get("reason", "")) if r else came
        parent, when = verdicts.in_words(names.get(k.parent_id, "")), local(k.promoted_at)
        rows.append(
            (verdicts.in_words(k.name), tell(k.status), by.get(k.id, ""), parent, k.method or "", n, ai, why, when)
        )
    return pd.DataFrame(rows, columns=[tell(head) for head in COLUMNS])


def find(settings: Settings, id) -> Checkpoint:
    for k in kept(settings):
        if k.id == id:
            return k
    raise refused("Choose a version first")


def model_card(settings: Settings, id) -> str:
    """Without its front matter, which is for the Hub."""
    return card_of(settings, find(settings, id)).split("---\n", 2)[2]


def card_of(settings: Settings, k: Checkpoint) -> str:
    student, home = settings.student, settings.home
    return cards.of_version(settings.db, k, name_of(settings, k), licence(student, home), origin(student, home))


def name_of(settings: Settings, k: Checkpoint) -> str:
    """The Hub name of the version's base student, as of when the version was published."""
    published = named_base(settings.home / k.path) if k.path else ""
    return published or base_name(settings.student, settings.home)


def download(settings: Settings, id, form: str, state: dict) -> str:
    """The version's files as one zip."""
    who, k = allowed(settings, state), find(settings, id)
    paced(settings, state, "downloads")
    if k.path is None:
        raise refused("v0 is the base student: it has no adapter")
    audit.record(settings.db, who, f"downloaded the {form}", k.name)
    name = str(fresh_path(f"kdloop-{k.name.replace(' ', '-')}-{form}"))
    with tempfile.TemporaryDirectory() as directory:
        try:
            versions_out.write(settings, k, form, Path(directory), check=False)
        except (NotConvertible, BrokenCheckpoint) as error:
            raise refusal(error) from error
        return shutil.make_archive(name, "zip", directory)


def serve(settings: Settings, serving: Serving, id, state: dict):
    """Roll back to an earlier version, or promote a candidate that the gate refused. Either ends a running trial."""
    who, k = allowed(settings, state), find(settings, id)
    on_trial = (running := trials.running(settings.db)) and running.challenger
    try:
        serving.load(k)  # first: what cannot answer must not be named as the one that does
        checkpoints.serve(settings.db, k.id)
    except UNFIT as error:
        raise refusal(error) from error
    serving.current()
    now = checkpoints.serving(settings.db).name
    by_hand = k.status in ("rejected", "candidate") or k.id == on_trial
    audit.record(settings.db, who, "promoted by hand" if by_hand else "rolled back", now)
    gr.Info(tell("{name} answers from now on", name=now))
    return fill(settings)


def offer_form() -> gr.Textbox:
    return gr.Textbox(
        label=t(OFFER), info=t(OFFER_INFO), submit_btn=t("Offer"), max_length=offers.MAX_NAME, elem_id="offer"
    )


def offer(settings: Settings, serving: Serving, id, name: str, state: dict) -> str:
    """The chosen version, under this name; "" ends it. Returns "", for the next."""
    who, k = allowed(settings, state), find(settings, id)
    if not (name := str(name or "").strip()):
        return withdraw(settings, who, k)
    try:
        serving.load(k)  # what cannot answer must not be offered
        offers.offer(settings.db, k.id, name)
    except (*UNFIT, ValueError) as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "offered a version in the chat", k.name)
    gr.Info(tell("Offered in the chat: {name}. Pages show it when they load", name=name))
    return ""


def withdraw(settings: Settings, who: str, k: Checkpoint) -> str:
    if not offers.withdraw(settings.db, k.id):
        raise refused("Type the name first that people choose it by")
    audit.record(settings.db, who, "ended the offer of a version", k.name)
    gr.Info(tell("{name} is offered no longer", name=k.name))
    return ""
