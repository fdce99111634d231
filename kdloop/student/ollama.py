"""A student's turns as an Ollama Modelfile: the family's chat template, which is Jinja, as a Go template.

A Go template that knows the role of a message and of the one before it can say what most families say: what stands
before and between the turns is found by rendering marked conversations. Whether that is all that the family's template
does is tried on other conversations; where it does more, the Modelfile is refused, as Ollama would show the model other
turns than it was trained on.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from kdloop.student.template import Template, UnknownTemplate
from kdloop.student.vocabulary import NotConvertible
from storage.conversations import Message

SYSTEM, USER, ANSWER, AGAIN = "Ocelot", "Pelican", "Walrus", "Heron"  # in no template
CLOCK = re.compile(r"strftime_now|\bnow\(")
STOPS = 8  # Ollama's own templates name fewer
MODELFILE = """FROM {file}
TEMPLATE \"\"\"{template}\"\"\"
{parameters}
"""


@dataclass(frozen=True)
class Turns:
    """What stands before a message's text, by (role, role of the message before it; "" for none), and after the last
    user's message, where the completion begins."""

    before: dict[tuple[str, str], str]
    generation: str

    def rendered(self, messages: list[Message]) -> str:
        """As the Go template renders them."""
        roles = ["", *(m["role"] for m in messages)]
        pieces = [self.before[role, earlier] for earlier, role in pairwise(roles)]
        return "".join(p + m["content"] for p, m in zip(pieces, messages, strict=True)) + self.generation

    @property
    def go(self) -> str:
        by_role = []
        for role in ("system", "user", "assistant"):
            cases = {earlier: text for (r, earlier), text in self.before.items() if r == role}
            tests = [f'{{{{ if eq $before "{earlier}" }}}}{text}' for earlier, text in cases.items()]
            chosen = "{{ else }}".join(tests) + "{{ end }}" * len(tests)
            by_role.append(f'{{{{ if eq .Role "{role}" }}}}{chosen}{{{{ .Content }}}}{{{{ end }}}}')
        loop = "".join(by_role) + "{{ $before = .Role }}"
        return '{{ $before := "" }}{{ range .Messages }}' + loop + "{{ end }}" + self.generation


def modelfile(tokenizer, file: str = "./model.gguf", context_tokens: int = 0) -> str:
    """Raises NotConvertible where the family's template says more than a Go template can."""
    template = Template.of(tokenizer)
    turns = turns_of(template)
    stops = [tokenizer.convert_ids_to_tokens(id) for id in template.ends][:STOPS]
    if any('"' in stop or "\n" in stop for stop in stops):
        raise NotConvertible("A token that ends the student's turn has a quotation mark in it")
    parameters = [f'PARAMETER stop "{stop}"' for stop in stops]
    parameters += [f"PARAMETER num_ctx {context_tokens}"] if context_tokens else []
    return MODELFILE.format(file=file, template=turns.go, parameters="\n".join(parameters))


def turns_of(template: Template) -> Turns:
    source = template.tokenizer.chat_template
    if not isinstance(source, str) or CLOCK.search(source):
        raise NotConvertible("The family's template writes the date, or there are several: an Ollama template cannot")
    if template.system == "folded":
        raise NotConvertible("The family has no system messages; Ollama would put one before its turns")
    asked, answered = {"role": "user", "content": USER}, {"role": "assistant", "content": ANSWER}
    told, again = {"role": "system", "content": SYSTEM}, {"role": "user", "content": AGAIN}
    try:
        start, said, next_one, generation = split(template, [asked, answered, again])
        first, after_system, *_ = split(template, [told, asked, answered, again])
        turns = Turns(
            {
                ("system", ""): first,
                ("user", ""): start,
                ("user", "system"): after_system,
                ("assistant", "user"): said,
                ("user", "assistant"): next_one,
            },
            generation,
        )
        tried = [probe for probe in probes() if turns.rendered(probe) != rendered(template, probe)]
    except UnknownTemplate as error:
        raise NotConvertible(str(error)) from error
    if tried:
        roles = ", ".join(m["role"] for m in tried[0])
        raise NotConvertible(f"The family's template renders a conversation ({roles}) as no Go template can")
    if any(mark in text for text in (*turns.before.values(), generation) for mark in ("{{", '"""')):
        raise NotConvertible("The family's template has marks of Go templates in its turns")
    return turns


def rendered(template: Template, messages: list[Message]) -> str:
    return template.rendered(messages, True) + template.prefill


def split(template: Template, messages: list[Message]) -> list[str]:
    """What stands before each message's text, and after the last."""
    rest, found = rendered(template, messages), []
    for m in messages:
        before, there, rest = rest.partition(m["content"])
        if not there:
            raise NotConvertible(f"The family's template does not show a {m['role']}'s message as it is")
        found.append(before)
    return [*found, rest]


def probes() -> list[list[Message]]:
    """One message; several turns; a system message; texts with line breaks and code."""
    words = ["Why is it so?", "Because\n\n* of this\n* and that", "And `a < b`?", "Yes: <b>always</b>", "Good."]
    talk = [{"role": "user" if i % 2 == 0 else "assistant", "content": word} for i, word in enumerate(words)]
    told = {"role": "system", "content": "Be brief.\nBe kind."}
    return [talk[:1], talk[:3], talk, [told, *talk[:1]], [told, *talk]]
