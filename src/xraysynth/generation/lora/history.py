"""The history of a fine-tuning: one entry for every optimiser step."""

import math
from collections.abc import Sequence

HistoryEntry = dict[str, float]
"""Figures of a step: step, loss, grad_norm, lr and seconds, and val_loss where it was measured."""


def validated_entries(history: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Return the entries of steps after which the validation loss was measured."""
    return [entry for entry in history if "val_loss" in entry]


def lowest_validation_loss(history: Sequence[HistoryEntry]) -> float:
    """Return the lowest validation loss so far; infinity if none was measured."""
    losses = [entry["val_loss"] for entry in validated_entries(history)]
    return min(losses, default=math.inf)


def best_step(history: Sequence[HistoryEntry]) -> int:
    """Return the step with the lowest validation loss, the first of several.

    >>> best_step([{"step": 1, "val_loss": 0.3}, {"step": 2, "val_loss": 0.2}, {"step": 3}])
    2
    """
    best = min(validated_entries(history), key=_validation_loss)
    return int(best["step"])


def count_validations_after(history: Sequence[HistoryEntry], step: int) -> int:
    """Return how often the validation loss was measured after a step."""
    return sum(entry["step"] > step for entry in validated_entries(history))


def _validation_loss(entry: HistoryEntry) -> float:
    return entry["val_loss"]
