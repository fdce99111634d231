"""What the Chat tab shows, top to bottom."""

from dataclasses import dataclass

import gradio as gr

from kdloop.chat import delegation
from kdloop.chat.turn import MAX_CHARACTERS
from kdloop.settings import Settings
from kdloop.ui import addresses, comparison, greeting, loop, offers, prose, rating, saved
from kdloop.ui.words import t

ELSEWHERE = "Where the student is not sure, your messages go to a teacher, who answers instead:"


@dataclass(frozen=True)
class Components:
    head: gr.Markdown
    news: loop.News
    version: gr.Dropdown
    bot: gr.Chatbot
    authors: gr.Markdown
    saved: saved.Saved
    comparison: comparison.Comparison
    box: gr.Textbox
    panel: dict
    where: gr.Textbox
    undo: gr.Textbox
    branch: gr.Textbox
    again: gr.State
    reopened: gr.Textbox


def lay_out(settings: Settings) -> Components:
    """A column as high as the window: the chat takes what the rest leaves (page.css)."""
    with gr.Column(elem_id="chat-page"):
        head, news, version = gr.Markdown(elem_classes="kd-head", elem_id="header"), loop.lay_out(), offers.build()
        bot = gr.Chatbot(
            elem_id="chat-log",
            label=t("Chat with the student"),
            show_label=False,  # on a phone it would hide the first message
            group_consecutive_messages=False,
            editable="all",  # the student's text into a better one; one's own goes back into the message box
            buttons=["copy"],
            latex_delimiters=prose.FORMULAS,
            allow_tags=False,  # there are none but kdloop.ui.prose's
            feedback_options=("Like", "Dislike"),
            examples=[{"text": question} for question in greeting.EXAMPLES],
            placeholder=t(greeting.WHAT_TO_DO),
        )
        thanks = saved.lay_out()
        two = comparison.build("compare", comparison.VOTES)
        authors = gr.Markdown(elem_classes="kd-head", elem_id="authors")
        panel = rating.panel()
        if teachers := delegation.allowed_teachers(settings):
            gr.Markdown(f"{t(ELSEWHERE)} {', '.join(x.name for x in teachers.all)}", elem_classes="kd-head")
        box = gr.Textbox(
            label=t("Message"),
            show_label=False,
            placeholder=t("Message… (Enter sends)"),
            submit_btn=t("Send"),
            stop_btn=False,
            max_length=MAX_CHARACTERS,
            max_lines=8,
            elem_id="message",
        )
    undo = gr.Textbox(visible="hidden", elem_id="undo")  # the id that page.js read from a correction's link
    branch = gr.Textbox(visible="hidden", elem_id="branch")  # the same of an arrow's link, the id of a turn
    again = gr.State()  # an own message that was edited, see replies.anew
    reopened = gr.Textbox(visible="hidden")  # the message whose editor page.js opens again, as replies.reopened has it
    reopened.change(None, reopened, None, js="edit => window.kdloop.reopen(edit)")
    where = addresses.build()
    return Components(head, news, version, bot, authors, thanks, two, box, panel, where, undo, branch, again, reopened)
