"""A student's turns as tokens, for sampling, scoring, training, GGUF files and served engines alike.

Training has, token for token, what the family's chat template renders for a completion and its end-of-turn token, and
sampling stops at the same. What people, teachers and the student wrote is text: a control token that is spelled out in
it is encoded as the tokens of its letters, and decodes to the same text.
"""

import json
import re
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path

from jinja2 import TemplateError

from kdloop.student import PromptTooLong
from kdloop.student.controls import any_of, is_control, unused
from kdloop.student.thinking import KNOWN, SWITCHES, Divider, Thoughts
from storage.conversations import Message, as_prompt, check_kept

USER, ASSISTANT, SYSTEM, THOUGHT = "Pelican", "Walrus", "Ocelot", "Marmot"  # of probe conversations: in no template
MARKER = re.compile(r"<<?[|/]?[A-Za-z_]+\|?>?>|\[/?[A-Z_]+\]")  # of a turn, where it is no token: Llama 2's [INST]
HALF = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to whose last token is missing


class UnknownTemplate(ValueError):
    "The student's chat template does not render a plain conversation of text"


class Template:
    """How a family's turns are rendered and ended, by its tokenizer, chat template and generation config.

    `end` is the id that the template puts after a completion, and `ends` are all ids that end a turn: that, the
    tokenizer's eos and the generation config's. `lead` is what the template puts between its generation prompt and a
    completion (gpt-oss: the final channel), `tail` what it puts after one, the end included. `system` is "rendered", or
    "folded" into the user's message where the template refuses it or leaves it out, as these families' cards advise.
    `options` are the template's own switch for thoughts, `thoughts` their marks, None where the family has none;
    `thinks` says whether the student is to think before it answers.
    """

    def __init__(self, tokenizer, thinking: str = ""):
        """`thinking` is on, off, auto (off where the template has a switch) or "", the template's own default. Raises
        UnknownTemplate."""
        if not tokenizer.chat_template:
            raise UnknownTemplate("The student's tokenizer has no chat template: take a model that was made for chats")
        self.tokenizer = tokenizer
        literal = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if is_control(t, literal)]
        self.tokens = self.control = any_of(tokens)
        self.blocks, self.system, self.options, self.prefill = False, "rendered", {}, ""
        self.blocks = USER not in self.probe(as_prompt(USER))
        self.blocks = self.blocks and USER in self.probe(as_prompt(USER))
        with_system = self.probe([{"role": "system", "content": SYSTEM}, *as_prompt(USER)])
        if SYSTEM not in with_system or USER not in with_system:
            self.system = "folded"
        switch = self.switch()
        self.options = {switch: thinking == "on"} if switch and thinking else {}
        prompt = self.rendered(as_prompt(USER), True)
        if USER not in prompt:
            raise UnknownTemplate("The student's chat template does not show what the user says")
        before, after = self.around()
        self.lead = before[len(prompt) :] if before.startswith(prompt) else self.thoughts_end(prompt)
        self.thoughts = self.find_thoughts(prompt)
        self.thinks = bool(self.thoughts and self.thoughts.rendered)
        if switch:
            self.thinks = prompt == self.rendered(as_prompt(USER), True, **{switch: True})
        elif self.thinks and self.lead and thinking == "off":  # the prompt has the end of the thought
            self.thinks, self.prefill, self.lead = False, self.lead, ""
            self.thoughts = self.find_thoughts(prompt + self.prefill)
        *_, last = [m.start() for m in self.tokens.finditer(prompt)] or [0]
        self.context = prompt[last:] + self.prefill  # before a completion: some tokenizers depend on it
        self.tail = after or tokenizer.eos_token or ""
        self.end: int | None = next(iter(self.encode(self.tail)[-1:]), None)
        ends = (self.end, tokenizer.eos_token_id, *generation_eos(tokenizer))
        self.ends: tuple[int, ...] = tuple(dict.fromkeys(id for id in ends if id is not None))
        markers = set(MARKER.findall(prompt + self.tail)) - set(tokens)
        self.markers, self.control = markers, any_of([*tokens, *markers])
        self.newline, self.before = self.encode("\n"), self.encode(self.context)
        ids = {id for id, t in tokenizer.added_tokens_decoder.items() if t.content in tokens}
        self.divider = self.thoughts and Divider(self.thoughts, self.encode, self.text, ids)

    @classmethod
    def of(cls, tokenizer, thinking: str | None = None) -> "Template":
        """The tokenizer's, cached on it; made anew where its template, eos or vocabulary has changed. `thinking` holds
        for this tokenizer from then on; None leaves it as it is."""
        thinking = tokenizer.__dict__.get("_kdloop_thinking", "") if thinking is None else thinking
        tokenizer.__dict__["_kdloop_thinking"] = thinking
        key = (tokenizer.chat_template, tokenizer.eos_token, len(tokenizer), thinking)
        cached = tokenizer.__dict__.get("_kdloop_template")
        if cached is None or cached[0] != key:
            cached = tokenizer.__dict__["_kdloop_template"] = key, cls(tokenizer, thinking)
        return cached[1]

    def prompt_ids(self, prompt: list[Message]) -> list[int]:
        """The ids of a prompt up to where its completion begins. Raises UnknownTemplate where the template refuses the
        conversation, NotKept where that holds more than texts and thoughts."""
        return self.encode_pieces(self.pieces(prompt))

    def prompts_ids(self, prompts: list[list[Message]]) -> list[list[int]]:
        """The same of many prompts: each distinct one once, and those without control tokens in their text in one call
        of the tokenizer."""
        keys = [tuple((m["role"], m["content"], m.get("reasoning_content")) for m in prompt) for prompt in prompts]
        pieces = {key: self.pieces(prompt) for key, prompt in dict(zip(keys, prompts, strict=True)).items()}
        whole = [key for key, parts in pieces.items() if len(parts) == 1]
        encoded = self.tokenizer([pieces[k][0] for k in whole], add_special_tokens=False)["input_ids"] if whole else []
        ids = dict(zip(whole, encoded, strict=True))
        ids |= {key: self.encode_pieces(parts) for key, parts in pieces.items() if key not in ids}
        return [ids[key] for key in keys]

    def pieces(self, prompt: list[Message]) -> list[str]:
        """A rendered prompt, split within what would be parsed as control tokens."""
        for message in prompt:
            check_kept(message)
        texts = [{k: m[k] for k in ("content", "reasoning_content") if m.get(k) is not None} for m in prompt]
        mark = unused(*(text for of_one in texts for text in of_one.values()))
        marked = [{k: self.mark_controls(text, mark) for k, text in of_one.items()} for of_one in texts]
        messages = [{"role": m["role"]} | of_one for m, of_one in zip(prompt, marked, strict=True)]
        return (self.rendered(messages, True) + self.prefill).split(mark)

    def completion_ids(self, text: str, finished: bool, thought: str = "") -> list[int]:
        """The ids of a completion after its thought, where the template renders one. Only a finished one gets the end
        of its turn: a completion that was cut at the token limit must not teach the student to end in mid-sentence."""
        mark, lead = unused(text, thought), self.lead
        if thought and self.thoughts and self.thoughts.rendered:
            closing = self.thoughts.closing if text or finished else ""  # it was cut in its thought
            lead = self.thoughts.opening + self.mark_controls(thought, mark) + closing
        whole = lead + self.mark_controls(text, mark) + (self.tail if finished else "")
        ids = self.encode_pieces((self.context + whole).split(mark))
        if ids[: len(self.before)] == self.before:
            return ids[len(self.before) :]
        return self.encode_pieces(whole.split(mark))  # a token spans the end of the context and its first letters

    def text(self, ids: list[int]) -> str:
        """The ids decoded, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def parts(self, ids: list[int], ended: bool) -> tuple[str, str]:
        """(thought, text) of what the student has written, to the end of its turn or so far."""
        return self.divider.of_ids(ids, ended) if self.divider else ("", self.text(ids))

    def parts_of_text(self, text: str, ended: bool) -> tuple[str, str]:
        """The same of a text that a server has decoded."""
        return self.divider.of_text(text, ended) if self.divider else ("", text)

    def whole(self, ids: list[int]) -> int:
        """The number of leading ids none of which leaves a character incomplete or has a NUL, the end of a C string."""
        texts = (self.text(ids[: i + 1]) for i in range(len(ids)))
        return next((i for i, text in enumerate(texts) if text.endswith(HALF) or "\0" in text), len(ids))

    def until_end(self, ids: list[int]) -> tuple[list[int], bool]:
        """(the ids before the first one that ends the turn, whether there is one)."""
        at = next((i for i, id in enumerate(ids) if id in self.ends), None)
        return (ids, False) if at is None else (ids[:at], True)

    def fit(self, messages: list[Message], context_tokens: int, reserve: int) -> list[Message]:
        """Drop the oldest messages until the prompt and `reserve` new tokens fit the context window.

        Whole messages alone are dropped; a leading system message is kept, and the first one after it is a user's.
        Raises PromptTooLong when the last message alone does not fit.
        """
        system = [m for m in messages[:1] if m["role"] == "system"]
        turns = messages[len(system) :]
        budget = context_tokens - reserve

        def fits(start: int) -> bool:
            return len(self.prompt_ids(system + turns[start:])) <= budget

        starts = [i for i, m in enumerate(turns) if m["role"] == "user" and i > 0]
        if fits(0):
            return messages
        at = bisect_left(starts, True, key=fits)
        if at == len(starts):
            raise PromptTooLong(f"Your message is too long for the student: it reads at most {budget} tokens")
        return system + turns[starts[at] :]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_pieces(self, pieces: list[str]) -> list[int]:
        """Each piece by itself, so that no control token is parsed across a split. All but the first are encoded after
        a line break, whose tokens are removed again: SentencePiece would put a space before them."""
        first, *others = pieces
        ids, n = self.encode(first), len(self.newline)
        for piece in filter(None, others):
            after = self.encode("\n" + piece)
            ids += after[n:] if after[:n] == self.newline else self.encode(piece)
        return ids

    def mark_controls(self, text: str, mark: str) -> str:
        """The text with a mark within whatever would be parsed as a control token, or as the marker of a turn."""
        splits, at = set(), 0
        while found := self.control.search(text, at):
            at = found.start() + 1
            splits |= set(range(at, found.end())) if found[0] in self.markers else {at}
        edges = [0, *sorted(splits), len(text)]
        return mark.join(text[a:b] for a, b in pairwise(edges))

    def rendered(self, messages: list[Message], generation_prompt: bool, **options) -> str:
        """`options` are the template's own, and `tools`. Raises UnknownTemplate where it refuses the conversation."""
        messages = folded(messages) if self.system == "folded" else one_system(messages)
        if self.blocks:
            messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in messages]
        try:
            how = {"tokenize": False, "add_generation_prompt": generation_prompt} | self.options | options
            return self.tokenizer.apply_chat_template(messages, **how)
        except TemplateError as error:
            raise UnknownTemplate(f"The student's chat template refuses this conversation: {error}") from error

    def probe(self, messages: list[Message], **options) -> str:
        """The rendered prompt; "" where the template refuses it."""
        try:
            return self.rendered(messages, True, **options)
        except (UnknownTemplate, TypeError):  # the template adds text to a list of blocks
            return ""

    def switch(self) -> str:
        """The name of the template's option that turns thoughts on and off; "" where it has none."""
        asked = as_prompt(USER)
        switches = (s for s in SWITCHES if self.probe(asked, **{s: True}) != self.probe(asked, **{s: False}))
        return next(switches, "")

    def find_thoughts(self, prompt: str) -> Thoughts | None:
        """The marks around a thought after this prompt; None where the family has none."""
        answer = {"role": "assistant", "content": ASSISTANT, "reasoning_content": THOUGHT}
        before, found, after = self.rendered([*as_prompt(USER), answer], False).partition(THOUGHT)
        if found and before.startswith(prompt):
            return Thoughts(before[len(prompt) :], after.partition(ASSISTANT)[0], self.lead)
        if self.thoughts_end(prompt):
            return Thoughts("", self.lead, self.lead)
        known = (Thoughts(*marks, self.lead, False) for marks in KNOWN if all(map(self.tokens.search, marks)))
        return next(known, None)

    def thoughts_end(self, prompt: str) -> str:
        """What ends a thought, where the generation prompt opens one that the template drops from completions."""
        answer = {"role": "assistant", "content": ASSISTANT, "reasoning_content": THOUGHT}
        _, found, after = self.rendered([*as_prompt(USER), answer], False).partition(THOUGHT)
        end = after.partition(ASSISTANT)[0] if found else "\n</think>\n\n"
        return end if prompt.rstrip().endswith("<think>") else ""

    def around(self) -> tuple[str, str]:
        """(all before a completion, what comes after it up to and with the first control token), the completion being
        the last message, else one that another follows. The second is "" where there is no control token."""
        answered = [*as_prompt(USER), {"role": "assistant", "content": ASSISTANT}]
        before, _, after = self.rendered(answered, False).rpartition(ASSISTANT)
        found = self.tokens.search(after)
        if not found:
            after = self.rendered([*answered, *as_prompt(SYSTEM)], False).rpartition(ASSISTANT)[2].partition(SYSTEM)[0]
            found = self.tokens.search(after)
        return before, after[: found.end()] if found else ""


def one_system(messages: list[Message]) -> list[Message]:
    """Leading system messages joined: templates render the first alone."""
    n = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    joined = "\n\n".join(m["content"] for m in messages[:n])
    return [messages[0] | {"content": joined}, *messages[n:]] if n > 1 else messages


def folded(messages: list[Message]) -> list[Message]:
    """Each system message put before the text of the next user message, or as a user message where none follows."""
    out, pending = [], []
    for m in messages:
        if m["role"] == "system":
            pending.append(m["content"])
        elif pending and m["role"] == "user":
            out.append(m | {"content": "\n\n".join([*pending, m["content"]])})
            pending = []
        else:
            out.append(m)
    return [*out, *as_prompt("\n\n".join(pending))] if pending else out


def generation_eos(tokenizer) -> list[int]:
    """`eos_token_id` of the generation config, else of the config, beside the tokenizer's files."""
    for name in ("generation_config.json", "config.json"):
        file = Path(str(tokenizer.name_or_path)) / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []
