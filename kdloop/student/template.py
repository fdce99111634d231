"""A student's turns as tokens: sampling, scoring, training, GGUF files and served engines all take them from here.

What is trained is, token for token, what the family's chat template renders for a completion and the end of its turn,
and sampling stops at the same. What people, teachers and the student itself wrote is text: a control token that
somebody spells out in it becomes the tokens of its letters, and decodes to the same text.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

from jinja2 import TemplateError

from kdloop.student import PromptTooLong
from storage.conversations import Message

USER, ASSISTANT, SYSTEM, THOUGHT = "Pelican", "Walrus", "Ocelot", "Marmot"  # of the probes: no template has them
PRIVATE = range(0xF0000, 0xFFFFE)  # Unicode's private use: one that no message has marks where text is taken apart
MARKER = re.compile(r"<<?[|/]?[A-Za-z_]+\|?>?>|\[/?[A-Z_]+\]")  # of a turn, where that is no token: Llama 2's [INST]
TAG = re.compile(r"</?[a-z]+[1-6]?>")  # Gemma has HTML's among its added tokens
HALF = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to whose last token is not there
BRACKETS = "<[{(｜|", ">]})｜|"


class UnknownTemplate(ValueError):
    "The student's chat template does not render a plain conversation of text"


class Template:
    """What the tokenizer, its chat template and the generation config say of a turn.

    `end` is the id that the template puts after a completion, and `ends` are all ids that end a turn: that, the
    tokenizer's eos and the generation config's. `lead` is what the template puts between its generation prompt and a
    completion (gpt-oss: the final channel), `tail` what comes after one, its end included. `system` is "rendered", or
    "folded" into the user's message where the template refuses it or leaves it out, as these families' cards advise.
    """

    def __init__(self, tokenizer, eos: list[int] | None = None):
        """`eos` are the generation config's; None looks beside the tokenizer's files. Raises UnknownTemplate."""
        if not tokenizer.chat_template:
            raise UnknownTemplate("The student's tokenizer has no chat template: take a model that was made for chats")
        self.tokenizer = tokenizer
        literal = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if is_control(t, literal)]
        self.tokens = self.control = any_of(tokens)
        self.blocks, self.system = False, "rendered"
        self.blocks = USER not in self.probe(as_user(USER)) and USER in self.probe(as_user(USER), blocks=True)
        said = self.probe([{"role": "system", "content": SYSTEM}, *as_user(USER)])
        if SYSTEM not in said or USER not in said:
            self.system = "folded"
        prompt = self.rendered(as_user(USER), True)
        if USER not in prompt:
            raise UnknownTemplate("The student's chat template does not show what the user says")
        *_, last = [m.start() for m in self.tokens.finditer(prompt)] or [0]
        self.context = prompt[last:]  # what a completion comes after: some tokenizers look back
        before, after = self.around()
        self.lead = before[len(prompt) :] if before.startswith(prompt) else self.thoughts_end(prompt)
        self.tail = after or tokenizer.eos_token or ""
        self.end: int | None = next(iter(self.encode(self.tail)[-1:]), None)
        known = generation_eos(tokenizer) if eos is None else eos
        all = (self.end, tokenizer.eos_token_id, *known)
        self.ends: tuple[int, ...] = tuple(dict.fromkeys(id for id in all if id is not None))
        markers = set(MARKER.findall(prompt + self.tail)) - set(tokens)
        self.markers, self.control = markers, any_of([*tokens, *markers])
        self.newline, self.before = self.encode("\n"), self.encode(self.context)

    @classmethod
    def of(cls, tokenizer) -> "Template":
        """The tokenizer's, made once; anew where somebody gave it another template or eos."""
        said = (tokenizer.chat_template, tokenizer.eos_token, len(tokenizer))
        known = tokenizer.__dict__.get("_kdloop_template")
        if known is None or known[0] != said:
            known = tokenizer.__dict__["_kdloop_template"] = said, cls(tokenizer)
        return known[1]

    def prompt_ids(self, prompt: list[Message]) -> list[int]:
        """The ids of a prompt up to where its completion begins. Raises UnknownTemplate where the template refuses the
        conversation."""
        return self.encode_pieces(self.pieces(prompt))

    def prompts_ids(self, prompts: list[list[Message]]) -> list[list[int]]:
        """The same of many: each distinct one once, in one call of the tokenizer where its text holds no control
        token."""
        keys = [tuple((m["role"], m["content"]) for m in prompt) for prompt in prompts]
        pieces = {key: self.pieces(prompt) for key, prompt in dict(zip(keys, prompts, strict=True)).items()}
        whole = [key for key, parts in pieces.items() if len(parts) == 1]
        read = self.tokenizer([pieces[key][0] for key in whole], add_special_tokens=False)["input_ids"] if whole else []
        ids = dict(zip(whole, read, strict=True))
        ids |= {key: self.encode_pieces(parts) for key, parts in pieces.items() if key not in ids}
        return [ids[key] for key in keys]

    def pieces(self, prompt: list[Message]) -> list[str]:
        """A prompt as the template renders it, parted inside of what would be read as control tokens."""
        mark = unused(*(m["content"] for m in prompt))
        apart = [m | {"content": self.taken_apart(m["content"], mark)} for m in prompt]
        return self.rendered(apart, True).split(mark)

    def completion_ids(self, text: str, finished: bool) -> list[int]:
        """The ids of a completion. Only a finished one gets the end of its turn: a completion that was cut at the token
        limit must not teach the student to end in mid-sentence."""
        mark = unused(text)
        whole = self.lead + self.taken_apart(text, mark) + (self.tail if finished else "")
        ids = self.encode_pieces((self.context + whole).split(mark))
        if ids[: len(self.before)] == self.before:
            return ids[len(self.before) :]
        return self.encode_pieces(whole.split(mark))  # its first letters made a token with the context's last ones

    def text(self, ids: list[int]) -> str:
        """What ids say, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def whole(self, ids: list[int]) -> int:
        """How many of the first ids have no half character after them, nor a NUL in them, where C's texts end."""
        texts = (self.text(ids[: i + 1]) for i in range(len(ids)))
        return next((i for i, text in enumerate(texts) if text.endswith(HALF) or "\0" in text), len(ids))

    def until_end(self, ids: list[int]) -> tuple[list[int], bool]:
        """(the ids before the first that ends the turn, whether there is one)."""
        at = next((i for i, id in enumerate(ids) if id in self.ends), None)
        return (ids, False) if at is None else (ids[:at], True)

    def fit(self, messages: list[Message], context_tokens: int, reserve: int) -> list[Message]:
        """Drop the oldest messages until the prompt and `reserve` new tokens fit the context window.

        Cuts at message borders only, keeps a leading system message, and begins with a user message. Raises
        PromptTooLong when the last message alone does not fit.
        """
        system = [m for m in messages[:1] if m["role"] == "system"]
        turns = messages[len(system) :]
        budget = context_tokens - reserve
        while len(self.prompt_ids(system + turns)) > budget:
            later = [i for i, m in enumerate(turns) if m["role"] == "user" and i > 0]
            if not later:
                raise PromptTooLong(f"Your message is too long for the student: it reads at most {budget} tokens")
            turns = turns[later[0] :]
        return system + turns

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_pieces(self, pieces: list[str]) -> list[int]:
        """Each by itself, so that no control token is found across a border. One that goes on is read after a line
        break: SentencePiece would put a space before it."""
        first, *others = pieces
        ids, n = self.encode(first), len(self.newline)
        for piece in filter(None, others):
            after = self.encode("\n" + piece)
            ids += after[n:] if after[:n] == self.newline else self.encode(piece)
        return ids

    def taken_apart(self, text: str, mark: str) -> str:
        """The text with a mark inside of whatever would be read as a control token, or as the marker of a turn."""
        borders, at = set(), 0
        while found := self.control.search(text, at):
            at = found.start() + 1
            borders |= set(range(at, found.end())) if found[0] in self.markers else {at}
        edges = [0, *sorted(borders), len(text)]
        return mark.join(text[a:b] for a, b in pairwise(edges))

    def rendered(self, messages: list[Message], generation_prompt: bool, **options) -> str:
        """`options` are the template's own, and `tools`."""
        messages = folded(messages) if self.system == "folded" else one_system(messages)
        if self.blocks:
            messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in messages]
        try:
            how = {"tokenize": False, "add_generation_prompt": generation_prompt} | options
            return self.tokenizer.apply_chat_template(messages, **how)
        except TemplateError as error:
            raise UnknownTemplate(f"The student's chat template refuses this conversation: {error}") from error

    def probe(self, messages: list[Message], blocks: bool = False) -> str:
        """What it renders; "" where it refuses."""
        if blocks:
            messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in messages]
        try:
            return self.rendered(messages, True)
        except (UnknownTemplate, TypeError):  # text and a list do not add up
            return ""

    def thoughts_end(self, prompt: str) -> str:
        """Where the prompt opens a thought that the template leaves out of a completion without one: how one ends."""
        told = {"role": "assistant", "content": ASSISTANT, "reasoning_content": THOUGHT}
        _, shown, after = self.rendered([*as_user(USER), told], False).partition(THOUGHT)
        end = after.partition(ASSISTANT)[0] if shown else "\n</think>\n\n"
        return end if prompt.rstrip().endswith("<think>") else ""

    def around(self) -> tuple[str, str]:
        """(all before a completion, what comes after one up to the first control token): of the last message, else of
        one that another follows. The second is "" where no control token comes."""
        told = [*as_user(USER), {"role": "assistant", "content": ASSISTANT}]
        before, _, after = self.rendered(told, False).rpartition(ASSISTANT)
        found = self.tokens.search(after)
        if not found:
            after = self.rendered([*told, *as_user(SYSTEM)], False).rpartition(ASSISTANT)[2].partition(SYSTEM)[0]
            found = self.tokens.search(after)
        return before, after[: found.end()] if found else ""


