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
LOCAL = ("127.0.0.1", "localhost", "::1")
FALSE = ("0", "f", "false", "no", "off")
BYTE_ORDER_MARK = "\ufeff"  # which some editors put at the beginning of a .env file


@dataclass(frozen=True)
class Settings:
    home: Path = Path("data")  # the database, the checkpoints, the converted student
    student: str = ""  # a Hub name or a model directory; "" = SmolLM2-135M-Instruct, embedded or from the Hub
    bits: int = 16  # of a weight in memory: 4 where 16 do not fit (NF4 by bitsandbytes; rounds are QLoRA then), or 16
    engine: str = ""  # of chats: transformers, llamacpp or openai; "" = llamacpp on a CPU, if it has the weights
    engine_url: str = ""  # of `openai`: http://HOST:PORT/v1 of a vLLM, SGLang or llama-server that serves the student
    engine_key_file: str = ""  # holds that server's key; "" = it wants none
    engine_at_once: int = 64  # completions that app and round each ask of this server at a time; other replies wait
    host: str = "127.0.0.1"  # where the page is served; 0.0.0.0 lets other machines in
    port: int = 7860  # of the page
    thinking: str = "auto"  # the student's thoughts: on, off, or auto: off where its template has a switch
    max_tokens: int = 256  # of a chat completion, at most, its thought included
    round_max_tokens: int = 96  # of a completion that a round or a simulation samples, at most
    context_tokens: int = 2048  # of prompt and completion together; of longer chats the beginning is left out
    round_votes: int = 36  # a round starts after this many new votes; 0 = only by hand
    idle_minutes: float = 0.0  # also start one after this long without a chat turn, if there is a new vote; 0 = never
    method: str = "auto"  # of rounds: one of docs/methods.md; auto chooses by what the feedback holds
    teachers: str = ""  # a TOML file of [[teacher]] tables (docs/teachers.md); "" = none: nothing leaves this machine
    delegate_below: float = 0.0  # a teacher answers where the student's calibrated confidence is lower; 0 = never
    teacher_models: str = ""  # directories or Hub names, by commas, of white-box teachers; "" = the untrained student
    bake: str = ""  # what `bake` turns into weights: a system prompt; lines with User: and Assistant: begin turns
    gate_prompts: int = 64  # held-out prompts on which candidate and champion are compared, twice if need be
    processes: int = 0  # that train a round together, one a GPU; 0 = one for each GPU that there is, on a CPU one
    hindsight: str = (
        "off"  # on: rounds may learn from what people write next, of those who allow it (docs/knowledge.md)
    )
    promotion: str = "trial"  # trial: what passes answers while people confirm it; confirm: once they have; judge
    round_timeout_minutes: float = 60.0  # of a round's own time; pauses for chats do not count
    log: str = "text"  # of the app and its rounds: text, a sentence a line, or json, an object a line, for collectors
    snapshots: str = ""  # a folder, or hf://datasets/OWNER/NAME: a snapshot after every round and at the end; "" = none
    compare_every: int = 6  # every n-th chat message of a person gets two completions to choose from; 0 = never
    messages_a_minute: int = 20  # of one person, at most; four times as many from one address
    votes_a_minute: int = 60  # the same for votes
    notice: str = ""  # the owner's own words above the tabs, beside what is said of where people's words are kept
    admin_token: str = ""  # signs the owner in where the page is not on this machine only
    admins: str = ""  # on a Space: Hub user names, comma-separated, who are owners once they sign in; there: its author
    space: str = ""  # the Space this runs in, "owner/name"; read from SPACE_ID
    oauth: bool = False  # a Space with `hf_oauth`: visitors can sign in with the Hub
    zero_gpu: bool = False  # a Space whose GPU is lent to visitors' requests
    flags: tuple[str, ...] = ()  # names of the settings that a flag has set: nothing on the page changes them

    @property
    def db(self) -> Path:
        return self.home / "kdloop.db"

    @property
    def shared(self) -> bool:
        """Can others than the owner open the page? Where not, whoever sits at this computer is the owner."""
        return self.host not in LOCAL or bool(self.admin_token)

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
FLAGS: dict[str, str] = {}  # name -> text, of the command that is running
PATH_SETTINGS = (
    "home",
    "student",
    "engine_key_file",
    "teachers",
    "teacher_models",
    "snapshots",
)  # ~ is expanded in them
RANGES: dict[str, tuple[float, float]] = {  # (least, most); a number without a range here is 0 or more
    "bits": (4, 16),
    "engine_at_once": (1, math.inf),
    "port": (0, 65535),
    "max_tokens": (1, math.inf),
    "round_max_tokens": (1, math.inf),
    "context_tokens": (1, math.inf),
    "delegate_below": (0, 1),
    "gate_prompts": (1, math.inf),
}


OPTIONS = {
    "promotion": ("trial", "confirm", "judge"),
    "thinking": ("auto", "on", "off"),
    "log": ("text", "json"),
    "hindsight": ("off", "on"),
}  # words


@contextmanager
def flags_are(given: dict[str, str]) -> Iterator[None]:
    """Within the block, `from_environment` prefers these texts, by setting name, to the variables."""
    before = dict(FLAGS)
    FLAGS.update(given)
    try:
        yield
    finally:
        FLAGS.clear()
        FLAGS.update(before)


def variable(name: str) -> str:
    return f"KDLOOP_{name.upper()}"


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def environment() -> dict[str, str]:
    """Variables that are not empty, without the byte order mark and white space that editors leave around them."""
    stripped = ((k.lstrip(BYTE_ORDER_MARK), v.strip(BYTE_ORDER_MARK + " \t\r\n")) for k, v in os.environ.items())
    return {name: text for name, text in stripped if text}


