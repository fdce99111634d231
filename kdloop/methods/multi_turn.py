"""Whole conversations: the NLL of every message of the assistant, all else masked. Survey 1.C, multi-turn dialogue.

Each message is trained as the served student would write it: after its rendered prompt, to its end-of-turn token
(student/template.py). TRL's `assistant_only_loss` finds messages by `{% generation %}` markers in its own template,
which for some families renders other text than is served. Messages whose rendered prompt continues the row of the
message before share that row.
"""

from collections import defaultdict

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from kdloop.feedback.examples import Example
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, common_arguments, fitting, longest, micro_batch, run
from kdloop.student.template import Template
from storage.conversations import Message

MICRO_BATCH = 2  # on a CPU: conversations are longer than completions, of which others take 4


def usable(example: Example) -> bool:
    """A completion that its author ended: the template ends every message."""
    return example.chosen is not None and example.chosen.said[1]


def conversations(examples: list[Example]) -> list[list[Message]]:
    """The longest liked history of each branch of a conversation, of which the shorter ones are prefixes."""
    longest: dict[str, list[list[Message]]] = defaultdict(list)
    for e in sorted(examples, key=lambda e: len(e.prompt))[::-1]:
        if not any(e.prompt[-1] in messages for messages in longest[e.conversation]):
            longest[e.conversation].append([*e.prompt, e.chosen.message])
    return [messages for branches in longest.values() for messages in branches]


def rows(tokenizer, messages: list[Message], max_length: int) -> list[dict[str, list[int]]]:
    """{"input_ids", "labels"} with labels at a conversation's assistant messages, -100 elsewhere.

    A message starts a row of its own, with all its history, where the template renders the earlier messages differently
    from then (thoughts that are left out), or where the row would have more than `max_length` tokens.
    """
    template = Template.of(tokenizer)
    out: list[dict[str, list[int]]] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant" or not at:
            continue
        said = message["content"], True, message.get("reasoning_content", "")
        prompt, completion = template.prompt_ids(messages[:at]), template.completion_ids(*said)
        last = out[-1] if out else {"input_ids": [], "labels": []}
        continues = prompt[: len(last["input_ids"])] == last["input_ids"]
        continues = continues and len(prompt) + len(completion) <= max_length
        labels = last["labels"] if continues else []
        row = {
            "input_ids": prompt + completion,
            "labels": labels + [-100] * (len(prompt) - len(labels)) + completion,
        }
        if out and continues:
            out.pop()
        out.append(row)
    return out


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """TRL's SFTTrainer on rows with labels of our own."""
    score_label_positions_only()
    data = [row for messages in conversations(examples) for row in rows(tokenizer, messages, plan.max_length)]
    data = fitting(data, plan)
    config = SFTConfig(**common_arguments(plan, micro_batch(model, plan, MICRO_BATCH, map(longest, data))))
    data = Dataset.from_list(data)
    trainer = SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer)
    return run(trainer, on_step, plan.journal)


METHODS = {
    "multi_turn": Method(
        usable,
        train,
        needs="liked, chosen or written completions, best late in long conversations",
        loss="-log pi(message), per token, over all messages of the assistant",
        paper="survey 1.C (Vicuna, UltraChat, Baize)",
        defaults="the longest liked history of each branch of a conversation",
        when="Conversations that went well as a whole.",
        differs_from_paper="a branch's longest liked history alone; the systems' data and cleaning are absent",
    ),
}
