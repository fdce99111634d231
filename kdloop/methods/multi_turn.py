"""Whole conversations: the NLL of every message of the assistant, all else masked.

TRL finds the assistant's tokens by `{% generation %}` markers in the chat template and knows none for SmolLM2's, so
here is that template with them; it renders the same text. Survey 1.C, multi-turn dialogue; TRL SFTTrainer.
"""

from copy import copy

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import MAX_LENGTH, Method, OnStep, Plan, common_arguments, micro_batch, run
from kdloop.pairs import Example
from storage.conversations import Message

MICRO_BATCH = 2
MARKED = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}{% generation %}\
{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}\
{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
PROBE = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


class UnknownTemplate(ValueError):
    "The student's chat template is not SmolLM2's: its assistant messages cannot be found"


def usable(example: Example) -> bool:
    """A text that its author ended: the template ends every message."""
    return example.chosen is not None and example.chosen.said[1]


def marked(tokenizer):
    """A tokenizer with the marked template. Raises UnknownTemplate where that would render another text."""
    twin = copy(tokenizer)
    twin.chat_template = MARKED
    if twin.apply_chat_template(PROBE, tokenize=False) != tokenizer.apply_chat_template(PROBE, tokenize=False):
        raise UnknownTemplate(UnknownTemplate.__doc__)
    return twin


def conversations(examples: list[Example]) -> list[list[Message]]:
    """The longest liked history of each conversation: the shorter ones are its beginnings."""
    longest: dict[str, list[Message]] = {}
    for e in sorted(examples, key=lambda e: len(e.prompt)):
        longest[e.conversation] = [*e.prompt, {"role": "assistant", "content": e.chosen.text}]
    return list(longest.values())


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    score_label_positions_only()
    data = Dataset.from_list([{"messages": messages} for messages in conversations(examples)])
    size = micro_batch(model, plan, MICRO_BATCH, [MAX_LENGTH])
    config = SFTConfig(**common_arguments(plan, size), assistant_only_loss=True)
    return run(SFTTrainer(model, args=config, train_dataset=data, processing_class=marked(tokenizer)), on_step)


METHODS = {
    "multi_turn": Method(
        usable,
        train,
        needs="liked, chosen or written completions, best late in long conversations",
        loss="-log pi(message), a token, over all messages of the assistant",
        paper="survey 1.C (Vicuna, UltraChat, Baize)",
        defaults="the longest liked history of each conversation",
        when="Conversations that went well as a whole.",
    ),
}
