"""ENGINES: what computes the tokens of a chat. An engine is one file and one entry here.

On a CPU with a GGUF of the student the default is llama.cpp, several times as fast for one person; KDLOOP_ENGINE names
another. A round and `simulate` sample large batches, for which the transformers engine is faster (docs/log.md).
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kdloop.settings import Settings
from kdloop.student import Engine
from kdloop.student.base import embedded_gguf, find_student
from kdloop.student.identity import identity
from storage import files

if TYPE_CHECKING:
    from kdloop.student.transformers import TransformersEngine

GGUF = ".F16.gguf"
CHATS = 8  # completions that llama.cpp decodes at once, each with a context of its own in memory; the rest wait


def transformers(settings: Settings, dtype: torch.dtype | None = None) -> "TransformersEngine":
    """In the dtype of replies, where none is given."""
    from kdloop.student.transformers import TransformersEngine

    source = find_student(settings.student, settings.home)
    return TransformersEngine(source, dtype=dtype, bits=settings.bits, thinks=settings.thinking)


def llamacpp(settings: Settings) -> Engine:
    from kdloop.student.llamacpp import LlamaCppEngine

    source = find_student(settings.student, settings.home)
    gguf = embedded_gguf(settings.student) or as_gguf(source, settings.home)
    return LlamaCppEngine(source, gguf, settings.context_tokens, CHATS, thinks=settings.thinking)


def as_gguf(student: str, home: Path) -> Path:
    """The GGUF in `home` of the model directory `student`, written once; those of other students are deleted."""
    from kdloop.student.gguf import write_student

    file = home / f"student-{identity(student)}{GGUF}"
    if not file.exists():
        print(f"Writing {student} as {file} once", flush=True)
        with files.whole(file) as partial:
            write_student(student, partial)
    for other in home.glob(f"*{GGUF}"):
        if other != file:
            other.unlink()
    return file


def openai(settings: Settings) -> Engine:
    from kdloop.student.openai import OpenAIEngine
    from kdloop.student.servers import open_server

    if not settings.engine_url:
        raise ValueError("KDLOOP_ENGINE=openai needs the server's address: KDLOOP_ENGINE_URL=http://HOST:PORT/v1")
    key = files.read_text(Path(settings.engine_key_file)).strip() if settings.engine_key_file else "none"
    server = open_server(settings.engine_url, key)
    source = find_student(settings.student, settings.home)
    return OpenAIEngine(source, server, settings.engine_at_once, thinks=settings.thinking)


ENGINES = {"transformers": transformers, "llamacpp": llamacpp, "openai": openai}


def chosen(settings: Settings) -> str:
    """The owner's choice, or the fastest here without writing a file. Raises ValueError for an unknown engine."""
    if settings.engine and settings.engine not in ENGINES:
        raise ValueError(f"KDLOOP_ENGINE={settings.engine!r}; there are: {', '.join(ENGINES)}")
    reads_gguf = embedded_gguf(settings.student) and importlib.util.find_spec("xllamacpp")
    return settings.engine or ("llamacpp" if reads_gguf and not torch.cuda.is_available() else "transformers")


def open_engine(settings: Settings) -> Engine:
    """The untrained student's engine, from which those of checkpoints are loaded. Raises NoStudent where no student can
    be reached, EngineUnavailable where its server cannot, and ValueError for an unknown engine."""
    return ENGINES[chosen(settings)](settings)
