"""Texts of people and models as HTML that shows every character of them.

People rate what they see, so nothing is swallowed: `literal` shows a person's own words as they are, `styled` gives a
model's markdown its looks (code, bold, italic, headings, addresses, formulas) and leaves the marks where they stand. Of
both, the HTML's text is the text, character for character; `plain` gives it back. No tag, image or script of theirs is
left.

A chat renders markdown and then cleans the HTML. What is made here is one `<div>` on one line with all but letters,
digits and spaces as character references, which neither changes. A thought is folded into it before the text, and a
correction or the arrows to other branches after it, of which they are no part. Only the dollars of a formula stand as
they are: between `FORMULAS` Gradio has KaTeX set it. Beside a formula every other dollar has an element of its own, as
KaTeX pairs those of one text: two prices are no formula.
"""

import html
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

OPEN, CLOSE = '<div class="kd-text">', "</div>"
TAG = re.compile(r"<[^>]*>")
REFERRED = re.compile(r"[^\w \x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|_")  # a control character's reference names another
LINE = re.compile(r"[^\n]*\n|[^\n]+")
FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
HEADING = re.compile(r"#{2,6} ")  # one # alone begins comments in code that nobody has fenced
MATH = r"[^\n$]{0,200}?(?:[\\^_=+<>]|(?<=\$)[A-Za-z](?=\$))[^\n$]{0,200}?"  # a sign of it, or a lone letter
INLINE = re.compile(  # bounded lengths: a message of stars alone must not take long
    r"(?P<code>(?<!`)(?P<ticks>`+)(?!`)[^\n]{1,400}?(?<!`)(?P=ticks)(?!`))"
    rf"|(?<![\w$\\])(?P<formula>(?P<dollars>\${{1,2}})(?=[^\s$]){MATH}(?<=[^\s$\\])(?P=dollars))(?![\w$])"
    r"|(?<![\w*/])(?P<strong>\*\*(?=[^\s*])[^\n]{1,400}?(?<=[^\s*])\*\*)(?![\w*/])"
    r"|(?<![\w*/.])(?P<em>\*(?=\w)[^\n*]{1,400}?(?<=[\w.!?)])\*)(?![\w*/])"
    r"|(?P<a>https?://[^\s<>\"'`*)\]}]{1,400}(?<![.,;:!?]))"
)
MARKS = {"strong": 2, "em": 1}  # characters at each end
FORMULAS = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]
FOLD = re.compile(r'<(details|small) class="kd-(?:thought|fixed|branches)".*?</\1>')
COPY = (
    '<button title="copy" class="copy_code_button"><span class="copy-text"><svg viewBox="0 0 15 15" width="15" '
    'height="15"><path fill="currentColor" d="M5 4h8v9H5zM2 1h9v2H4v8H2z"></path></svg></span>'
    '<span class="check"></span></button>'
)  # as Gradio draws one, whose script does the rest

SCRIPT = """
() => {
  const plain = text => {
    if (!text.startsWith('OPEN')) return text;
    const body = new DOMParser().parseFromString(text, "text/html").body;
    body.querySelectorAll("details, .kd-branches").forEach(fold => fold.remove());
    return body.textContent;
  };
  const mend = () => {  // Gradio puts a message's HTML into edit boxes and labels: they get its text
    document.querySelectorAll("#chat-log textarea").forEach(box => {
      const text = plain(box.value);
      if (text !== box.value) { box.value = text; box.dispatchEvent(new Event("input", {bubbles: true})); }
    });
    document.querySelectorAll("#chat-log [data-testid][aria-label]").forEach(e => e.removeAttribute("aria-label"));
  };
  new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
  if (navigator.clipboard) {  // and so does the clipboard
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = text => write(plain(text));
  }
  document.addEventListener("copy", event => {  // where there is none, Gradio copies out of a box
    const box = document.activeElement, text = box.tagName === "TEXTAREA" ? plain(box.value) : box.value;
    if (box.tagName === "TEXTAREA" && text !== box.value) {
      event.clipboardData.setData("text/plain", text); event.preventDefault();
    }
  });
}
""".replace("OPEN", OPEN)


