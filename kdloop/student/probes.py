"""A chat template's row: what it shows of a conversation, and what kdloop does where it does not.

Words that no template has are put into a conversation and looked for in what is rendered, in their order: templates
drop a tool's result, or the call, without an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

from jinja2 import TemplateError

from kdloop.student.probe_talks import (
    ABOUT,
    ARGUMENT,
    NAME,
    NEXT,
    PARTS,
    RESULT,
    RESULT_2,
    VALUE,
    VALUE_2,
    answering,
    call,
    definition,
    history,
    missing,
    result,
    said,
    two_calls,
)
from kdloop.student.template import ASSISTANT, SYSTEM, THOUGHT, USER, Template
from kdloop.student.thinking import THINKS, Thoughts
from storage.conversations import as_prompt

REFUSES = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)  # a template is code
EFFORTS = ("low", "medium", "high", "xhigh")
SWITCHES = {"enable_thinking": (True, False), "thinking": (True, False), "reasoning_effort": EFFORTS}
WORKS, FALLBACK, NONE, REFUSED = "works", "by a fallback", "none", "refused"
LONG = 80  # letters
SILENTLY = "left out without an error"
CALLS = {  # (arguments as text, the message's content) -> what is given otherwise than transformers documents it
    (False, ""): "",
    (True, ""): "arguments as JSON text, not as an object",
    (False, None): "a message of calls has no content, not an empty one",
    (True, None): "arguments as JSON text, not as an object; a message of calls has no content, not an empty one",
}


@dataclass(frozen=True)
class Verdict:
    """`status` is WORKS, FALLBACK (`how` names it), REFUSED (`how` is the reason), or NONE: there is no such thing."""

    status: str
    how: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.status, self.how)))


@dataclass(frozen=True)
class Row:
    """The first five are what kdloop does with a conversation of text and thoughts. The others are what the template
    shows of a thought in a field of its own, and of tools, which kdloop's chat does not have."""

    chat: Verdict
    system: Verdict
    turns: Verdict
    end: Verdict
    thoughts: Verdict
    reasoning_content: Verdict
    tools: Verdict
    tool_calls: Verdict
    tool_results: Verdict

    @classmethod
    def of(cls, tokenizer) -> "Row":
        try:
            template = Template(tokenizer)
        except REFUSES as error:
            return cls(*[Verdict(REFUSED, sentence(error))] * len(fields(cls)))
        probes = Probes(template)
        return cls(**{f.name: getattr(probes, f.name)() for f in fields(cls)})


