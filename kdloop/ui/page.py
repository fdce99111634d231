"""What the page adds to Gradio's components: its looks (page.css) and one script (page.js).

The script keeps the address, the keys, the draft and the roles that screen readers are told. It never makes HTML.
"""

import json
from pathlib import Path

from kdloop.ui.words import LANGUAGES

HERE = Path(__file__).parent
CSS = (HERE / "page.css").read_text(encoding="utf-8")
BUTTONS = {  # which -> what Gradio calls it in our languages (it translates some of them), and the word for it here
    "Like": (("Like", "Gefällt mir", "Me gusta"), "Like"),
    "Liked": (("Liked",), "Liked"),
    "Dislike": (("Dislike", "Gefällt mir nicht", "No me gusta"), "Dislike"),
    "Disliked": (("Disliked",), "Disliked"),
    "Retry": (("Retry", "Wiederholen", "Reintentar"), "Retry"),
    "Edit": (("Edit", "Bearbeiten", "Editar"), "Edit"),
    "Copy": (("Copy message",), "Copy message"),
    "Copied": (("Message copied",), "Message copied"),
    "Submit": (("Submit", "Senden", "Enviar"), "Save"),
    "Cancel": (("Cancel", "Abbrechen", "Cancelar"), "Cancel"),
    "Clear": (("Clear", "Chat leeren", "Limpiar chat"), "New conversation"),
    "Sidebar": (("Toggle Sidebar",), "Toggle Sidebar"),
}
LINES = {  # what the script itself says: of a message's editor, and after a restart on the same home, or maybe another
    "Editor": "The message's text",
    "Restarted": "The app was restarted. Nothing was lost: your conversations, votes and draft are here.",
    "Renewed": "The app was restarted.",
}


def script(home: str) -> str:
    """page.js with the words of each language. `home` is the same as long as nothing that people wrote can be lost; ""
    where each restart may."""
    names = {name: which for which, (names, _) in BUTTONS.items() for name in names}
    said = {which: word for which, (_, word) in BUTTONS.items()} | LINES
    words = {
        code: {which: known.get(word, word) for which, word in said.items()}
        for code, known in {"en": {}, **LANGUAGES}.items()
    }
    js = (HERE / "page.js").read_text(encoding="utf-8")
    for name, value in {"NAMES": names, "WORDS": words, "HOME": home}.items():
        js = js.replace(name, json.dumps(value))
    return js
