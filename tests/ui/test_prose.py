"""The HTML of a text: its text is the text, and nothing in it is the text's own markup."""

import html
import random
import re
from html.parser import HTMLParser

import pytest

from kdloop.ui import prose

OURS = {"div", "span", "strong", "em", "code", "pre", "a", "button", "svg", "path"}
ALPHABET = [*"ab1 _*`~#<>&$%[]()!|\\/.:;'\"-=+\n\t", "é", "ß", "e\u0301", "中", "😀", "\u2028", "\u00a0", "\r\n"]
WORDS = [
    "**",
    "```",
    "<b>",
    "&lt;",
    "$$",
    "http://x.y/z",
    "__init__",
    "\n## ",
    "\n~~~\n",
    "<!--",
    "%%%LATEX_BLOCK_0%%%",
]


class Read(HTMLParser):
    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.feed(html)
        self.close()

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


@pytest.mark.parametrize("show", [prose.literal, prose.styled])
def test_every_text_is_read_whole_and_given_back(show):
    draw = random.Random(5)
    for _ in range(3000):
        text = "".join(draw.choice(WORDS if draw.random() < 0.2 else ALPHABET) for _ in range(draw.randint(0, 40)))
        shown, text = show(text), text.replace("\r\n", "\n")
        read = Read(shown)
        assert read.text == text == prose.plain(shown), shown
        assert {tag for tag, _ in read.tags} <= OURS, shown
        assert "\n" not in shown, "a chat would read markdown after an empty line"
        for _, attributes in read.tags:
            assert not [name for name in attributes if name.startswith("on")]
            assert re.match(r"https?://", attributes.get("href", "http://"))


def test_what_was_typed_is_taken_as_it_is():
    for text in ("", "<div>", '<div class="other">x</div>', "a &lt; b", "**bold**"):
        assert prose.plain(text) == text


@pytest.mark.parametrize(
    ("text", "element", "holds"),
    [
        ("It is **very good**.", "strong", "very good"),
        ("It is *so* good.", "em", "so"),
        ("Call `f(x)` now", "code", "f(x)"),
        ("### How to", "strong", "How to"),
        ("```js\nlet a = 1\n```", "pre", "let a = 1"),
        ("~~~\nstill open", "pre", "still open"),
        ("see https://example.org/a_b.", "a", "https://example.org/a_b"),
    ],
)
def test_markdown_has_its_looks(text, element, holds):
    inside = re.search(rf"<{element}[ >].*</{element}>", prose.styled(text))
    assert inside and holds in Read(inside[0]).text


LEFT_ALONE = (
    "2*3*4", "5 * 3 * 2", "f(*args, **kwargs)", "__init__.py", "snake_case_name", "# comment", "1986. A year",
    "int *p, *q;", "*.py and *.txt", "a ** b ** c", "~/x ~/y", "javascript:alert(1)", "- a\n- b", "``", "*",
    "/* a */ b /* c */",
)  # fmt: skip


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_is_no_markdown_is_left_alone(text):
    assert [tag for tag, _ in Read(prose.styled(text)).tags] == ["div"]


def test_a_message_of_marks_alone_takes_no_time():
    """Patterns that look for an end from every beginning would take minutes: this test would not come to its end."""
    for text in ("**a " * 2000, "`a" * 4000, "*a" * 4000, "` `` " * 1600, "https://" * 1000, "*" * 8000):
        assert prose.plain(prose.styled(text)) == text


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("Tea is $3 and cake $4, so $3+$4 is $7.", []),
        ("US$3=€2.80 (about $3)", []),
        ("export A=$HOME/b:$PATH_X", []),
        ("`$a=b$` is code, $ a=b $ is not set", []),
        ("$x$ of $10: $\\frac{a}{b}$, **and $y_1$**", ["$x$", "$\\frac{a}{b}$", "$y_1$"]),
        ("$$\\sum_i x_i$$ for $9", ["$$\\sum_i x_i$$"]),
        ("see http://a.b/$x=1$ or $z=2$", ["$z=2$"]),
    ],
)
def test_formulas_are_set_and_prices_are_not(text, formulas):
    """KaTeX sets what stands between the dollars of one text: those of a formula stand alone, every other by itself."""
    shown = prose.styled(text)
    found = [html.unescape(tex) for tex in re.findall('<span class="kd-formula">(.*?)</span>', shown)]
    assert found == formulas and prose.plain(shown) == text
    assert shown.count("$") == sum(tex.count("$") for tex in formulas), "Gradio looks for raw dollars"
    if formulas:
        assert "&#36;" not in shown.replace("<span>&#36;</span>", "")