def is_control(token, template: str) -> bool:
    """Special tokens, and those added tokens that are no text: in the template, or in brackets. Runs of blanks, words
    and HTML tags that somebody added are text."""
    text = token.content
    if len(text) < 2 or text.isspace() or not (token.special or text in template or text[0] in BRACKETS[0]):
        return False
    return token.special or text in template or (text[-1] in BRACKETS[1] and not TAG.fullmatch(text))


def any_of(texts: list[str]) -> re.Pattern:
    """The longest first, as tokenizers find them."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def unused(*texts: str) -> str:
    """A private character that is in none of them."""
    return next(c for c in map(chr, PRIVATE) if not any(c in text for text in texts))


def as_user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def one_system(messages: list[Message]) -> list[Message]:
    """System messages at the beginning as one: templates look at the first."""
    n = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    said = "\n\n".join(m["content"] for m in messages[:n])
    return [messages[0] | {"content": said}, *messages[n:]] if n > 1 else messages


def folded(messages: list[Message]) -> list[Message]:
    """Each system message at the beginning of the user's message that comes next, or as one where none does."""
    out, told = [], []
    for m in messages:
        if m["role"] == "system":
            told.append(m["content"])
        elif told and m["role"] == "user":
            out.append(m | {"content": "\n\n".join([*told, m["content"]])})
            told = []
        else:
            out.append(m)
    return [*out, *as_user("\n\n".join(told))] if told else out


def generation_eos(tokenizer) -> list[int]:
    """`eos_token_id` of the generation config, else of the config, beside the tokenizer's files."""
    for name in ("generation_config.json", "config.json"):
        file = Path(str(tokenizer.name_or_path)) / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []
