"""Whole conversations: the NLL of every message of the assistant, all else masked. Survey 1.C, multi-turn dialogue.

Each message is trained as the student would say it: after what the template renders of the conversation before it, up
to its turn's end (student/template.py). TRL finds messages by `{% generation %}` markers in a template of its own,
which for some families has other text than is served. Messages that go on where the one before ended are one row.
"""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from kdloop.feedback.examples import Example
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, common_arguments, fitting, longest, micro_batch, run
from kdloop.student.template import Template
from storage.conversations import Message

MICRO_BATCH = 2


def usable(example: Example) -> bool:
    """A text that its author ended: the template ends every message."""
    return example.chosen is not None and example.chosen.said[1]


def conversations(examples: list[Example]) -> list[list[Message]]:
    """The longest liked history of each conversation: the shorter ones are its beginnings."""
    longest: dict[str, list[Message]] = {}
    for e in sorted(examples, key=lambda e: len(e.prompt)):
        longest[e.conversation] = [*e.prompt, {"role": "assistant", "content": e.chosen.text}]
    return list(longest.values())


def rows(tokenizer, messages: list[Message], most: int) -> list[dict[str, list[int]]]:
    """{"input_ids", "labels"} of a conversation's assistant messages, -100 where there is none.

    A message begins a row of its own where the template renders what came before otherwise than it was said (thoughts
    that are left out), or where the row would have more than `most` tokens; it then has all its history.
    """
    made: list[dict[str, list[int]]] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant" or not at:
            continue
        head, said = (
            Template.of(tokenizer).prompt_ids(messages[:at]),
            Template.of(tokenizer).completion_ids(message["content"], True),
        )
        before = made[-1] if made else {"input_ids": [], "labels": []}
        goes_on = head[: len(before["input_ids"])] == before["input_ids"] and len(head) + len(said) <= most
        known = before["labels"] if goes_on else []
        row = {"input_ids": head + said, "labels": known + [-100] * (len(head) - len(known)) + said}
        made[-1 if made and goes_on else len(made) :] = [row]
    return made


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    score_label_positions_only()
    made = [row for messages in conversations(examples) for row in rows(tokenizer, messages, plan.max_length)]
    made = fitting(made, plan)
    config = SFTConfig(**common_arguments(plan, micro_batch(model, plan, MICRO_BATCH, map(longest, made))))
    data = Dataset.from_list(made)
    return run(SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer), on_step)


METHODS = {
    "multi_turn": Method(
        usable,
        train,
        needs="liked, chosen or written completions, best late in long conversations",
        loss="-log pi(message), a token, over all messages of the assistant",
        paper="survey 1.C (Vicuna, UltraChat, Baize)",
        defaults="the longest liked history of each conversation",
        when="Conversations that went well as a whole.",
        differs_from_paper="a conversation's longest liked history alone; the systems' data and cleaning are absent",
    ),
}
