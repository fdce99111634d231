"""Every setting, in one frozen record. The only reader of the environment; `__main__` reads argv and passes values in.

`KDLOOP_<NAME>` sets a field, for instance KDLOOP_ROUND_VOTES=20.
"""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

TRUE = ("1", "t", "true", "yes")


@dataclass(frozen=True)
class Settings:
    home: Path = Path("data")  # the database, the checkpoints, the converted student
    student: str = (
        ""  # "" = the embedded one where its wheel is installed, else HUB_STUDENT; or org/name; or a directory
    )
    engine: str = "transformers"  # what answers in the chat; or llamacpp, faster and less exact; or openai, a server
    engine_url: str = ""  # of `openai`: http://HOST:PORT/v1 of a vLLM, SGLang or llama-server that serves the student
    engine_key_file: str = ""  # holds that server's key; "" = it wants none
    engine_at_once: int = 64  # replies that it is asked for at the same time; the rest wait here
    host: str = "127.0.0.1"
    port: int = 7860
    max_tokens: int = 256  # of a chat completion
    round_max_tokens: int = 96  # of a completion that a round or a simulation samples
    context_tokens: int = 2048
    round_votes: int = 36  # a round starts after so many new votes; 0 = only by hand
    idle_minutes: float = 0  # also start one after so long without a chat turn, if there is any new vote; 0 = never
    method: str = "auto"
    teachers: str = ""  # a TOML file of [[teacher]]s (raters/teacher.py); "" = none: nothing leaves this machine
    delegate_below: float = 0  # a teacher answers where the student's calibrated confidence is lower; 0 = never
    teacher_models: str = ""  # directories or Hub names, by commas, of white-box teachers; "" = the untrained student
    bake: str = ""  # the system prompt that the method `bake` turns into weights
    gate_prompts: int = 64
    round_timeout_minutes: float = 60
    snapshots: str = ""  # a folder, or hf://datasets/OWNER/NAME: a snapshot after every round and at the end; "" = none
    compare_every: int = 6  # every so many chat messages get two completions to choose from; 0 = never
    admin_token: str = ""  # signs the owner in where the page is not on this machine only
    admins: str = ""  # Hub user names who are owners after signing in on a Space, comma-separated; there: its author
    space: str = ""  # the Space this runs in, "owner/name"; read from SPACE_ID
    oauth: bool = False  # a Space with `hf_oauth`: visitors can sign in with the Hub
    zero_gpu: bool = False  # a Space whose GPU belongs to its visitors' requests

    @property
    def db(self) -> Path:
        return self.home / "kdloop.db"

    @classmethod
    def from_environment(cls, **overrides) -> "Settings":
        """Defaults, then KDLOOP_* variables, then `overrides`. Raises ValueError naming the variable it cannot read."""
        settings, read = replace(cls(), **of_space()), {}
        for field in fields(cls):
            text = os.environ.get(f"KDLOOP_{field.name.upper()}")
            if text is not None:
                read[field.name] = parse(field.name, type(getattr(settings, field.name)), text)
        settings = replace(settings, **read, **overrides)
        return replace(settings, home=Path(settings.home).resolve())

    def as_environment(self) -> dict[str, str]:
        """What makes `from_environment` return these settings in another process."""
        return {f"KDLOOP_{f.name.upper()}": str(getattr(self, f.name)) for f in fields(self)}


def of_space() -> dict:
    """What a Hugging Face Space says about itself; nothing elsewhere."""
    there = os.environ
    if there.get("SYSTEM") != "spaces":
        return {}
    return {
        "host": "0.0.0.0",
        "space": there.get("SPACE_ID", ""),
        "admins": there.get("SPACE_AUTHOR_NAME", ""),
        "oauth": bool(there.get("OAUTH_CLIENT_ID")),
        "zero_gpu": there.get("SPACES_ZERO_GPU", "").lower() in TRUE,
    }


def parse(name: str, kind: type, text: str):
    try:
        if kind is bool:
            return text.lower() in TRUE
        return Path(text) if issubclass(kind, Path) else kind(text)
    except ValueError:
        raise ValueError(f"KDLOOP_{name.upper()}={text!r} is not a {kind.__name__}") from None