def literal(text: str, below: str = "") -> str:
    """As it was written; `below` is HTML of the page's own, its `arrows`."""
    return f"{OPEN}{escaped(one_newline(text))}{below}{CLOSE}"


def styled(text: str, fold: str = "", below: str = "") -> str:
    """Markdown with its looks, its marks beside them, after a `folded` thought, and before what was `corrected`."""
    out = []
    for kind, lines in groupby(blocks(one_newline(text)), key=itemgetter(0)):
        part = "".join(line for _, line in lines)
        if kind == "code":
            out.append(f'<div class="code_wrap">{COPY}<pre><code>{escaped(part)}</code></pre></div>')
        elif kind == "fence":
            out.append(mark(part))
        else:
            out += [prose(line) for line in LINE.findall(part)]
    body = fold + "".join(out) + below
    if 'class="kd-formula"' in body:
        body = body.replace("&#36;", "<span>&#36;</span>")
    return f"{OPEN}{body}{CLOSE}"


def folded(thought: str, title: str, is_open: bool) -> str:
    """A thought under its title, as it was written; a click shows or hides it."""
    state, text = " open" if is_open else "", escaped(one_newline(thought))
    return f'<details class="kd-thought"{state}><summary>{escaped(title)}</summary>{text}</details>'


def corrected(text: str, title: str, id: str, undo: str) -> str:
    """A person's own text under its title, and a link to take it back, which page.js follows: no page has it."""
    link = f'<a href="?undo={escaped(id)}">{escaped(undo)}</a>'
    words = f"<summary>{escaped(title)}</summary>{escaped(one_newline(text))}<br>{link}"
    return f'<details class="kd-fixed">{words}</details>'


def arrows(before: tuple[str | None, str], at: str, after: tuple[str | None, str]) -> str:
    """ "‹ 2/3 ›", its ends links to other branches, (turn id, words) each, which page.js follows. None: no branch."""
    ends = [
        f'<a href="?branch={escaped(id)}" title="{escaped(words)}">{sign}</a>' if id else f"<span>{sign}</span>"
        for (id, words), sign in ((before, "‹"), (after, "›"))
    ]
    return f'<small class="kd-branches">{ends[0]} {escaped(at)} {ends[1]}</small>'


def plain(shown: str) -> str:
    """The text that `literal` or `styled` showed; any other as it is."""
    return html.unescape(TAG.sub("", FOLD.sub("", shown))) if shown.startswith(OPEN) else shown


def one_newline(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def escaped(text: str) -> str:
    return REFERRED.sub(lambda m: f"&#{ord(m[0])};", text)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """("prose", "fence" or "code", a line of it) in order: together they are the text."""
    fence = None
    for line in LINE.findall(text):
        found = FENCE.match(line)
        if fence is None and found:
            fence = found[1]
            yield "fence", line
        elif fence and found and line.strip() == found[1] and found[1].startswith(fence):
            fence = None
            yield "fence", line
        else:
            yield "code" if fence else "prose", line


def prose(line: str) -> str:
    if HEADING.match(line):
        marks, space, title = line.partition(" ")
        return f'<strong class="kd-heading">{mark(marks + space)}{inline(title)}</strong>'
    return inline(line)


def inline(text: str) -> str:
    out, at = [], 0
    for found in INLINE.finditer(text):
        out += [escaped(text[at : found.start()]), element(found)]
        at = found.end()
    return "".join([*out, escaped(text[at:])])


def element(found: re.Match) -> str:
    name, text = found.lastgroup, found[0]
    if found["code"]:
        return f"<code>{escaped(text)}</code>"
    if name == "formula":
        ends = found["dollars"]
        return f'<span class="kd-formula">{ends}{escaped(text[len(ends) : -len(ends)])}{ends}</span>'
    if name == "a":
        address = html.escape(text).replace("$", "%24")
        return f'<a href="{address}" target="_blank" rel="noopener noreferrer">{escaped(text)}</a>'
    n = MARKS[name]
    return f"<{name}>{mark(text[:n])}{inline(text[n:-n])}{mark(text[-n:])}</{name}>"


def mark(text: str) -> str:
    return f'<span class="kd-mark">{escaped(text)}</span>'
