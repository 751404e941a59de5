"""Numbers as text: true minus signs, few decimals, a dash for what is not known."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape

MINUS, UNKNOWN_TEXT = "\u2212", "\u2013"


def format_number(value: Any, digits: int = 3) -> str:
    """Returns a number with `digits` decimals and a true minus sign; a dash if it is not known.

    Args:
        value: The number; None, NaN and pandas' NA are not known.
        digits: Number of decimals.
    """
    if not is_finite(value):
        return UNKNOWN_TEXT
    text = f"{float(value):.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def format_signed(value: Any, digits: int = 3) -> str:
    """Returns a number as `format_number` does, with a plus sign if it is above zero."""
    text = format_number(value, digits)
    return f"+{text}" if is_finite(value) and float(value) > 0 else text


def format_percent(value: Any) -> str:
    """Returns a fraction as a whole percentage; a dash if it is not known."""
    return f"{float(value):.0%}" if is_finite(value) else UNKNOWN_TEXT


def format_duration(seconds: Any) -> str:
    """Returns seconds as a duration: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if not is_finite(seconds):
        return UNKNOWN_TEXT
    value = float(seconds)
    if value < 10:
        return f"{format_significant(value, 2)} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_quantity(value: Any, unit: str) -> str:
    """Returns a number with its unit; "∞" for infinity and a dash if it is not known.

    Args:
        value: The number, in `unit`.
        unit: One of s, USD, kWh, MB, share (a fraction), count, F1 (a signed difference), or "" for none.

    >>> format_quantity(0.00123, "USD"), format_quantity(0.00004, "kWh"), format_quantity(1325.1, "MB")
    ('$0.0012', '0.0400 Wh', '1.33 GB')
    """
    if isinstance(value, float) and math.isinf(value):
        return "∞"
    if not is_finite(value):
        return UNKNOWN_TEXT
    amount = float(value)
    if unit in _FORMATTERS:
        return _FORMATTERS[unit](amount)
    if unit == "kWh" and amount < 1:
        return f"{format_significant(amount * 1000)} Wh"
    if unit == "MB" and amount >= 1000:
        return f"{format_significant(amount / 1000)} GB"
    if unit in ("kWh", "MB"):
        return f"{format_significant(amount)} {unit}"
    return f"{amount:,.0f}"


def format_dollars(value: float) -> str:
    """Returns dollars with cents, or with two significant figures below one dollar: $12.40, $0.0021."""
    return f"${value:,.2f}" if value >= 1 else f"${format_significant(value, 2)}"


def format_significant(value: float, figures: int = 3) -> str:
    """Returns a number with at least `figures` significant figures and no exponent: 1,234, 12.3, 0.00123.

    Args:
        value: The number.
        figures: Least number of significant figures.
    """
    if not value:
        return "0"
    digits = max(0, figures - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", MINUS)


_FORMATTERS: Mapping[str, Callable[[float], str]] = {
    "s": format_duration,
    "share": format_percent,
    "F1": format_signed,
    "USD": format_dollars,
    "": format_significant,
}
"""How numbers of a unit are formatted whatever their size."""


def format_signed_or_infinite(value: Any) -> str:
    """Returns a signed number with two decimals; "+∞" or "−∞" where it lies beyond what was measured."""
    if isinstance(value, float) and math.isinf(value):
        return "+∞" if value > 0 else f"{MINUS}∞"
    return format_signed(value, 2)


def add_word_breaks(name: str) -> Markup:
    """Returns a name, escaped, with places after its underscores where a line may break."""
    return escape(name).replace("_", Markup("_<wbr>"))


def format_count(amount: int, noun: str) -> str:
    """Returns a number with a noun in the singular or plural: 1 seed, 2 seeds."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def format_distance(value: Any, scale: Any) -> str:
    """Returns a distance with as many decimals as suit the size of `scale`.

    Args:
        value: The distance, or an end of its interval.
        scale: The distance that decides the number of decimals.
    """
    magnitude = abs(float(scale)) if is_finite(scale) else 1.0
    return format_number(value, 1 if magnitude >= 10 else 3 if magnitude >= 0.1 else 5)


def is_finite(value: Any) -> bool:
    """Returns whether a value is a finite number; None, text and pandas' NA are not."""
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):  # pandas' NA among them
        return False
