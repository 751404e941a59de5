"""Numbers as a reader sees them: true minus signs, few decimals, a dash for what is not known."""

import math
from typing import Any

MINUS, UNKNOWN = "\u2212", "\u2013"


def number(value: Any, digits: int = 3) -> str:
    """Fixed decimals with a true minus sign; a dash for what is not known."""
    if not known(value):
        return UNKNOWN
    text = f"{float(value):.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def signed(value: Any, digits: int = 3) -> str:
    """`number` with a plus sign before what is above zero."""
    text = number(value, digits)
    return f"+{text}" if known(value) and float(value) > 0 else text


def percent(value: Any) -> str:
    """A fraction as a whole percentage."""
    return f"{float(value):.0%}" if known(value) else UNKNOWN


def duration(seconds: Any) -> str:
    """Seconds as a person reads them: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if not known(seconds):
        return UNKNOWN
    value = float(seconds)
    if value < 10:
        return f"{value:.2g} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def of_kind(value: Any, kind: str) -> str:
    """A cell of the ledger: `text`, `time` in seconds, `count` with thousands, or `number`."""
    if kind == "text":
        return UNKNOWN if value is None else str(value)
    if kind == "time":
        return duration(value)
    if kind == "count":
        return f"{float(value):,.0f}" if known(value) else UNKNOWN
    return f"{float(value):.3g}" if known(value) else UNKNOWN


def measured(value: Any, size: Any) -> str:
    """A distance with as many decimals as suit its `size`."""
    magnitude = abs(float(size)) if known(size) else 1.0
    return number(value, 1 if magnitude >= 10 else 3 if magnitude >= 0.1 else 5)


def known(value: Any) -> bool:
    """Whether it is a number."""
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):  # pandas' NA among them
        return False
