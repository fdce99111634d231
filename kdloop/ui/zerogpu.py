"""On a ZeroGPU Space: a visitor may give some of their daily GPU quota, to their own replies and to the student's
training. Nothing is taken without their tick; where the Hub lends no GPU, the CPU does it, and the page says so."""

import html
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.events import Dependency

from kdloop.chat.chosen import Chosen
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student import Engine
from kdloop.student.serving import Serving
from kdloop.ui import gpu_calls
from kdloop.ui.session import IN_ORDER, PRIVATE, REFUSED, named, paced, person, refusal
from kdloop.ui.words import t, tell
from storage import checkpoints
from storage.checkpoints import BrokenCheckpoint, Checkpoint
from storage.rounds import RoundRunning

QUOTA = (
    "This Space has no GPU of its own: the Hub lends one to visitors, by seconds of their daily quota, and may count a "
    "second as one and a half. Untick, and the CPU does it, more slowly."
)
REPLIES = "Write my answers on a GPU: some seconds of my quota each, 60 at most"
ROUNDS = "When my vote starts a round, train on a GPU: up to 60 s of my quota"
TRAIN = "Train now: up to 60 s of my GPU quota"
NO_GPU = "No GPU was lent ({why}). The CPU goes on, and nothing is lost"
A_PART = "A part of the round is done on your quota. The CPU goes on with it; another click takes the next part"
ENDED = "The round has come to its end: see the Rounds tab"


def build(settings: Settings, supervisor: Supervisor, state: gr.State, voted: list[Dependency]) -> None:
    """`voted` are the events after which a round may be due. Elsewhere than on ZeroGPU there is nothing to show."""
    if not settings.zero_gpu:
        return
    with gr.Accordion(t("Your GPU quota"), open=False, elem_id="gpu"):
        gr.Markdown(t(QUOTA), elem_classes="kd-head")
        replies = gr.Checkbox(False, label=t(REPLIES))
        training = gr.Checkbox(False, label=t(ROUNDS))
        train = gr.Button(t(TRAIN), size="sm")
    for box, kind in ((replies, "replies"), (training, "rounds")):
        box.input(named(partial(agree, kind), f"agree_{kind}"), [box, state], None, **IN_ORDER)
    once = {"concurrency_id": "gpu", "concurrency_limit": 1, **PRIVATE}
    train.click(named(partial(train_a_part, settings, supervisor), "train_a_part"), state, None, **once)
    after_vote = named(partial(train_if_agreed, settings, supervisor), "train_if_agreed")
    for event in voted:
        event.then(after_vote, state, None, **once)


def agree(kind: str, ticked: bool, state: dict) -> None:
    """What a visitor's quota may be used for is theirs to say, and forgotten when they leave."""
    person(state)
    state["quota"] = {**state.get("quota", {}), kind: ticked is True}


def agreed(kind: str, state: dict) -> bool:
    return bool(state.get("quota", {}).get(kind))


def train_if_agreed(settings: Settings, supervisor: Supervisor, state: dict) -> None:
    """After a vote: it starts a part where it has made a round due, on the quota of who has agreed to it."""
    if agreed("rounds", state) and supervisor.starts_by_votes():
        train_a_part(settings, supervisor, state)


def train_a_part(settings: Settings, supervisor: Supervisor, state: dict) -> None:
    """A click on the button that names the seconds, or a vote of somebody who has agreed."""
    paced(settings, state, "parts of rounds")
    try:
        with supervisor.lent() as round:
            ended = gpu_calls.calls().train(settings, round.id)
    except gpu_calls.NO_GPU as error:
        tell_why(error)
    except (RoundRunning, *REFUSED) as error:
        raise refusal(error) from error
    else:
        gr.Info(tell(ENDED if ended else A_PART))


def why(error: Exception) -> str:
    """What `spaces` says, without its HTML."""
    return html.escape(str(error).strip("'").rstrip("."))


class OnQuota:
    """The champion (kdloop.student.serving.Serving), or what was chosen, for the replies of somebody who has agreed."""

    def __init__(self, settings: Settings, serving: Serving | Chosen):
        self.settings, self.serving = settings, serving

    def current(self) -> tuple[Engine, Checkpoint]:
        return self.lent(*self.serving.current())

    def beside(self, checkpoint: Checkpoint) -> tuple[Engine, Checkpoint]:
        """Of a trial."""
        return self.lent(*self.serving.beside(checkpoint))

    def lent(self, engine: Engine, checkpoint: Checkpoint) -> tuple[Engine, Checkpoint]:
        try:
            adapter: Path | None = checkpoints.adapter_dir(self.settings.db, checkpoint)
        except BrokenCheckpoint:  # what is in memory here cannot be loaded there
            return engine, checkpoint
        return gpu_calls.LentGpu(self.settings, engine, adapter, tell_why), checkpoint


def tell_why(error: Exception) -> None:
    gr.Warning(tell(NO_GPU, why=why(error)))


def champion(settings: Settings, serving: Serving | Chosen, state: dict) -> Serving | Chosen | OnQuota:
    """Who writes this visitor's replies, and where."""
    return OnQuota(settings, serving) if settings.zero_gpu and agreed("replies", state) else serving
