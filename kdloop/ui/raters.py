"""On the Admin tab: each rater's weight, two camps of raters, and the erasure of somebody's data on their request."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.feedback.examples import votes_of_people
from kdloop.raters import camps
from kdloop.raters.camps import Camps
from kdloop.settings import Settings
from kdloop.ui import sure
from kdloop.ui.session import IN_ORDER, TABLE, allowed, erasure_notice, named, paced, refusal, refused
from kdloop.ui.times import local
from kdloop.ui.trial import paragraph
from kdloop.ui.verdicts import in_words
from kdloop.ui.words import t, tell
from storage import audit, people

GONE = "Delete for good what {person} wrote: {chats} conversations, {messages} messages, {votes} votes"
SET_WEIGHT = "set-weight"
COLUMNS = ["person", "votes", "last vote", "weight"]
CAMPS = (
    "Two camps, p = {p}. The first, of {n} ({votes} votes: {who}), likes {likes}. The second, of {others} ({theirs} "
    "votes: {whom}), likes {dislikes}."
)
CHOOSE = (
    "One version cannot please both. Learn from one camp, and from the next round on the other's votes teach nothing "
    "and count in no trial; they are kept, and Undo gives them their weight back. For a version each: when one is "
    "confirmed, undo, serve v0 (Models tab), look again and learn from the other; the Models tab can then offer both "
    "in the chat."
)
FROM = ("Learn from the first", "Learn from the second")
NAMELESS = "what no feature of style names"
NO_CAMPS = "No two people are shown to like opposite things. That takes {least} votes of each at least."
ASIDE = "One camp was chosen; set aside of the other: {n}. Undo gives back to each the weight that they had."


def build(settings: Settings, state: gr.State) -> list:
    """Returns what `fill` fills. One event for five buttons: each event makes the page heavier (test_strangers.py)."""
    with gr.Accordion(t("Raters"), open=True):
        table = gr.Dataframe(label=t("People whose votes stand"), **TABLE)
        told = gr.HTML(elem_id="camps")
        with gr.Row():
            look = gr.Button(t("Look for camps"), elem_id="camps-look")
            either = [gr.Button(t(f), visible=False, elem_id=f"camps-{i}") for i, f in enumerate(FROM)]
            undo = gr.Button(t("Undo"), visible=False, elem_id="camps-undo")
        with gr.Row():
            who = gr.Dropdown([], label=t("Person"))
            weight = gr.Slider(0, 1, 1, step=0.1, label=t("Weight of their word (0 blocks)"))
            save = gr.Button(t("Set the weight"), elem_id=SET_WEIGHT)
        outputs, label = [table, who, told, *either, undo], t("Erase this person's data…")
        with gr.Row():
            forget = partial(erase, settings)
            sure.ask_first(label, partial(what_goes, settings), forget, "erase_person", who, state, outputs)

    def on_press(about: str, given: float, state: dict, event: gr.EventData):
        if (name := choice(event)) == SET_WEIGHT:
            return *set_weight(settings, about, given, state), state
        return ON_CAMPS[name](settings, state)

    pressed = [button.click for button in (save, look, *either, undo)]
    how = IN_ORDER | {"show_progress": "full", "show_progress_on": told}  # to look takes seconds
    gr.on(pressed, named(on_press, "raters"), [who, weight, state], [*outputs, state], **how)
    return outputs


def nothing():
    return pd.DataFrame(columns=[tell(head) for head in COLUMNS]), gr.Dropdown([], value=None), "", *(hidden(),) * 3


def hidden() -> gr.Button:
    return gr.Button(visible=False)


def fill(settings: Settings, found: Camps | None = None, told: str = ""):
    """With the camps that were `found`, of which one can be chosen."""
    known, aside = people.raters(settings.db), people.count_aside(settings.db)
    rows = [(r.person[:8], r.votes, local(r.last), r.weight) for r in known]
    choices = [(f"{r.person[:8]} ({r.votes} votes)", r.person) for r in known]
    table = pd.DataFrame(rows, columns=[tell(head) for head in COLUMNS])
    texts = [*([tell(ASIDE, n=aside)] if aside else []), *(of_camps(found) if found else [told])]
    buttons = *(gr.Button(visible=bool(found)),) * 2, gr.Button(visible=aside > 0)
    return table, gr.Dropdown(choices, value=None), "".join(map(paragraph, filter(None, texts))), *buttons


def of_camps(found: Camps) -> list[str]:
    """Who they are and what they like, and what to do about it."""
    likes = [", ".join(map(in_words, camp.likes)) or tell(NAMELESS) for camp in found.both]
    who = [", ".join(person[:8] for person in camp.people) for camp in found.both]
    n, votes = zip(*((len(camp.people), camp.votes) for camp in found.both), strict=True)
    first = {"n": n[0], "votes": votes[0], "who": who[0], "likes": likes[0]}
    second = {"others": n[1], "theirs": votes[1], "whom": who[1], "dislikes": likes[1]}
    return [tell(CAMPS, p=f"{found.p_value:.2g}", **first, **second), tell(CHOOSE)]


def look(settings: Settings, state: dict):
    allowed(settings, state)
    paced(settings, state, "downloads")
    state["camps"] = found = camps.find(votes_of_people(settings.db))
    return *fill(settings, found, tell(NO_CAMPS, least=camps.MIN_VOTES)), state


def learn_from(which: int, settings: Settings, state: dict):
    """Of the camps that this page was shown: the other one's people are set aside."""
    who, found = allowed(settings, state), state.get("camps")
    if not found:
        raise refused("Look for camps first")
    people.set_aside(settings.db, found.both[1 - which].people, who)
    state["camps"] = None
    gr.Info(tell("Blocked: from the next round on their votes teach nothing"))
    return *fill(settings), state


def take_back(settings: Settings, state: dict):
    people.take_back(settings.db, allowed(settings, state))
    state["camps"] = None
    return *fill(settings), state


ON_CAMPS = {
    "camps-look": look,
    "camps-0": partial(learn_from, 0),
    "camps-1": partial(learn_from, 1),
    "camps-undo": take_back,
}


def choice(event: gr.EventData) -> str:
    """The button's name: what a session has changed is another object, with another number."""
    if (name := getattr(event.target, "elem_id", None)) not in (SET_WEIGHT, *ON_CAMPS):
        raise refused("Look for camps first")
    return name


def chosen(settings: Settings, person: str) -> str:
    if person not in {r.person for r in people.raters(settings.db)}:
        raise refused("Choose a person first")
    return person


def set_weight(settings: Settings, person: str, weight: float, state: dict):
    who, about = allowed(settings, state), chosen(settings, person)
    try:
        people.set_weight(settings.db, about, weight)
    except ValueError as error:
        raise refusal(error) from error
    audit.record(settings.db, who, f"set a rater's weight to {weight:g}", about[:8])
    gr.Info(tell("From the next round on" if weight else "Blocked: from the next round on their votes teach nothing"))
    return fill(settings)


def what_goes(settings: Settings, person: str, state: dict) -> str:
    allowed(settings, state)
    about = chosen(settings, person)
    n = {name: len(rows) for name, rows in people.everything(settings.db, about).items()}
    return tell(GONE, person=about[:8], chats=n["conversations"], votes=n["feedback"], messages=n["turns"])


def erase(settings: Settings, person: str, state: dict):
    who, about = allowed(settings, state), chosen(settings, person)
    affected = people.erase(settings.db, about)
    audit.record(settings.db, who, "erased a person's data", about[:8])
    gr.Info(erasure_notice(settings, affected))
    return fill(settings)
