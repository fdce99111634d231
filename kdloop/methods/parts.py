"""A training in parts: where the time of a part is up it is saved after a step, and the next part goes on from there.

What is saved is transformers' own checkpoint (adapter, optimizer, schedule, random state, logs) and the directions that
early stopping compares. Two parts give the adapter of one: tests/methods/test_parts.py.
"""

from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback

from kdloop.student.journal import Journal, OutOfTime
from storage import files

FOLDER, BESIDE = "training", "beside.pt"


class Parts(TrainerCallback):
    """`on_step` (lora.OnStep) may have `directions`, a list of tensors (step_size.DirectionEarlyStopping)."""

    def __init__(self, trainer: Trainer, on_step, journal: Journal):
        self.trainer, self.on_step, self.journal = trainer, on_step, journal

    def on_log(self, args, state, control, logs=None, **kwargs):
        """After a step, once StepCallback has been told. Raises OutOfTime."""
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if "loss" in (logs or {}) and self.journal.is_over and not ends:
            with files.whole(self.journal.folder / FOLDER) as partial:
                self.save(partial)
            raise OutOfTime(f"The time of this part is up at step {state.global_step} of {state.max_steps}")

    def save(self, folder: Path) -> None:
        folder.mkdir()
        self.trainer.args.output_dir = str(folder)
        Trainer._save_checkpoint(self.trainer, self.trainer.model, None)  # TRL's writes a model card, too
        beside = {"directions": [d.cpu() for d in self.directions], "on a GPU": torch.cuda.is_available()}
        torch.save(beside, folder / BESIDE)

    def resume(self) -> str | None:
        """The checkpoint of the part before, if there is one; early stopping is as it was then."""
        folder = self.journal.folder / FOLDER
        checkpoint = next(folder.glob("checkpoint-*"), None)
        if checkpoint:
            beside = torch.load(folder / BESIDE)
            device = next(self.trainer.model.parameters()).device
            self.directions[:] = [d.to(device) for d in beside["directions"]]
            if beside["on a GPU"] != torch.cuda.is_available():  # another device's random state is of no use
                (checkpoint / "rng_state.pth").unlink(missing_ok=True)
        return str(checkpoint) if checkpoint else None

    @property
    def directions(self) -> list[torch.Tensor]:
        return getattr(self.on_step, "directions", [])
