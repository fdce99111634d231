"""The llama.cpp engine: the student's GGUF, and a checkpoint as a LoRA adapter over it, in a process of its own.

Each engine is one server (llama_server.py): `slots` completions are decoded together, and each slot caches the prompt
that it read last, so that the next turn of a chat reads only what is new. A server takes adapters at its start alone,
which takes under a second. It is another process because xllamacpp holds Python's lock while it starts: in this one,
all replies would stop for 1 to 2.3 s (findings/llamacpp_start_holds_gil.sh).
"""

import json
import secrets
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from threading import Lock

import torch
from openai import OpenAI

from kdloop.settings import of_child
from kdloop.student import AdapterRefused, EngineUnavailable
from kdloop.student.gguf import NotConvertible, write_adapter
from kdloop.student.openai import OpenAIEngine
from kdloop.student.servers import Adapter, LlamaServer


class LlamaCppEngine(OpenAIEngine):
    """See kdloop.student.Engine. `source` is the model directory that was converted from `gguf`.

    A seed reproduces a completion but for near ties, as rounding depends on what else is decoded at the time. So a
    round, which compares by common random numbers, uses the transformers engine.
    """

    name = "llamacpp"

    def __init__(
        self,
        source: str,
        gguf: Path,
        context_tokens: int,
        slots: int,
        adapter: Path | None = None,
        tokenizer=None,
        thinks: str | None = None,
    ):
        self.gguf, self.context_tokens = gguf, context_tokens
        server = OwnServer(source, gguf, context_tokens, slots, adapter)
        super().__init__(source, server, slots, tokenizer=tokenizer, thinks=thinks)

    def load(self, adapter: Path | None) -> "LlamaCppEngine":
        """Raises AdapterRefused where the adapter cannot be converted, or llama.cpp does not start with it."""
        try:
            return LlamaCppEngine(self.source, self.gguf, self.context_tokens, self.at_once, adapter, self.tokenizer)
        except (NotConvertible, EngineUnavailable) as error:
            raise AdapterRefused(str(error)) from error


class OwnServer(LlamaServer):
    """A server that lives as long as this object, and is restarted where it died. Its one adapter, if any, applies to
    every request."""

    base = "student"

    def __init__(self, source: str, gguf: Path, tokens: int, slots: int, adapter: Path | None):
        self.lock = Lock()
        self.directory = tempfile.TemporaryDirectory()
        lora = adapter and str(write_adapter(adapter, Path(source), Path(self.directory.name) / "adapter.gguf"))
        threads = torch.get_num_threads()  # by OMP_NUM_THREADS
        self.options = {"gguf": str(gguf), "lora": lora, "slots": slots, "tokens": tokens, "threads": threads}
        self.start()

    def start(self) -> None:
        """Raises EngineUnavailable where llama.cpp ends before it is ready."""
        key, pipe = secrets.token_hex(), subprocess.PIPE
        command = [sys.executable, "-m", "kdloop.student.llama_server"]
        process = {"text": True, "start_new_session": True, "env": of_child()}
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, **process)
        weakref.finalize(self, end, self.child)
        print(json.dumps(self.options | {"key": key}), file=self.child.stdin, flush=True)
        address = self.child.stdout.readline().strip()
        if not address:
            raise EngineUnavailable("llama.cpp did not start; its messages are above, where kdloop was started")
        self.connected = OpenAI(base_url=f"{address}/v1", api_key=key, timeout=300)

    @property
    def client(self) -> OpenAI:
        with self.lock:
            if self.child.poll() is not None:
                self.start()
            return self.connected

    def selecting(self, adapter: Adapter | None) -> dict:
        return {"model": self.base}


def end(child: subprocess.Popen) -> None:
    with child:
        child.kill()
