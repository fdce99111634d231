"""The lineage picture: every version and refused candidate, in order, with an arc from what each was trained from."""

from html import escape

from kdloop.ui import verdicts
from kdloop.ui.words import tell
from storage.checkpoints import Checkpoint
from storage.rounds import Round

STEP, TOP, BASELINE, HEIGHT, RADIUS = 120, 14, 96, 168, 24  # pixels
MAX_CHECKPOINTS = 40  # the newest; more would make a picture of several screens
STYLES = {  # status -> (fill, stroke, dashes, text)
    "serving": ("var(--primary-600)", "var(--primary-600)", "", "#fff"),
    "retired": ("var(--background-fill-secondary)", "var(--primary-600)", "", "var(--body-text-color)"),
    "rejected": ("none", "var(--body-text-color-subdued)", "4 4", "var(--body-text-color)"),
    "candidate": ("none", "var(--primary-600)", "4 4", "var(--body-text-color)"),
}


def picture(known: list[Checkpoint], by_id: dict[int, Round]) -> str:
    """An SVG of the latest MAX_CHECKPOINTS; it scrolls sideways where it does not fit."""
    shown = known[-MAX_CHECKPOINTS:]
    at = {k.id: RADIUS + 16 + STEP * i for i, k in enumerate(shown)}
    arcs = "".join(arc(at[k.parent_id], at[k.id]) for k in shown if k.parent_id in at)
    nodes = "".join(node(k, at[k.id], by_id.get(k.round_id)) for k in shown)
    description = escape("; ".join(f"{verdicts.in_words(k.name)} {tell(k.status)}" for k in shown))
    label, width = tell("Lineage"), STEP * len(shown) + RADIUS
    return (
        f'<div class="kd-lineage" tabindex="0" role="region" aria-label="{label}"><svg width="{width}" '
        f'height="{HEIGHT}" role="img" aria-label="{description}">{arcs}{nodes}</svg></div>'
    )


def arc(start: int, end: int) -> str:
    lift = max(TOP, BASELINE - RADIUS - 12 - (end - start) / 6)
    top = BASELINE - RADIUS
    return (
        f'<path d="M{start},{top} C{start},{lift} {end},{lift} {end},{top - 3}" fill="none" '
        'stroke="var(--body-text-color-subdued)" stroke-width="1.5"/>'
    )


def node(k: Checkpoint, x: int, round: Round | None) -> str:
    fill, stroke, dashes, text = STYLES[k.status]
    name = k.name if k.version is not None else "✗" if k.status == "rejected" else "?"
    captions = [tell(k.status), *outcome(round)]
    lines = "".join(
        f'<text x="{x}" y="{BASELINE + RADIUS + 16 + 14 * i}" class="kd-small">{escape(line)}</text>'
        for i, line in enumerate(captions)
    )
    return (
        f'<circle cx="{x}" cy="{BASELINE}" r="{RADIUS}" fill="{fill}" stroke="{stroke}" stroke-width="2" '
        f'stroke-dasharray="{dashes}"/><text x="{x}" y="{BASELINE + 5}" fill="{text}">{escape(name)}</text>{lines}'
    )


def outcome(round: Round | None) -> list[str]:
    """What the gate saw: the win rate against the champion of its time."""
    if not round:
        return [tell("the base")]
    judged = (round.verdict or {}).get("n")
    return [tell("wins {rate}", rate=f"{round.verdict['win_rate']:.0%}")] if judged else []
