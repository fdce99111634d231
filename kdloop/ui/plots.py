"""Estimates with their intervals as SVG. Widths are per cent, so that the words keep their size on a phone.

Screen readers get a picture's title, and the numbers from a table beside it.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from kdloop.ui.words import tell

LEFT, WIDTH = 13, 85  # per cent
LEFT_OF_TRAIL = 3  # it has no numbers on its left
TOP, HEIGHT, BELOW = 26, 170, 40  # pixels
MAX_LABELS = 8  # on the x axis: more would overlap on a phone
INK, FAINT, GRID = "var(--primary-600)", "var(--body-text-color-subdued)", "var(--border-color-primary)"
TEXT = 'font-size="12" fill="var(--body-text-color)"'
COLUMNS = "grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 16px"


@dataclass(frozen=True)
class Point:
    """`at` is its name on the x axis; a `hollow` one stands for what was refused."""

    at: str
    value: float
    low: float
    high: float
    hollow: bool = False

    def __str__(self) -> str:
        ends = tell("{low} to {high}", low=f"{self.low:.3g}", high=f"{self.high:.3g}")
        interval = f" ({ends})" if self.low < self.high else ""
        return f"{self.at}: {self.value:.3g}{interval}"


SCRIPT = """
() => document.addEventListener("click", event => {  // a plot's numbers as CSV, the plot as PNG
  const button = event.target.closest && event.target.closest(".kd-plot [data-save]")
  if (!button) return
  const plot = button.closest(".kd-plot"), svg = plot.querySelector("svg")
  const save = (url, end) => {
    const link = document.createElement("a")
    link.href = url
    link.download = plot.querySelector("b").textContent.replace(/[^\\p{L}\\p{N}]+/gu, "-") + end
    link.click()
  }
  if (button.dataset.save === "csv")
    return save(URL.createObjectURL(new Blob([plot.dataset.csv], {type: "text/csv"})), ".csv")
  const style = getComputedStyle(plot), {width, height} = svg.getBoundingClientRect(), copy = svg.cloneNode(true)
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg")
  copy.setAttribute("width", width)
  copy.setAttribute("font-family", "sans-serif")
  const drawn = new XMLSerializer().serializeToString(copy)
    .replace(/var\\((--[\\w-]+)\\)/g, (_, name) => style.getPropertyValue(name).trim() || "gray")
  const image = new Image()
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), {width: 2 * width, height: 2 * height})
    const pen = canvas.getContext("2d")
    pen.scale(2, 2)
    pen.fillStyle = style.getPropertyValue("--body-background-fill").trim() || "white"
    pen.fillRect(0, 0, width, height)
    pen.drawImage(image, 0, 0, width, height)
    canvas.toBlob(blob => save(URL.createObjectURL(blob), ".png"))
  }
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(drawn)
})
"""


def side_by_side(pictures: Iterable[str]) -> str:
    """One below the other where the screen is narrow."""
    shown = "".join(f"<div>{p}</div>" for p in pictures if p)
    return shown and f'<div style="display: grid; {COLUMNS}">{shown}</div>'


def picture(
    title: str,
    axis: str,
    points: Sequence[Point],
    marks: Sequence[float] = (),
    span: tuple[float, float] | None = None,
    joined: bool = True,
    unit: str = "",
) -> str:
    """Points in their order with their intervals; `marks` are dashed lines; `span`, of the y axis, is found if not
    given; `unit` names that axis. Nothing where there are no points."""
    points = [p for p in points if math.isfinite(p.value + p.low + p.high)]
    if not points:
        return ""
    low, high = span or around([*marks, *(v for p in points for v in (p.low, p.high))])

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (high - value) / (high - low), 1)

    grid = [(value, f'stroke="{GRID}"') for value in ticks(low, high)]
    grid += [(mark, f'stroke="{FAINT}" stroke-dasharray="5 4"') for mark in marks if low <= mark <= high]
    lines = "".join(line(LEFT, y(value), LEFT + WIDTH, y(value), how) for value, how in grid)
    names = "".join(text(LEFT - 1.5, y(value) + 4, f"{value:g}", "end") for value in ticks(low, high))
    at = [round(LEFT + WIDTH * (i + 0.5) / len(points), 2) for i in range(len(points))]
    path = [(x, y(p.value)) for x, p in zip(at, points, strict=True)] if joined else []
    lines += "".join(line(*a, *b, f'stroke="{INK}" stroke-opacity="0.5"') for a, b in pairwise(path))
    every = math.ceil(len(points) / MAX_LABELS)
    names += "".join(text(x, TOP + HEIGHT + 18, p.at) for x, p in list(zip(at, points, strict=True))[::every])
    names += text(LEFT + WIDTH / 2, TOP + HEIGHT + 36, axis)
    dots = "".join(point(x, y, p) for x, p in zip(at, points, strict=True))
    rows = [(axis, unit or title, tell("low"), tell("high")), *((p.at, p.value, p.low, p.high) for p in points)]
    return figure(title, f"{lines}{names}{y_name(unit)}{dots}", rows)


def curve(
    title: str,
    axis: str,
    unit: str,
    points: Sequence[tuple[float, float]],
    name: Callable[[float], str] = "{:g}".format,
) -> str:
    """A line through points whose x is a number, which `name` writes; `unit` names the y axis. Nothing where there are
    no points."""
    points = [(x, y) for x, y in points if math.isfinite(x + y)]
    if not points:
        return ""
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
    low, high = around([value for _, value in points])

    def at(x: float, y: float) -> tuple[float, float]:
        across, down = (x - first) / (last - first), (high - y) / (high - low)
        return round(LEFT + WIDTH * across, 2), round(TOP + HEIGHT * down, 1)

    grid = "".join(
        line(LEFT, at(first, v)[1], LEFT + WIDTH, at(first, v)[1], f'stroke="{GRID}"') for v in ticks(low, high)
    )
    names = "".join(text(LEFT - 1.5, at(first, v)[1] + 4, f"{v:g}", "end") for v in ticks(low, high))
    for x in ticks(first, last):
        where = at(x, low)[0]
        anchor = "start" if where < LEFT + 8 else "end" if where > LEFT + WIDTH - 8 else "middle"
        names += text(where, TOP + HEIGHT + 18, name(x), anchor) if x == round(x) else ""
    names += text(LEFT + WIDTH / 2, TOP + HEIGHT + 36, axis)
    path = [at(*p) for p in points]
    drawn = "".join(line(*a, *b, f'stroke="{INK}" stroke-width="2"') for a, b in pairwise(path))
    drawn += f'<circle cx="{path[-1][0]}%" cy="{path[-1][1]}" r="4" fill="{INK}"/>'
    rows = [(axis, unit), *((name(x), value) for x, value in points)]
    return figure(title, f"{grid}{names}{y_name(unit)}{drawn}", rows)


def trail(
    title: str, axis: str, values: Sequence[float], steps: Sequence[str], marks: dict[float, str], most: int
) -> str:
    """A path from 0 on, one value from -1 to 1 a step, on an axis of at least `most` steps; `steps` name them where the
    mouse rests, `marks` are dashed lines with their words."""
    most, low, high = max(most, len(values) - 1), -1.3, 1.3

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (high - value) / (high - low), 1)

    def x(step: float) -> float:
        return round(LEFT_OF_TRAIL + (LEFT + WIDTH - LEFT_OF_TRAIL) * step / most, 2)

    end = x(most)
    lines = line(x(0), y(0), end, y(0), f'stroke="{GRID}"')
    lines += "".join(line(x(0), y(at), end, y(at), f'stroke="{FAINT}" stroke-dasharray="5 4"') for at in marks)
    names = "".join(text(end, y(at) + (-6 if at > 0 else 16), word, "end") for at, word in marks.items())
    names += "".join(text(x(at), TOP + HEIGHT + 18, f"{at:g}") for at in ticks(0, most))
    names += text((x(0) + end) / 2, TOP + HEIGHT + 36, axis)
    path = [(x(i), y(value)) for i, value in enumerate(values)]
    lines += "".join(line(*a, *b, f'stroke="{INK}" stroke-width="3" stroke-linecap="round"') for a, b in pairwise(path))
    dots = "".join(
        f'<g><title>{escape(step)}</title><circle cx="{at}%" cy="{height}" r="8" fill="transparent"/></g>'
        for (at, height), step in zip(path, steps, strict=True)
    )
    now = f'<circle cx="{path[-1][0]}%" cy="{path[-1][1]}" r="5" fill="{INK}"/>'
    return figure(title, f"{lines}{names}{now}{dots}", [(axis, title), *enumerate(values)])


def figure(title: str, drawn: str, rows: Sequence[tuple]) -> str:
    """`rows` are its numbers under their heads, for the download."""
    buttons = "".join(f'<button type="button" data-save="{kind.lower()}">{kind}</button>' for kind in ("CSV", "PNG"))
    return (
        f'<figure class="kd-plot" style="margin: 0" data-csv="{escape(csv_of(rows))}"><figcaption>'
        f'<b>{escape(title)}</b><span role="group" aria-label="{escape(title)}">{buttons}</span></figcaption>'
        f'<svg width="100%" height="{TOP + HEIGHT + BELOW}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
        "</figure>"
    )


def csv_of(rows: Iterable[tuple]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def y_name(unit: str) -> str:
    return text(LEFT, 14, unit, "start") if unit else ""


def point(x: float, y, p: Point) -> str:
    interval = line(x, y(p.low), x, y(p.high), f'stroke="{INK}" stroke-width="2"') if p.low < p.high else ""
    fill = "var(--body-background-fill)" if p.hollow else INK
    dot = f'<circle cx="{x}%" cy="{y(p.value)}" r="5" fill="{fill}" stroke="{INK}" stroke-width="2"/>'
    return f"<g><title>{escape(str(p))}</title>{interval}{dot}</g>"


def line(x1: float, y1: float, x2: float, y2: float, how: str) -> str:
    return f'<line x1="{x1}%" y1="{y1}" x2="{x2}%" y2="{y2}" {how}/>'


def text(x: float, y: float, label: str, anchor: str = "middle") -> str:
    return f'<text x="{x}%" y="{y}" text-anchor="{anchor}" {TEXT}>{escape(label)}</text>'


def around(values: Sequence[float]) -> tuple[float, float]:
    """From a little below the lowest to a little above the highest."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers."""
    unit = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(unit * m for m in (1, 2, 5, 10) if (high - low) / (unit * m) < 6)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
