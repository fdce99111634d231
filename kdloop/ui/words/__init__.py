"""The page's words. English stands in the code; every other language is one JSON file here, by the English text.

`t` is for texts that the page is built with: the browser shows them in its own language. `tell` is for texts made at
run time, toasts above all, which Gradio does not translate: it takes the language of the request that is being handled.
"""

import json
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

LANGUAGES: dict[str, dict[str, str]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(__file__).parent.glob("*.json"))
}
MARKED = gr.I18n()
BUILT: set[str] = set()  # what pages have been built with


def t(text: str) -> I18nData:
    """A mark in whose place the browser puts its own language's text."""
    BUILT.add(text)
    return MARKED(text)


def built() -> gr.I18n:
    """The translations of all that `t` has marked so far: what the page tells later it need not carry."""
    known = {"en": {}, **LANGUAGES}
    return gr.I18n(**{code: {text: words.get(text, text) for text in BUILT} for code, words in known.items()})


def tell(text: str, **values) -> str:
    """`text` in the language of the current request, with `values` filled in; English where there is none."""
    return LANGUAGES.get(language(), {}).get(text, text).format(**values)


def language() -> str:
    """The first language that the browser prefers and that is known here; "en" otherwise."""
    request = LocalContext.request.get(None)
    wanted = request.headers.get("accept-language", "") if request else ""
    for tag in wanted.split(","):
        code = tag.split(";")[0].strip().lower()[:2]
        if code == "en" or code in LANGUAGES:
            return code
    return "en"
