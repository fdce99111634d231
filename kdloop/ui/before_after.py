"""The same prompts, answered by the champion of then and by the candidate of a round: one at a time in the comparison
that people also vote in, or all of a round as HTML."""

from functools import partial
from html import escape

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui import comparison, prose
from kdloop.ui.session import IN_ORDER, named
from kdloop.ui.words import t, tell
from storage import rounds
from storage.rounds import Round

TITLE = "The same prompts before and after"
NEXT = "Next example"
SIDES = ("before", "after")


def build(settings: Settings) -> list:
    """What `shown` fills."""
    gr.Markdown(f"#### {t(TITLE)}")
    at = gr.Number(0, visible="hidden")  # of the examples, the one that is shown
    both = comparison.build("before-after", {}, NEXT)
    outputs = [at, *both.outputs]
    both.next.click(named(partial(after, settings), "next_example"), at, outputs, **IN_ORDER)
    return outputs


def latest(settings: Settings) -> list[dict]:
    """{"prompt", "before", "after"} of the last round that was judged, if any."""
    judged = (r for r in rounds.list_rounds(settings.db, 200) if r.verdict and r.verdict.get("n"))
    return examples(next(judged, None))


def examples(r: Round | None) -> list[dict]:
    return (r.verdict or {}).get("examples", []) if r else []


def after(settings: Settings, at: float):
    """The next one; after the last, the first."""
    return shown(latest(settings), int(at or 0) + 1)


def shown(known: list[dict], at: int = 0) -> list:
    if not known:
        return [0, *comparison.unread()]
    one = known[at := at % len(known)]
    left, right = sides(one)
    about = f"{prose.literal(one['prompt'])}\n\n{tell('{n} of {of}', n=at + 1, of=len(known))}"
    return [at, *comparison.read(left, right, about, more=len(known) > 1)]


def sides(example: dict) -> list[str]:
    return [comparison.side(tell(which), example[which]) for which in SIDES]


def html(r: Round) -> str:
    """All of a round, one below the other."""
    known = examples(r)
    return f"<h4>{escape(tell(TITLE))}</h4>{''.join(map(pair, known))}" if known else ""


def pair(example: dict) -> str:
    both = "".join(f'<div class="kd-side">{side}</div>' for side in sides(example))
    return f'<section class="kd-pair">{prose.literal(example["prompt"])}<div class="kd-sides">{both}</div></section>'
