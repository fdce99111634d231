"""Messages <-> token ids. Sampling, scoring and training all go through here, so that they see the same tokens."""

from kdloop.student import PromptTooLong
from storage.conversations import Message


def prompt_ids(tokenizer, prompt: list[Message]) -> list[int]:
    """The ids of a prompt by the student's own chat template, up to where its completion begins."""
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]


def completion_ids(tokenizer, text: str, finished: bool) -> list[int]:
    """The ids of a completion. Only a finished one gets the end-of-turn token: a completion that was cut at the token
    limit must not teach the student to end its turn in mid-sentence."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if finished else ids


def fit(tokenizer, messages: list[Message], context_tokens: int, reserve: int) -> list[Message]:
    """Drop the oldest messages until the prompt and `reserve` new tokens fit the context window.

    Cuts at message borders only, keeps a leading system message, and begins with a user message. Raises PromptTooLong
    when the last message alone does not fit.
    """
    system = [m for m in messages[:1] if m["role"] == "system"]
    turns = messages[len(system) :]
    budget = context_tokens - reserve
    while len(prompt_ids(tokenizer, system + turns)) > budget:
        later = [i for i, m in enumerate(turns) if m["role"] == "user" and i > 0]
        if not later:
            raise PromptTooLong(f"Your message is too long for the student: it reads at most {budget} tokens")
        turns = turns[later[0] :]
    return system + turns
