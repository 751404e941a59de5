"""Cards: a header that the Hub reads, and a text for people."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xraysynth import __version__
from xraysynth.release.licences import OTHER, Licence

TAGS = ["synthetic", "chest-x-ray", "radiology", "medical", "not-for-diagnosis", "xraysynth"]
NOT_MEASURED = "not measured"
_COPYING = ("memor", "auth", "c_t", "copying", "mif")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render(template: str, header: Mapping[str, Any], **values: Any) -> str:
    """A card: the header as YAML, then the template `<template>.md.j2`."""
    top = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    body = _environment().get_template(f"{template}.md.j2").render(version=__version__, **values)
    return f"---\n{top}---\n{body}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "figure": figure}
    return environment


def cell(value: Any) -> str:
    """A value that cannot break out of a table."""
    return " ".join(str(value).replace("|", "\\|").split())


def figure(value: Any) -> str:
    """Four significant digits; a dash for what is not known."""
    try:
        known = value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        known = False
    return f"{float(value):.4g}" if known else "–"


def licence_header(licence: Licence) -> dict[str, str]:
    """The Hub's fields for a licence: one it knows, or "other" with a name."""
    if licence.identifier != OTHER:
        return {"license": licence.identifier}
    name = licence.name if licence.given else "see-below"
    return {"license": OTHER, "license_name": "-".join(name.lower().split())}


def size_category(images: int) -> str:
    """The Hub's name for the size of a data set."""
    return next((name for limit, name in _SIZES if images < limit), "1M<n<10M")


def privacy(evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation says of copies: `reason` why there are no figures, or `rows` of them."""
    if not evaluated:
        return {"reason": NOT_MEASURED, "rows": []}
    if evaluated.get("assessable"):
        return {"reason": str(evaluated["assessable"]), "rows": []}
    rows = [row for row in evaluated.get("measures", []) if _says_copies(row)]
    return {"reason": "" if rows else NOT_MEASURED, "rows": rows}


def _says_copies(row: Mapping[str, Any]) -> bool:
    metric = str(row.get("metric", "")).lower()
    return not row.get("label") and any(word in metric for word in _COPYING)


def refused(refusals: Mapping[str, Mapping[str, Sequence[int]]]) -> list[dict[str, Any]]:
    """Refusals by prompt, most first, 20 at most."""
    found = [
        {"prompt": prompt, "refused": counts[0], "asked": counts[1]}
        for prompt, counts in refusals.get("prompt", {}).items()
    ]
    return found[:20]
