"""What a fine-tuning that was killed goes on from: one safetensors file, seen whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from xraysynth.errors import XraysynthError
from xraysynth.generation.lora.latents import read_tensors, write_tensors
from xraysynth.records import JsonObject

CHECKPOINT = "checkpoint.safetensors"

HistoryEntry = dict[str, float]
"""A step of the history: step, loss, grad_norm, lr and seconds, and val_loss where it was measured."""


@dataclass(frozen=True)
class LearnerState:
    """Weights, averages and optimiser: tensors and numbers by name; `scaler` is that of fp16."""

    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, float]
    scaler: JsonObject | None


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps; `identity` stands for its recipe, data and model.

    `seconds` are all of it, `stepping` those of the steps alone; `best` are the weights of the best
    validation loss, none where they are not kept.
    """

    identity: str
    step: int
    history: list[HistoryEntry]
    seconds: float
    stepping: float
    learner: LearnerState
    best_weights: Sequence[Tensor]

    def write(self, folder: Path) -> None:
        """Write it in place of an earlier one."""
        best = {f"best.{i}": weight for i, weight in enumerate(self.best_weights)}
        facts = {
            "identity": self.identity,
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "stepping": self.stepping,
            "learner": {"optimizer": dict(self.learner.optimizer), "scaler": self.learner.scaler},
        }
        write_tensors(folder / CHECKPOINT, {**self.learner.tensors, **best}, facts)

    @classmethod
    def read(cls, folder: Path, *, identity: str) -> "Checkpoint | None":
        """The checkpoint in a folder, if there is one; refuses a damaged one and another training's."""
        path = folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            tensors, facts = read_tensors(path)
        except XraysynthError as error:
            raise XraysynthError(f"{error}; delete it to start over") from error
        if facts["identity"] != identity:
            raise XraysynthError(
                f"{path} is a checkpoint of another recipe, other data or another model; "
                "delete it to start over, or train in another folder"
            )
        names = [name for name in tensors if name.startswith("best.")]
        best = [tensors.pop(f"best.{i}") for i in range(len(names))]
        learner = LearnerState(tensors, **facts.pop("learner"))
        return cls(**facts, learner=learner, best_weights=best)
