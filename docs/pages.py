"""The tables of docs/ that are written from the code: `python -m docs.pages` writes them, a test compares.

The prose of a page is written by hand. What lies between `<!-- NAME: written by python -m docs.pages -->` and
`<!-- end of NAME -->` is replaced.
"""

import ast
import inspect
import io
import re
import tokenize
from pathlib import Path

from kdloop import packs, recipes, settings
from kdloop.evaluation import pack_list
from kdloop.settings import CHANGEABLE, NAMES, OPTIONS, SETTABLE, Settings, flag, variable

HERE = Path(__file__).parent
MARKED = re.compile(
    r"(?P<begin><!-- (?P<name>\w+): written by python -m docs.pages -->\n)"
    r"(?P<table>.*?)(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)


def settings_table() -> str:
    """One row a setting, in the order of kdloop/settings.py."""
    said = comments(settings, "Settings")
    rows = [
        (
            f"`{variable(name)}`",
            f"`{flag(name)}`" if name in SETTABLE else "none",
            shown(getattr(Settings, name)),
            said[name].replace('""', "empty"),
            span(name),
        )
        for name in NAMES
    ]
    return table(("variable", "flag", "default", "what it is", "on the Admin tab"), rows)


def recipes_table() -> str:
    """One row a shipped recipe; what its sources need is read from docs/knowledge.md."""
    needs = sources_needs()
    rows = []
    for recipe in map(recipes.load, recipes.names()):
        used = [step["source"] for step in recipe.knowledge]
        asked = dict.fromkeys(need for source in used for need in needs[source].split(", "))
        if not used and packs.checked(recipe.pack):  # the method's reward
            asked = ["checks"]
        sources = ", ".join(map(source_and_options, recipe.knowledge)) or "none"
        rows.append((f"`{recipe.name}`", recipe.about, sources, recipe.pack, f"`{recipe.method}`", ", ".join(asked)))
    return table(("recipe", "what it does", "knowledge sources", "pack", "method", "needs"), rows)


def packs_table() -> str:
    """One row a shipped pack."""
    rows = []
    for one in (listed for listed in pack_list.every() if listed.ours):
        sizes = [f"{n:,}" for n in one.sizes.values()]
        asked = ", ".join(f"`{name}`" for name in one.checks) or "none"
        rows.append((f"`{one.pack.name}`", one.pack.about, *sizes, asked, one.pack.licence))
    return table(("pack", "what for", "train", "gate", "held out", "checks", "licence"), rows)


def source_and_options(step: dict) -> str:
    options = ", ".join(f"{name} = {value!r}" for name, value in step.items() if name != "source")
    return f"`{step['source']}`" + (f" ({options})" if options else "")


def sources_needs() -> dict[str, str]:
    """Source -> the column "needs" of its row in docs/knowledge.md."""
    page = (HERE / "knowledge.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, re.M))


def comments(module, name: str) -> dict[str, str]:
    """Field -> the comment beside it, of a class in a module. Raises KeyError, by its reader, for one without."""
    source = inspect.getsource(module)
    (found,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name]
    at = {
        t.start[0]: t.string.lstrip("# ")
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type == tokenize.COMMENT
    }
    fields = [n for n in found.body if isinstance(n, ast.AnnAssign)]
    lines = {ast.unparse(node.target): range(node.lineno, node.end_lineno + 1) for node in fields}
    return {field: next(at[n] for n in span if n in at) for field, span in lines.items() if set(span) & set(at)}


def shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default != "" else "empty"


def span(name: str) -> str:
    if name not in CHANGEABLE:
        return ""
    least, most = CHANGEABLE[name]
    if name in OPTIONS:
        return ", ".join(OPTIONS[name])
    if isinstance(getattr(Settings, name), str):
        return f"up to {most:,} characters"
    return f"{least:,} to {most:,}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    first, *rest = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in (head, *rows))
    return "".join([first, "|---" * len(head) + "|\n", *rest])


TABLES = {"settings": settings_table, "recipes": recipes_table, "packs": packs_table}


def written(page: str) -> str:
    """The page with its tables as the code has them now."""
    return MARKED.sub(lambda found: found["begin"] + TABLES[found["name"]]() + found["end"], page)


def main() -> None:
    for path in sorted(HERE.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
