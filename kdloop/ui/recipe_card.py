"""On the Rounds tab: what a recipe does, what it needs and whether that is there, how long it takes, what came of
it."""

from functools import lru_cache
from html import escape
from pathlib import Path
from statistics import median

from kdloop import packs, recipes
from kdloop.feedback.readiness import Readiness
from kdloop.recipes import VOTES, Recipe
from kdloop.rounds import estimate, needs
from kdloop.rounds.needs import Need
from kdloop.settings import Settings
from kdloop.ui import verdicts
from kdloop.ui.round_page import table
from kdloop.ui.words import tell
from storage import rounds
from storage.rounds import Round

SHOWN = 3  # of its last rounds
MINUTES = "About {n} min: so long did its rounds take here."
GUESS = "About {n} min on two CPU cores: a guess, as none of its rounds has run here."
ENDED = ("promoted", "on trial", "rejected", "failed", "cancelled")


@lru_cache
def load(name: str) -> Recipe | None:
    """A shipped recipe; None for "", people's votes."""
    return recipes.load(name) if name else None


def card(settings: Settings, name: str, known: Readiness) -> tuple[str, list[Need]]:
    """(HTML, what is not there that it needs)."""
    recipe, wanted, before = load(name), needed(settings, name, known), of_recipe(settings.db, name)
    lines = "".join(f'<li class="{"kd-met" if n.met else "kd-unmet"}">{escape(in_words(n))}</li>' for n in wanted)
    about = escape(" ".join(filter(None, [tell((recipe or VOTES).about), on_pack(name)])))
    parts = [f"<p>{about}</p><ul>{lines}</ul><p>{escape(minutes(before, recipe or VOTES))}</p>"]
    if results := last_results(before):
        parts.append(f"<p>{escape(results)}</p>")
    return f'<div class="kd-card">{"".join(parts)}</div>', unmet(wanted)


def on_pack(name: str) -> str:
    """Of RECIPE@PACK, what the pack is for."""
    pack = name.partition("@")[2]
    return tell("On the pack {name}: {about}", name=pack, about=tell_about(pack)) if pack else ""


def tell_about(pack: str) -> str:
    """Of a shipped pack it is translated; an installed one's may have braces."""
    about = packs.load(pack).about
    return tell(about) if pack in packs.shipped() else about


def needed(settings: Settings, name: str, known: Readiness) -> list[Need]:
    try:
        return needs.of(settings, load(name), known)
    except ValueError as error:  # the teachers' file
        return [Need(needs.TEACHER, False, "{why}", {"why": str(error)})]


def unmet(wanted: list[Need]) -> list[Need]:
    return [n for n in wanted if not n.met]


def in_words(need: Need) -> str:
    if need.met:
        return tell("There: {what}", what=tell(need.what))
    return tell("Missing: {what}. {do}", what=tell(need.what), do=to_do(need))


def to_do(need: Need) -> str:
    return tell(need.do, **{k: verdicts.in_words(str(v)) for k, v in (need.values or {}).items()})


def minutes(before: list[Round], plan: Recipe) -> str:
    """By its last rounds that reached the gate; else a guess by what it samples and trains."""
    judged = [r for r in before if (r.verdict or {}).get("n")]
    took = list(filter(None, map(estimate.took, judged)))
    if took:
        return tell(MINUTES, n=max(1, round(median(took) / 60)))
    return tell(GUESS, n=max(1, round(sum(estimate.guessed(plan.as_dict()).values()) / 60)))


def last_results(before: list[Round]) -> str:
    """ "Its last rounds: 5 promoted (0.74), 4 rejected" """
    ended = [r for r in before if r.status in ENDED][:SHOWN]
    return tell("Its last rounds: {rounds}", rounds=", ".join(map(result, ended))) if ended else ""


def result(r: Round) -> str:
    rate = f" ({r.verdict['win_rate']:.2f})" if r.verdict and r.verdict.get("n") else ""
    return f"{r.id} {tell(r.status)}{rate}"


def of_recipe(db: Path, name: str) -> list[Round]:
    """Newest first; "" is people's votes."""
    return [r for r in rounds.list_rounds(db) if r.recipe.get("name", "") == name]


def all_recipes(settings: Settings, known: Readiness) -> str:
    """HTML, one a row."""
    rows = (row(settings, name, known) for name in ("", *recipes.names()))
    return table(tell("All recipes"), ("recipe", "what it does", "what is missing"), rows)


def row(settings: Settings, name: str, known: Readiness) -> str:
    missing = unmet(needed(settings, name, known))
    title, about = name or tell("People's votes"), tell((load(name) or VOTES).about)
    lacks = ", ".join(tell(n.what) for n in missing) or "–"
    return f"<tr><th>{escape(title)}</th><td>{escape(about)}</td><td>{escape(lacks)}</td></tr>"
