"""Errors that name the argument, the rule, the value and the remedy."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints


class XraysynthError(Exception):
    """Base of every error a user can cause; the command line prints it without a traceback."""


class ConfigError(XraysynthError, ValueError):
    """Options that are unknown, missing, of the wrong type or out of range: one argument for each.

    A ValueError, so that pydantic goes on to the next option where a class of options raises it.

    >>> print(ConfigError("seed must be an integer; got 'x'", "there is no option 'sede'"))
    2 options are wrong:
      seed must be an integer; got 'x'
      there is no option 'sede'
    """

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])
        return "\n  ".join([f"{len(self.args)} options are wrong:", *self.args])


class DataNotFoundError(XraysynthError):
    """Data, weights or an optional package is not there; the message says where it was looked for."""


class ImageError(XraysynthError):
    """A file cannot be used as a radiograph."""


class ManifestError(XraysynthError):
    """A manifest breaks one of its guarantees."""


class LeakageError(XraysynthError):
    """Images or patients of one split would reach another."""


class ConfoundingError(XraysynthError):
    """A class can be told by its data source alone."""


class PoolError(XraysynthError):
    """A pool of generated images is missing, incomplete or damaged."""


class PrivacyError(XraysynthError):
    """Something of a protected data set would leave this machine."""


def some(values: Iterable[object], limit: int = 5) -> str:
    """The first few values as text, and how many more there are."""
    items = [str(value) for value in values]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def nearest(word: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    """The end of a sentence on an unknown word, where a known one is close.

    >>> nearest("sede", ["seed", "steps"])
    "; did you mean 'seed'?"
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def as_typed(value: object) -> str:
    """A value as it stands on the command line, texts with quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def unknown_option(name: str, siblings: Iterable[str]) -> str:
    """That there is no such option, and the nearest of those beside it, or all."""
    parent = name.rpartition(".")[0]
    known = [f"{parent}.{last}" if parent else last for last in siblings]
    return f"there is no option {name!r}{nearest(name, known) or '; there is ' + ', '.join(known)}"


def wrong_options(found: Iterable[Mapping[str, Any]], kind: Any, at: str) -> Iterator[str]:
    """What pydantic found in a class of options, in a sentence each, by the options' full names.

    `at` is where the class stands in the configuration: "trainer", "source.folder", or "".
    """
    for error in found:
        yield from _explained(error, kind, at)


def _explained(error: Mapping[str, Any], kind: Any, at: str) -> Iterator[str]:
    location, value = error["loc"], error["input"]
    if "[key]" in location:  # of a mapping whose keys are limited
        location = location[: location.index("[key]") - 1]
    name = ".".join(part for part in (at, *location) if part and isinstance(part, str))
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, ConfigError):
        yield from raised.args
    elif error["type"] == "unexpected_keyword_argument":
        owner, _ = _declared(kind, location[:-1])
        yield unknown_option(name, [field.name for field in fields(owner)])
    elif error["type"] == "missing":
        yield f"{name} must be given; add '{name}=…'"
    elif value != "???":  # Hydra's mark of what must be given, which says so itself
        rule, known = _rule(error, _declared(kind, location)[1])
        got = "" if known is None else f"; got {as_typed(value)}{nearest(str(value), known)}"
        yield f"{name} must {rule}{got}"


def _rule(error: Mapping[str, Any], marks: Iterable[Any]) -> tuple[str, Sequence[str] | None]:
    """What the value must do, and the words it is one of, if so; None for a value that is not shown."""
    details = error.get("ctx", {})
    known = re.findall(r"'([^']*)'", details.get("expected", ""))
    if isinstance(details.get("error"), ValueError):  # of a `records.Rule`
        words, known = details["error"].args
        return words, known
    if known:
        return f"be one of {', '.join(known)}", known
    if details.keys() & {"ge", "gt", "le", "lt"}:
        return _range(marks), ()
    if error["type"] == "too_short":  # of a `MinLen(1)`
        return "hold at least one value", ()
    rule = re.split(r", | or an instance", error["msg"].removeprefix("Input should "))[0]
    return rule.replace("tuple", "list"), ()


def _range(marks: Iterable[Any]) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    given = {
        name: getattr(mark, name)
        for mark in marks
        for name in words
        if getattr(mark, name, None) is not None
    }
    if len(given) == 1:
        return " ".join(f"be {words[name]} {bound}" for name, bound in given.items())
    low = f"[{given['ge']}" if "ge" in given else f"({given['gt']}"
    high = f"{given['le']}]" if "le" in given else f"{given['lt']})"
    return f"lie in {low}, {high}"


def _declared(kind: Any, location: Iterable[str | int]) -> tuple[Any, tuple[Any, ...]]:
    """The type of what lies at this place below a class of options, and what limits it."""
    for part in location:
        bare, _ = _unwrapped(kind)
        if is_dataclass(bare):
            kind = get_type_hints(bare, include_extras=True)[str(part)]
        else:  # a list, or a mapping
            kind = get_args(bare)[0 if isinstance(part, int) else -1]
    return _unwrapped(kind)


def _unwrapped(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type that may be annotated, or be None instead, and its annotations."""
    if type(None) in get_args(kind):
        kind = get_args(kind)[0]
    marks = getattr(kind, "__metadata__", ())
    return (kind.__origin__ if marks else kind), marks
