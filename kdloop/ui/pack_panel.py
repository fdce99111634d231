"""On the Admin tab: packs with what was measured on them; check one, install one from a file, remove one."""

from functools import partial
from html import escape

import gradio as gr

from kdloop import packs
from kdloop.evaluation import pack_check, pack_list, pack_new, pack_remove
from kdloop.evaluation.pack_check import Report
from kdloop.evaluation.pack_findings import Found
from kdloop.evaluation.pack_list import Listed
from kdloop.raters.features import embed
from kdloop.settings import Settings
from kdloop.ui import sure
from kdloop.ui.files import given
from kdloop.ui.round_page import table
from kdloop.ui.session import PRIVATE, allowed, done, named, paced, refused, short
from kdloop.ui.words import t, tell
from storage import audit, checkpoints

ABOUT = (
    "A pack says what the student should get good at: rounds ask its training prompts, the gate its gate prompts, and "
    "measurements its held-out prompts. See docs/packs.md."
)
NONE_OF_YOURS = (
    "No pack of your own yet: upload a file of tasks below, or a ZIP archive of a whole pack. Then check it, and "
    "choose references@NAME or verified@NAME on the Rounds tab."
)
NOT_MEASURED = "Nothing is measured yet: python -m kdloop pack measure NAME does."
HEADS = ("pack", "what for", "train", "gate", "held out", "checks", "licence", "from")
SHARES = "{name} solves"  # of the held-out prompts
FOUND = ("finding", "where", "what", "what to do")
SHOWN = 60  # findings
LENGTH = 300  # characters of a text
EXAMPLE = "cc0-1.0"
FROM_FILE = (
    "Install one from a file of up to 1 MB: a whole pack as ZIP, or tasks as JSONL, JSON or CSV, with a prompt and an "
    "answer a line. Tasks need a name and a licence; a whole pack brings all but, if you like, another name."
)


def build(settings: Settings, state: gr.State) -> list:
    """Returns what `nothing` empties. It is filled when it is opened: to read all packs takes two seconds at first."""
    with gr.Accordion(t("Packs"), open=False, elem_id="packs") as panel:
        gr.Markdown(t(ABOUT), elem_classes="kd-head")
        known, found = gr.HTML(elem_id="pack-table"), gr.HTML(elem_id="pack-found", render=False)
        with gr.Row():
            which = gr.Dropdown([], label=t("Pack"), elem_id="pack")
            look = gr.Button(t("Check it"), elem_id="pack-check")
            outputs, goes, act = [known, which, found], partial(what_goes, settings), partial(remove, settings)
            sure.ask_first(t("Remove it…"), goes, act, "pack_remove", which, state, outputs)
        found.render()
        form = upload_form()
        bring = gr.Button(t("Install"), variant="primary", elem_id="pack-install")
    how = {"concurrency_limit": 1, **PRIVATE}
    panel.expand(named(partial(opened, settings), "packs"), state, outputs, **how)
    seen = how | {"show_progress": "full", "show_progress_on": found}  # by embeddings it takes seconds
    look.click(named(partial(check, settings), "pack_check"), [which, state], found, **seen)
    bring.click(named(partial(install, settings), "pack_install"), [*form, state], [*outputs, *form], **how)
    return [panel, *outputs]


def upload_form() -> list:
    gr.Markdown(t(FROM_FILE), elem_classes="kd-head")
    with gr.Row():
        taken = [*pack_new.ARCHIVES, *pack_new.READERS]
        file = gr.File(label=t("ZIP, JSONL, JSON or CSV"), file_types=taken, type="filepath", height=150)
        with gr.Column():
            name = gr.Textbox(label=t("Its name: a to z, 0 to 9, - and _"), max_length=40)
            licence = gr.Textbox(label=t("Licence of the tasks"), placeholder=EXAMPLE, max_length=LENGTH)
        with gr.Column():
            about = gr.Textbox(label=t("What it is for, in a sentence"), max_length=LENGTH)
            disclaimer = gr.Textbox(label=t("Disclaimer, beside answers"), max_length=LENGTH)
    return [file, name, licence, about, disclaimer]


def nothing() -> tuple:
    return gr.Accordion(open=False), "", gr.Dropdown([], value=None), ""


