"""Options as plain values, and checks of their range."""

from dataclasses import asdict
from enum import Enum
from typing import Any

from xraysynth.errors import ConfigError


def plain(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe as plain values, enums as text: fit for JSON and checkpoints."""
    values = asdict(recipe)
    return {name: v.value if isinstance(v, Enum) else v for name, v in values.items()}


def require_within(group: str, recipe: object, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise ConfigError(f"{group}.{name} must lie in [{low}, {high}]; got {value}")


def require_at_least(group: str, recipe: object, **minima: float) -> None:
    for name, low in minima.items():
        if not getattr(recipe, name) >= low:
            raise ConfigError(f"{group}.{name} must be at least {low}; got {getattr(recipe, name)}")