def of_child() -> dict[str, str]:
    """The environment of a child process that runs a module of this project, from whatever directory the app was
    started; modules on the caller's PYTHONPATH are found as well."""
    ours, theirs = str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{ours}{os.pathsep}{theirs}" if theirs else ours}


def visible_gpus(count: int) -> list[str]:
    """CUDA's names of the `count` GPUs that this process sees."""
    named = environment().get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def space_settings() -> dict:
    """What a Hugging Face Space says about itself; {} elsewhere."""
    variables = environment()
    if variables.get("SYSTEM") != "spaces":
        return {}
    return {
        "host": "0.0.0.0",
        "space": variables.get("SPACE_ID", ""),
        "admins": variables.get("SPACE_AUTHOR_NAME", ""),
        "oauth": bool(variables.get("OAUTH_CLIENT_ID")),
        "zero_gpu": variables.get("SPACES_ZERO_GPU", "").lower() in TRUE,
    }


CHANGEABLE: dict[str, tuple[float, float]] = {  # (least, most) of a number, or of a text's length in characters
    "round_votes": (0, 10_000),
    "idle_minutes": (0, 10_080),
    "compare_every": (0, 1000),
    "promotion": (0, 10),
    "hindsight": (0, 10),
    "gate_prompts": (24, 512),  # of fewer, hardly ever MIN_DECIDED (gate/verdict.py) are decided
    "round_timeout_minutes": (1, 1440),
    "max_tokens": (16, 1024),
    "round_max_tokens": (16, 512),
    "delegate_below": (0, 1),
    "messages_a_minute": (1, 600),
    "votes_a_minute": (1, 600),
    "notice": (0, 1000),
}


def current(settings: Settings) -> Settings:
    """The settings with what owners have changed on the page. Ask where a value is used, not when the app starts."""
    set_by_owner = {k: v for k, v in choices.chosen(settings.db).items() if k in CHANGEABLE}
    free = {k: v for k, v in set_by_owner.items() if not fixed_by(settings, k)}
    return replace(settings, **{k: parse(k, v) for k, v in free.items()})


def change(settings: Settings, values: dict[str, object], who: str) -> list[str]:
    """Set these values, or reset where one is None; the names of the settings that changed. Raises ValueError for the
    first that is not allowed: then nothing has changed."""
    before, now, new = choices.chosen(settings.db), current(settings), {}
    for name, value in values.items():
        if (name in CHANGEABLE and value == getattr(now, name)) or (value is None and name not in before):
            continue
        if by := fixed_by(settings, name):
            where = "with the app's start" if name in settings.flags else "in the environment"
            raise ValueError(f"{by} is set {where}, which wins: change it there")
        new[name] = None if value is None else str(validate(settings, name, value))
    if new:
        choices.choose(settings.db, new, who)
    return list(new)


def validate(settings: Settings, name: str, value: object):
    """The value in the setting's type. Raises ValueError saying what is allowed."""
    if name not in CHANGEABLE:
        raise ValueError(f"{name} cannot be changed while the app runs")
    (least, most), shown = CHANGEABLE[name], name.replace("_", " ")
    if kind(name) is str:
        if len(text := str(value).replace("\0", "").strip()) > most:  # no environment holds a zero byte
            raise ValueError(f"{shown}: {len(text)} characters; at most {most}")
        if name in OPTIONS and text not in OPTIONS[name]:
            raise ValueError(f"{shown}: {text!r}; one of {', '.join(OPTIONS[name])}")
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


def fixed_by(settings: Settings, name: str) -> str:
    """The flag or the variable that sets this setting, so that the page cannot; "" for neither."""
    if name in settings.flags:
        return flag(name)
    return variable(name) if variable(name) in environment() else ""


def kind(name: str) -> type:
    return type(getattr(Settings, name))


def parse(name: str, text: str, by: str = ""):
    """The text as a value of the setting's type. Raises ValueError naming the flag or variable `by` which it came."""
    by = by or variable(name)
    try:
        value = CONVERTERS[kind(name)](name, text)
    except (ValueError, OverflowError):
        raise ValueError(f"{by}={text!r} is not {TYPE_NAMES[kind(name)]}") from None
    except (RuntimeError, OSError) as error:  # ~NAME of no user here; a name longer than the file system allows
        raise ValueError(f"{by}={text!r}: {error}") from None
    if name in OPTIONS and value not in OPTIONS[name]:
        raise ValueError(f"{by}={text!r}: one of {', '.join(OPTIONS[name])}")
    if isinstance(value, int | float):
        least, most = RANGES.get(name, (0, math.inf))
        if not least <= value <= most:
            bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ValueError(f"{by}={text!r}: give a number {bounds}")
    return value


def number(name: str, text: str) -> float:
    if not math.isfinite(value := kind(name)(text)):
        raise ValueError
    return value


def boolean(name: str, text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError
    return text.lower() in TRUE


def string(name: str, text: str) -> str:
    return ",".join(map(expanded, text.split(","))) if name in PATH_SETTINGS else text


def expanded(text: str) -> str:
    """An absolute path where the text begins with ~ or a dot, or names something that is there; else, as it may be a
    model or a dataset of the Hub, the text itself."""
    path = Path(text).expanduser()
    return os.path.abspath(path) if text.startswith(("~", ".")) or (text and path.exists()) else text


def path(name: str, text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text).expanduser()


CONVERTERS = {int: number, float: number, bool: boolean, str: string, type(Path()): path}
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "yes or no", str: "a text", type(Path()): "a path"}
