"""Two completions side by side, and four votes on them: one component for the Chat, the Arena and Teach; and without
votes for before and after, on Learning.

The sides are shown as in the chat, each scrolls within itself, and the votes stay in the window (page.css). Arrow keys
press them: an element's id ends in its key's name, and page.js knows the keys.
"""

from dataclasses import dataclass

import gradio as gr

from kdloop.ui import prose
from kdloop.ui.session import refused
from kdloop.ui.words import t, tell

VOTES = {  # label -> choice, as kdloop.feedback.collect takes it
    "The first is better": "left",
    "The second is better": "right",
    "Equally good": "tie",
    "Both bad": "both bad",
}
KEYS = {"left": "left", "right": "right", "tie": "up", "both bad": "down", "skip": "down"}  # choice -> arrow
SIDES = ("First", "Second")


@dataclass(frozen=True)
class Comparison:
    """`about` is what is said of the two; `after`, in the place of the votes, what can be done once one was given."""

    group: gr.Column
    about: gr.Markdown
    sides: list[gr.Markdown]
    voting: gr.Row
    votes: list[gr.Button]
    choices: list[str]
    after: gr.Row
    next: gr.Button
    undo: gr.Button

    @property
    def outputs(self) -> list:
        """What `shown`, `hidden` and `voted` fill; of one without votes, `read` and `unread`."""
        return [self.group, self.about, *self.sides, self.voting, *self.votes, self.after]

    @property
    def vote_events(self) -> list:
        """The events of all votes, for one handler, which asks `choice` which of them it was."""
        return [button.click for button in self.votes]

    def choice(self, event: gr.EventData) -> str:
        """By the button's name: what a session has changed is another object, with another number."""
        names = [button.elem_id for button in self.votes]
        if (name := getattr(event.target, "elem_id", None)) not in names:
            raise refused("Choose between the two answers first")
        return self.choices[names.index(name)]


def build(name: str, votes: dict[str, str], following: str = "") -> Comparison:
    """Hidden until `shown`. `name` begins the ids of its parts; `following` labels the button that goes on, after a
    vote or where there are no `votes`."""
    classes = ["kd-compare", *([] if votes else ["kd-read"])]
    with gr.Column(visible=False, elem_id=name, elem_classes=classes) as group:
        about = gr.Markdown(elem_id=f"{name}-about", elem_classes="kd-about")
        with gr.Row(elem_classes="kd-sides"):
            sides = [
                gr.Markdown(elem_id=f"{name}-{which.lower()}", elem_classes="kd-side", latex_delimiters=prose.FORMULAS)
                for which in SIDES
            ]
        with gr.Row(elem_classes="kd-votes", visible=bool(votes)) as voting:
            buttons = [gr.Button(t(label), size="sm", elem_id=f"{name}-{KEYS[v]}") for label, v in votes.items()]
        with gr.Row(visible=False, elem_classes="kd-votes") as after:
            next = gr.Button(
                t(following) if following else "", size="sm", visible=bool(following), elem_id=f"{name}-next"
            )
            undo = gr.Button(t("Undo this vote"), size="sm", visible=bool(votes), elem_id=f"{name}-undo")
    return Comparison(group, about, sides, voting, buttons, list(votes.values()), after, next, undo)


def shown(left: str, right: str, about: str, done: bool) -> list:
    """For `Comparison.outputs`; a vote is taken when both are done."""
    sides = [side(tell(f"{which} answer"), text) for which, text in zip(SIDES, (left, right), strict=True)]
    votes = [gr.Button(interactive=done)] * len(VOTES)
    return [gr.Column(visible=True), about, *sides, gr.Row(visible=True), *votes, gr.Row(visible=False)]


def hidden() -> list:
    votes = [gr.Button(interactive=False)] * len(VOTES)
    return [gr.Column(visible=False), "", "", "", gr.Row(visible=True), *votes, gr.Row(visible=False)]


def voted(about: str) -> list:
    """After a vote: both sides stay to be read."""
    votes = [gr.Button(interactive=False)] * len(VOTES)
    return [gr.skip(), about, gr.skip(), gr.skip(), gr.Row(visible="hidden"), *votes, gr.Row(visible=True)]


def taken_back(about: str) -> list:
    return [*voted(about)[:-1], gr.Row(visible=False)]


def read(left: str, right: str, about: str, more: bool) -> list:
    """Of a comparison without votes, whose sides are as of `side`; `more`: there is another to go on to."""
    return [gr.Column(visible=True), about, left, right, gr.Row(visible=False), gr.Row(visible=more)]


def unread() -> list:
    return [gr.Column(visible=False), "", "", "", gr.Row(visible=False), gr.Row(visible=False)]


def side(label: str, text: str) -> str:
    """Markdown that is HTML on one line."""
    return f'<div class="kd-label">{prose.escaped(label)}</div>{prose.styled(text or "…")}'
