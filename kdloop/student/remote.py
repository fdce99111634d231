"""The student of a round where a vLLM or SGLang serves (KDLOOP_ENGINE=openai): it is sampled there, as many completions
at once as the app asks of that server, and it is scored and trained here, with transformers.

What is sampled there has the weights that are scored here: before an adapter's first completion, the log-probabilities
of a fixed text must be the same in both places.
"""

import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Self

from kdloop.student import Sample, Sampling
from kdloop.student.serving import TOLERANCE, WrongWeights, distance, fingerprint
from kdloop.student.transformers import TransformersEngine
from storage import files
from storage.conversations import Message

if TYPE_CHECKING:
    from kdloop.student.openai import OpenAIEngine


class RemoteSampling(TransformersEngine):
    """See kdloop.student.Engine. `remote` is the untrained student's engine at the server, and `folder` a directory
    that the server can read, too: adapters of models in training are written there.

    An adapter is loaded into the server when it is first sampled. Then, and for the untrained student at once, raises
    EngineUnavailable where the server fails, and WrongWeights where it has other weights under that name.
    """

    def __init__(self, source: str, remote: "OpenAIEngine", folder: Path, **options):
        super().__init__(source, **options)
        self.untrained_remote, self.at_once = remote, remote.at_once
        self.folder, self.numbers = folder, count()
        self.adapter, self.checked = None, None
        self.at_server()

    def load(self, adapter: Path | None) -> Self:
        engine = super().load(adapter)
        engine.adapter, engine.checked = adapter, None
        return engine

    def load_trained(self, training) -> Self:
        """Its adapter is on the disk as long as the engine is used."""
        engine = super().load_trained(training)
        engine.adapter, engine.checked = self.folder / str(next(self.numbers)), None
        training.save_pretrained(engine.adapter, selected_adapters=["default"])
        weakref.finalize(engine, files.remove, engine.adapter)
        return engine

    def at_server(self) -> "OpenAIEngine":
        """The server's side of this engine, its weights compared with these once."""
        if self.checked is None:
            remote = self.untrained_remote.load(self.adapter)
            apart = distance(fingerprint(self), fingerprint(remote))
            if not apart <= TOLERANCE[remote.name]:  # also where it is NaN
                raise WrongWeights(
                    f"The student's server has other weights than this round: log-probabilities are {apart:.3f} nats "
                    "apart. It has to serve the model that KDLOOP_STUDENT names"
                )
            self.checked = remote
        return self.checked

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        return self.at_server().stream(prompt, sampling, seed, stop)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        return self.at_server().complete(prompts, sampling, seeds)
