"""Messages <-> token ids for whoever is given a tokenizer: by its Template (template.py)."""

from kdloop.student.template import Template
from storage.conversations import Message


def prompt_ids(tokenizer, prompt: list[Message]) -> list[int]:
    return Template.of(tokenizer).prompt_ids(prompt)


def completion_ids(tokenizer, text: str, finished: bool) -> list[int]:
    return Template.of(tokenizer).completion_ids(text, finished)