class Probes:
    "One method for each column of Row."

    def __init__(self, template: Template):
        self.template, self.tokenizer = template, template.tokenizer
        self.prompt = template.rendered(as_prompt(USER), True)

    def chat(self) -> Verdict:
        if self.template.blocks:
            return Verdict(FALLBACK, f"plain text is {SILENTLY}, so messages are lists of text blocks")
        return Verdict(WORKS)

    def system(self) -> Verdict:
        if self.template.system == "rendered":
            return Verdict(WORKS)
        try:
            self.tokenizer.apply_chat_template(
                [{"role": "system", "content": SYSTEM}, *as_prompt(USER)], tokenize=False
            )
            why = f"it is {SILENTLY}"
        except REFUSES as error:
            why = f'the template says "{sentence(error)}"'
        return Verdict(FALLBACK, f"it begins the user's message, as {why}")

    def turns(self) -> Verdict:
        """Whether history is what was generated: the first turn's prompt and completion begin the next one's prompt."""
        talk = [*as_prompt(USER), said(ASSISTANT), *as_prompt(NEXT)]
        try:
            later = self.template.prompt_ids(talk)
        except REFUSES as error:
            return Verdict(REFUSED, sentence(error))
        history = self.tokenizer.decode(later)
        if lost := missing(history, USER, ASSISTANT, NEXT):
            return Verdict(REFUSED, f"{lost} {SILENTLY}")
        first = self.template.prompt_ids(talk[:1]) + self.template.completion_ids(ASSISTANT, True)
        if later[: len(first)] == first:
            return Verdict(WORKS)
        how = self.differences(self.tokenizer.decode(first), history)
        return Verdict(FALLBACK, f"each completion is trained in a row of its own, as {how}")

    def differences(self, generated: str, history: str) -> str:
        """Of two texts, before the completion and after it."""
        (before, _, after), (before_2, _, after_2) = (text.partition(ASSISTANT) for text in (generated, history))
        same = len(shared(before, before_2))
        here, there = before[same:], before_2[same:]
        found = []
        if here != there:
            found.append(f"history has {code(there)} before a completion that was generated after {code(here)}")
        if not after_2.startswith(after):
            ends = self.template.tokens.search(after_2)
            found.append(f"its end {code(after)} is {code(ends[0] if ends else after_2)} in history")
        return " and ".join(found)

    def end(self) -> Verdict:
        """Which token ends a turn in training, and all that stop sampling."""
        ends, trained = self.template.ends, self.template.completion_ids(ASSISTANT, True)[-1]
        if not ends:
            return Verdict(REFUSED, "no token ends a turn: the template has none after a completion, nor an eos")
        if trained not in ends:
            return Verdict(REFUSED, f"training ends with {self.token(trained)}, at which sampling does not")
        names = ", ".join(map(self.token, ends))
        after = self.template.rendered([*as_prompt(USER), said(ASSISTANT)], False).rpartition(ASSISTANT)[2]
        if self.template.tokens.search(after):
            return Verdict(WORKS, names)
        shown = bool(self.template.around()[1])
        why = "the next turn's first token" if shown else "the tokenizer's eos, where the template has no end"
        return Verdict(FALLBACK, f"{names}: {why}")

    def thoughts(self) -> Verdict:
        """What becomes of the student's own thoughts, how a completion without one is made, and what turns them on and
        off."""
        context, lead, marks, switches = self.template.context, self.template.lead, self.marks(), self.switches()
        if not (self.thought_shown or switches or THINKS.search(context + lead)):
            return Verdict(NONE)
        if not marks:
            return Verdict(
                FALLBACK, "; ".join(["they stay in the completion's text: their marks are unknown", *switches])
            )
        begins = f"from {code(marks.opening)}" if marks.opening else "from the prompt's end"
        trained = "trained" if marks.rendered else "not trained, as the template leaves them out"
        parts = [f"kept apart, {begins} to {code(marks.closing)}; {trained}"]
        if lead.strip():
            parts.append(f"a completion without one is trained after {code(lead)}")
        elif THINKS.search(context):
            parts.append(f"a prompt ends with {code(context)}")
        if not self.template.switch():
            off = Template(self.tokenizer, "off")
            parts.append(f"off: a prompt ends with {code(off.prefill)}" if off.prefill else "they cannot be turned off")
        return Verdict(WORKS, "; ".join([*parts, *switches]))

    def marks(self) -> Thoughts | None:
        """Of a student that thinks: some templates have others, or none, where the switch is off."""
        return (Template(self.tokenizer, "on") if self.template.switch() else self.template).thoughts

    def switches(self) -> list[str]:
        """The template's options that change a prompt."""
        found = []
        for name, values in SWITCHES.items():
            shown = {value: self.tried(as_prompt(USER), **{name: value})[0] for value in values}
            if len({text for text in shown.values() if text}) > 1:
                default = [str(value) for value, text in shown.items() if text == self.prompt]
                found.append(f"switch `{name}`, {default[0] if default else 'none of its values'} as default")
        return found

    def reasoning_content(self) -> Verdict:
        if not (places := self.thought_shown):
            return Verdict(REFUSED, SILENTLY)
        known = str(self.tokenizer.chat_template)
        parts = ["in history" if "in history" in places else f"{' and '.join(places)}, not in history"]
        if "reasoning_content" not in known and "thinking" in known:
            return Verdict(FALLBACK, f"the template reads `thinking`, which transformers fills with it; {parts[0]}")
        return Verdict(WORKS, parts[0])

    @cached_property
    def thought_shown(self) -> list[str]:
        """Where a thought that is given as `reasoning_content` is shown."""
        told = said(ASSISTANT, reasoning_content=THOUGHT)
        calling = said("", tool_calls=[call()], reasoning_content=THOUGHT)
        texts = {
            "in the last message": self.tried([*as_prompt(USER), told], generation_prompt=False)[0],
            "before a tool's result": self.tried([*as_prompt(USER), calling, result()])[0],
            "in history": self.tried([*as_prompt(USER), told, *as_prompt(NEXT)])[0],
        }
        return [place for place, text in texts.items() if THOUGHT in text]

    def tools(self) -> Verdict:
        """Their definitions."""
        text, why = self.tried(as_prompt(USER), tools=[definition()])
        lost = [PARTS[word] for word in (NAME, ABOUT, ARGUMENT, USER) if word not in text]
        if why or lost:
            return Verdict(REFUSED, why or f"{' and '.join(lost)} {SILENTLY}")
        return Verdict(WORKS)

    def tool_calls(self) -> Verdict:
        """Before the tool's result, and in history: what a template shows of the one it may leave out of the other."""
        otherwise, text, why = self.calling(answering, USER, NAME, VALUE)
        why = why or self.calling(history, USER, NAME, VALUE, ASSISTANT, NEXT)[2]
        if why or (lost := missing(text, USER, ARGUMENT)):
            return Verdict(REFUSED, why or f"{lost} {SILENTLY}")
        parts = [otherwise] if otherwise else []
        if f"'{ARGUMENT}': '{VALUE}'" in text:
            parts.append("arguments as Python writes them, which is no JSON")
        if why := self.calling(two_calls, VALUE, VALUE_2, RESULT, RESULT_2)[2]:
            parts.append(f"one call a message: of two, {why}")
        return Verdict(FALLBACK if parts else WORKS, "; ".join(parts))

    def tool_results(self) -> Verdict:
        if why := self.calling(answering, USER, RESULT)[2]:
            return Verdict(REFUSED, why)
        if why := self.calling(history, USER, RESULT, ASSISTANT, NEXT)[2]:
            return Verdict(FALLBACK, f"until it is answered; in history: {why}")
        return Verdict(WORKS)

    def calling(self, talk: Callable[..., list[dict]], *words: str) -> tuple[str, str, str]:
        """(what had to be given otherwise, the prompt, why the words are not in it in this order). The call goes as
        transformers documents it, or else otherwise."""
        reasons = []
        for how, otherwise in CALLS.items():
            text, why = self.tried(talk(*how), tools=[definition()])
            lost = missing(text, *words)
            if not (why or lost):
                return otherwise, text, ""
            reasons.append(f'"{why}"' if why else f"{lost} {SILENTLY}")
        return "", "", reasons[0]

    def tried(self, messages: list[dict], generation_prompt: bool = True, **options) -> tuple[str, str]:
        """(what is rendered, why it is refused)."""
        try:
            return self.template.rendered(messages, generation_prompt, **options), ""
        except REFUSES as error:
            return "", sentence(error)

    def token(self, id: int) -> str:
        return code(self.tokenizer.decode([id]))


def shared(a: str, b: str) -> str:
    """What both begin with."""
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removeprefix("The student's chat template refuses this conversation: ")


def code(text: str) -> str:
    """As Markdown's code, line breaks spelled; the end of a long one."""
    text = text.replace("\n", "\\n")
    return f"`{text if len(text) <= LONG else '…' + text[-LONG:]}`" if text else "nothing"
