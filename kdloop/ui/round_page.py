"""One round, on the Rounds tab: how it ended, its loss, its guards, what it was made of, and texts before and after."""

from collections.abc import Iterable
from html import escape

from kdloop.rounds import estimate
from kdloop.settings import Settings
from kdloop.ui import before_after, verdicts
from kdloop.ui.plots import curve
from kdloop.ui.times import local
from kdloop.ui.words import tell
from storage import checkpoints, rounds
from storage.rounds import Round

LOWER, HIGHER, WITHIN = "lower is better", "higher is better", "should stay within the limits"
GUARDS = {  # name -> (unit, which way is better, what it means)
    "mean words": ("words", WITHIN, "How long an answer is."),
    "repetition rise": ("share of trigrams", LOWER, "How much more an answer repeats itself."),
    "end-of-turn rate change": ("share of answers", HIGHER, "How many more answers come to an end."),
    "prompts repeated, rise": ("share of answers", LOWER, "How many more answers only repeat the question."),
    "sameness rise": ("cosine", LOWER, "How much more alike the answers to different questions are."),
    "relevance change": ("cosine", HIGHER, "How much nearer to its question an answer is."),
    "KL(base, candidate) per token": ("nats", LOWER, "How far it is from the untrained student, on that one's texts."),
    "KL(candidate, base) per token": ("nats", LOWER, "How far it is from the untrained student, on its own texts."),
    "entropy per token, change": ("share", WITHIN, "How much more freely it chooses its words."),
    "samples of one prompt alike, rise": ("cosine", LOWER, "How much more alike several answers to one question are."),
    "checks passed that were learned, change": ("share of prompts", HIGHER, "What it has kept of earlier rounds."),
}
HEADS = ("guard", "value", "limit", "held or broken", "what it means")
USED = "It trained on {train} examples (by AI: {ai}, imported: {imported}); kept to judge it: {held_out}."
NO_GUARDS = "It did not come to the gate, so no guard has measured it."


def page(settings: Settings, r: Round, said: str) -> str:
    """HTML. `said` is how it ended, in words that whoever reads it may see."""
    parts = [head(settings, r), f"<p>{escape(said)}</p>" if said else "", used(r), loss(settings, r)]
    guards = (r.verdict or {}).get("guards") or {}
    parts += [guard_table(guards) if guards else f"<p>{escape(tell(NO_GUARDS))}</p>", before_after.html(r)]
    return "".join(parts)


def head(settings: Settings, r: Round) -> str:
    names = {k.id: k.name for k in checkpoints.lineage(settings.db)}
    seconds = estimate.took(r)
    about = [
        f"{tell('Round')} {r.id}: {tell(r.status)}",
        f"{names.get(r.base_id, '')} → {verdicts.in_words(names[r.candidate_id])}" if r.candidate_id in names else "",
        r.recipe.get("name") or tell("People's votes"),
        r.method or "",
        local(r.created_at),
        tell("took {n} min", n=max(1, round(seconds / 60))) if seconds else "",
    ]
    return f"<p><b>{escape(' · '.join(filter(None, about)))}</b></p>"


def used(r: Round) -> str:
    """Which rows it read, by kind."""
    if not r.counts:
        return ""
    counts = {name: r.counts.get(name, 0) for name in ("train", "ai", "imported", "held_out")}
    said = [tell(USED, **counts)]
    if dropped := r.counts.get("dropped"):
        reasons = ", ".join(f"{n} {tell(why)}" for why, n in dropped.items())
        said.append(tell("Not used: {reasons}.", reasons=reasons))
    if elicited := r.counts.get("elicited"):
        written = ", ".join(f"{n} {source}" for source, n in elicited.items())
        said.append(tell("Written for it: {rows}.", rows=written))
    return f"<p>{escape(' '.join(said))}</p>"


def loss(settings: Settings, r: Round) -> str:
    steps = [(p.step, p.loss) for p in rounds.progress(settings.db, r.id) if p.loss is not None]
    title = tell("Training loss of round {id}", id=r.id)
    return curve(title, tell("optimiser step"), tell("loss of its method: lower is better"), steps)


def guard_table(guards: dict) -> str:
    return table(tell("Guards"), HEADS, (guard_row(name, g) for name, g in guards.items()))


def table(title: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    """HTML; `rows` are, too. It scrolls sideways where it does not fit, also by the keyboard."""
    named = "".join(f'<th scope="col">{escape(tell(head))}</th>' for head in heads)
    body = f"<table><thead><tr>{named}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="kd-table" tabindex="0" role="region" aria-label="{escape(title)}">{body}</div>'


def guard_row(name: str, g: dict) -> str:
    unit, way, meaning = GUARDS.get(name, ("", "", ""))  # one that an older kdloop knew
    state, ok = ("held", "") if g["ok"] else ("broken", ' class="kd-broken"')
    value = f"{g['value']:.3g} {tell(unit) if unit else ''}".strip()
    meant = " ".join(filter(None, [meaning and tell(meaning), way and f"({tell(way)})"]))
    cells = (value, verdicts.in_words(g["limit"]), tell(state), meant)
    return f"<tr{ok}><th>{escape(tell(name))}</th>{''.join(f'<td>{escape(str(c))}</td>' for c in cells)}</tr>"
