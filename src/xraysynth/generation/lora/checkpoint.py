"""Checkpoints, from which a killed fine-tuning resumes: one safetensors file, written atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from xraysynth.errors import XraysynthError
from xraysynth.generation.lora.history import HistoryEntry
from xraysynth.generation.lora.tensor_files import read_tensors, write_tensors
from xraysynth.records import JsonObject

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class LearnerState:
    """State of a `Learner` between two steps.

    Attributes:
        tensors: LoRA weights, their moving averages and the optimiser's tensors, by name.
        optimizer: Numbers of the optimiser's state, by name.
        scaler: State of the gradient scaler of fp16; None in other number formats.
    """

    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, float]
    scaler: JsonObject | None


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` optimiser steps.

    Attributes:
        identity: Digest of the recipe, the data and the model that the training belongs to.
        step: Number of steps taken.
        history: One entry for every step.
        seconds: Duration of the training so far, validation and checkpoints included.
        step_seconds: Duration of the optimiser steps alone.
        learner: Weights and optimiser state.
        best_weights: Weights with the lowest validation loss; empty without early stopping.
    """

    identity: str
    step: int
    history: list[HistoryEntry]
    seconds: float
    step_seconds: float
    learner: LearnerState
    best_weights: Sequence[Tensor]

    def write(self, folder: Path) -> None:
        """Write the checkpoint to `folder`, in the place of an earlier one."""
        tensors = dict(self.learner.tensors)
        for number, weight in enumerate(self.best_weights):
            tensors[f"best.{number}"] = weight
        metadata = {
            "identity": self.identity,
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "stepping": self.step_seconds,
            "learner": {"optimizer": dict(self.learner.optimizer), "scaler": self.learner.scaler},
        }
        write_tensors(folder / CHECKPOINT, tensors, metadata)

    @classmethod
    def read(cls, folder: Path, *, identity: str) -> "Checkpoint | None":
        """Read the checkpoint in a folder.

        Args:
            folder: Folder of the training.
            identity: Digest of the recipe, the data and the model of this training.

        Returns:
            The checkpoint; None if there is none yet.

        Raises:
            XraysynthError: If the file is damaged or belongs to another training.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            tensors, metadata = read_tensors(path)
        except XraysynthError as error:
            raise XraysynthError(f"{error}; delete it to start over") from error
        if metadata["identity"] != identity:
            raise XraysynthError(
                f"{path} is a checkpoint of another recipe, other data or another model; "
                "delete it to start over, or train in another folder"
            )
        best_weights = _pop_best_weights(tensors)
        return cls(
            identity=identity,
            step=metadata["step"],
            history=metadata["history"],
            seconds=metadata["seconds"],
            step_seconds=metadata["stepping"],
            learner=LearnerState(tensors, **metadata["learner"]),
            best_weights=best_weights,
        )


def _pop_best_weights(tensors: dict[str, Tensor]) -> list[Tensor]:
    """Remove the tensors `best.0`, `best.1`, … from the mapping, and return them in that order."""
    best_weights: list[Tensor] = []
    while f"best.{len(best_weights)}" in tensors:
        best_weights.append(tensors.pop(f"best.{len(best_weights)}"))
    return best_weights