def kept() -> tuple:
    """When the tab is filled: what the panel shows stays, as it fills itself."""
    return (gr.skip(),) * len(nothing())


def opened(settings: Settings, state: dict):
    allowed(settings, state)
    return *fill(settings), ""


def fill(settings: Settings, chosen: str | None = None):
    """For (the table, the choice)."""
    every = pack_list.every(settings.db)
    return pack_table(every, checkpoints.serving(settings.db).name), gr.Dropdown(packs.names(), value=chosen)


def pack_table(every: list[Listed], serving: str) -> str:
    """HTML, and below it what there is to do where nothing is."""
    heads = [*HEADS, *(tell(SHARES, name=name) for name in dict.fromkeys((serving, "v0")))]
    missing = [] if any(not one.ours for one in every) else [tell(NONE_OF_YOURS)]
    missing += [] if any(one.shares != (None, None) for one in every) else [tell(NOT_MEASURED)]
    notes = "".join(f"<p>{escape(text)}</p>" for text in missing)
    return table(tell("Packs"), heads, (row(one, serving) for one in every)) + notes


def row(one: Listed, serving: str) -> str:
    pack, comes = one.pack, "kdloop" if one.ours else tell("installed")
    about = one.error or (tell(pack.about) if one.ours else pack.about)
    sizes = [f"{one.sizes[part]:,}" if one.sizes else "-" for part in packs.PARTS]
    shares = ["-" if share is None else f"{share:.0%}" for share in one.shares[serving == "v0" :]]  # one column
    cells = (about, *sizes, ", ".join(one.checks) or "-", pack.licence or "-", comes, *shares)
    return f"<tr><th>{escape(pack.name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def check(settings: Settings, name: str, state: dict) -> str:
    allowed(settings, state)
    paced(settings, state, "downloads")
    return findings(done(pack_check.check, known_name(name), embed))


def findings(report: Report) -> str:
    """HTML: whether it is sound, and each finding with what to do, the failures first."""
    said = tell("{name} is sound." if report.sound else "{name} is not sound yet.", name=report.pack)
    if not report.found:
        return f"<p><b>{escape(said)}</b></p>"
    found = sorted(report.found, key=lambda f: not f.fails)
    more = len(found) - SHOWN
    rest = tell("{n} more: python -m kdloop pack check {name} lists all.", n=more, name=report.pack) if more > 0 else ""
    rows = table(tell("What was found"), FOUND, map(finding, found[:SHOWN]))
    return f"<p><b>{escape(said)}</b></p>{rows}<p>{escape(rest)}</p>"


def finding(f: Found) -> str:
    head = f'<th class="kd-unmet">{escape(tell("to mend"))}</th>' if f.fails else f"<th>{escape(tell('note'))}</th>"
    cells = f.where or "pack", tell(f.what, **f.values), tell(f.do, **f.values)
    return f"<tr>{head}{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>"


def install(settings: Settings, file: str, name: str, licence: str, about: str, disclaimer: str, state: dict):
    who, path = allowed(settings, state), given(file)
    paced(settings, state, "downloads")
    place = done(pack_new.uploaded, path, *(short(text, LENGTH) for text in (name, licence, about, disclaimer)))
    audit.record(settings.db, who, "installed a pack", place.name)
    gr.Info(tell("Installed {name}. Check it before a round uses it", name=place.name))
    return *fill(settings, place.name), "", None, "", "", "", ""


def what_goes(settings: Settings, name: str, state: dict) -> str:
    allowed(settings, state)
    prompts, documents, back = done(pack_remove.what_goes, known_name(name))
    then = tell("The pack that it replaced comes back" if back else "What versions have learned from it stays learned")
    return f"{tell('Remove {name}: {n} prompts, {m} documents', name=name, n=prompts, m=documents)}. {then}"


def remove(settings: Settings, name: str, state: dict):
    who = allowed(settings, state)
    back = done(pack_remove.remove, known_name(name))
    audit.record(settings.db, who, "removed a pack", name)
    gr.Info(tell("Removed; the pack that it had replaced is back" if back else "Removed {name}", name=name))
    return *fill(settings), ""


def known_name(name: str) -> str:
    if name not in packs.names():
        raise refused("Choose a pack first")
    return name
