"""Ages as tables and DICOM files write them."""

import re

_YEARS_PER_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def parse_age_years(text: str) -> float | None:
    """Return the years of an age such as `045Y`, `018M`, `45`, `45.5` or `45,5`; None for other text.

    >>> parse_age_years("058Y"), parse_age_years("61,5"), parse_age_years("018M"), parse_age_years("old")
    (58.0, 61.5, 1.5, None)
    """
    match = re.fullmatch(r"(\d+(?:[.,]\d*)?)\s*([YMWD]?)", text.strip().upper())
    if not match:
        return None
    years = float(match[1].replace(",", ".")) * _YEARS_PER_UNIT[match[2] or "Y"]
    return round(years, 2) if match[2] else years
