"""Feature knowledge: the teacher's next-token distributions along its own completions.

    D = { (x, y, phi(x, y; T)) }                                             survey Eq. 6; phi = top-k log-probs + tail

phi is in a sidecar file beside the database, named by the feedback row: per token k ids, k log-probabilities and the
log of the tail's mass, 2 bytes each; 130 bytes at k = 32, where the full distribution takes 196,608.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdloop.knowledge.labeling import allowed_teachers, ask, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.raters.teacher import by_teacher
from kdloop.student.identity import vocabulary
from kdloop.student.template import Template
from storage import files
from storage.conversations import Message

if TYPE_CHECKING:  # transformers is slow to load: a page does without
    from kdloop.student.transformers import TransformersEngine

K = 32  # log-probabilities per token: 130 bytes


@dataclass(frozen=True)
class Features:
    """`ids` and `logprobs` (nats) are (tokens, k), likeliest first; `tail` is (tokens,), the log of the remaining mass.
    `vocabulary` is the hash of the vocabulary that the ids belong to (student/identity.py); "" in older files."""

    ids: np.ndarray
    logprobs: np.ndarray
    tail: np.ndarray
    vocabulary: str = ""

    @property
    def arrays(self) -> tuple:
        """Each array with the dtype that torch needs."""
        return (self.ids, np.int64), (self.logprobs, np.float32), (self.tail, np.float32)

    @property
    def bytes_per_token(self) -> float:
        return (self.ids.nbytes + self.logprobs.nbytes + self.tail.nbytes) / len(self.tail)


def features(context: SourceContext, tasks: Sequence[Task], k: int = K, teacher: str = "") -> int:
    """A local teacher answers, and its distributions are stored; a method may use the text or both.

    Raises Refused without a local teacher, and for one whose vocabulary differs from the student's.
    """
    teachers, student = allowed_teachers(context), context.writers[0][0].tokenizer
    local = [t for t in teachers.all if t.directory and teacher in ("", t.name)]
    if not local:
        raise Refused("features needs a teacher with a directory: endpoints do not give their token ids")
    engine = teachers.engine(local[0])
    if engine.tokenizer.get_vocab() != student.get_vocab():
        raise Refused(f"{local[0].name} has another vocabulary than the student: its distribution cannot be compared")
    rows = 0
    answers = ask(context, [t.messages for t in tasks], local[0].name)
    for task, answer in zip(tasks, answers, strict=True):
        if answer.ok and not unusable(answer.text):
            draft = by_teacher(answer, features=k)
            id = context.write(task.messages, draft, source="teacher", rater=local[0].name)
            save(sidecar(folder(context.db), id), top_k(engine, task.messages, draft.said, k))
            rows += 1
    return rows


@torch.inference_mode()
def top_k(engine: "TransformersEngine", prompt: list[Message], completion: tuple[str, bool], k: int = K) -> Features:
    """The k likeliest next tokens at each token of the completion (text, finished), in half precision."""
    logprobs = distribution(engine, prompt, completion)
    values, ids = logprobs.topk(k, dim=-1)
    tail = torch.log((1 - values.exp().sum(-1)).clamp(min=1e-7))
    ids = ids.numpy().astype(np.uint16 if logprobs.size(-1) <= 2**16 else np.uint32)
    halves = values.numpy().astype(np.float16), tail.numpy().astype(np.float16)
    return Features(ids, *halves, vocabulary(engine.tokenizer))


@torch.inference_mode()
def distribution(engine: "TransformersEngine", prompt: list[Message], completion: tuple[str, bool]) -> torch.Tensor:
    """(tokens, vocabulary) next-token log-probabilities at each token of the completion (text, finished)."""
    template = Template.of(engine.tokenizer)
    head, tail = template.prompt_ids(prompt), template.completion_ids(*completion)
    ids = torch.tensor([head + tail], device=engine.device)
    logits = engine.model(ids, logits_to_keep=len(tail) + 1, use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.float(), -1).cpu()


def completed(kept: Features, student: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) log-probabilities: the stored ones, and the tail's mass in proportion to the student's tail.

    `student` has (tokens, vocabulary) logits. The ratio of the two is constant over the tail, so an f-divergence, and
    its gradient, equals the one over k + 1 outcomes. Every method with a white-box teacher can take this in its place.
    """
    ids, logprobs, tail = (torch.tensor(x.astype(kind), device=student.device) for x, kind in kept.arrays)
    rest = student.detach().log_softmax(-1).scatter(-1, ids, -torch.inf)
    rest = rest - rest.logsumexp(-1, keepdim=True) + tail[:, None]
    return rest.scatter(-1, ids, logprobs)


def folder(db: Path) -> Path:
    return db.parent / "features"


def sidecar(directory: Path, feedback_id: str) -> Path:
    return directory / f"{feedback_id}.npz"


def save(path: Path, f: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as partial, partial.open("wb") as file:
        np.savez(file, ids=f.ids, logprobs=f.logprobs, tail=f.tail, vocabulary=f.vocabulary)


def read(path: Path) -> Features:
    with np.load(path) as kept:
        words = str(kept["vocabulary"]) if "vocabulary" in kept else ""
        return Features(kept["ids"], kept["logprobs"], kept["tail"], words)
