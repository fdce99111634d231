"""What `inspect` runs, in its own environment: the tasks of a file of prompts and answers, scored by its `exact`."""

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import exact
from inspect_ai.solver import generate


@task
def pack(file: str, max_tokens: int) -> Task:
    return Task(
        dataset=json_dataset(file, FieldSpec(input="prompt", target="answer")),
        solver=generate(),
        scorer=exact(),
        config=GenerateConfig(temperature=0, max_tokens=max_tokens, extra_body={"store": False}),
    )
