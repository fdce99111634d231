"""The page's addresses: `?tab=rounds`, `?c=` and a conversation's id, `?round=3`.

page.js keeps the address in step with what is shown, and the page with the address when somebody goes back. A
conversation opens for its own person alone: the id says which one, the signed person of session.py whose.
"""

from html import escape

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui.transcript import authors, last_turn
from kdloop.ui.words import tell
from storage.conversations import UnknownRow

MOVED = "c => window.kdloop.moved(c)"  # after what the page shows has changed
SETTLED = "c => window.kdloop.settled(c)"  # after a conversation was opened or begun, or refused


def build() -> gr.Textbox:
    """Out of sight: the open conversation's id, for the address."""
    where = gr.Textbox(visible="hidden", elem_id="where")
    where.change(None, where, None, js=MOVED)
    return where


def at_hand(settings: Settings, state: dict) -> tuple[str, str]:
    """(what stands below the open conversation, its id)."""
    return authors(settings, state), state.get("conversation") or ""


def asked_for(settings: Settings, me: str, request: gr.Request) -> tuple[str | None, str | None]:
    """The conversation that the page's address names, if it is this person's, and the last turn of its open branch."""
    id = str(request.query_params.get("c") or "")
    try:
        turn = last_turn(settings, me, id) if id else None
        return (id, turn) if turn else (None, None)
    except UnknownRow:
        return None, None


def link(tab: str, text: str) -> str:
    """HTML. page.js opens the tab without loading the page again."""
    return f'<a href="?tab={tab}">{escape(text)}</a>'


def sign_in(why: str) -> str:
    """HTML, for who is no owner: `why`, and the way to the form."""
    return f"<p>{escape(why)} {link('admin', tell('sign in on the Admin tab'))}</p>"
