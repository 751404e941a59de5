"""Checks of the range of options."""

import difflib
from collections.abc import Iterable, Sequence

from xraysynth.errors import ConfigError


def require_within(group: str, recipe: object, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise ConfigError(f"{group}.{name} must lie in [{low}, {high}]; got {value}")


def require_at_least(group: str, recipe: object, **minima: float) -> None:
    for name, low in minima.items():
        if not getattr(recipe, name) >= low:
            raise ConfigError(f"{group}.{name} must be at least {low}; got {getattr(recipe, name)}")


def require_among(option: str, values: Iterable[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
            nearest = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{option} must be among {', '.join(known)}; got {value!r}{nearest}")
