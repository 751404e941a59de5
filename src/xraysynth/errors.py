"""Errors that name the argument, the rule, the value and the remedy."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints


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


def format_some(values: Iterable[object], limit: int = 5) -> str:
    """The first few values as text, and how many more there are."""
    items = [str(value) for value in values]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """The end of a sentence on an unknown word, where a known one is close.

    >>> did_you_mean("sede", ["seed", "steps"])
    "; did you mean 'seed'?"
    """
    import difflib

    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def format_unknown_option(name: str, siblings: Iterable[str]) -> str:
    """That there is no such option, and the nearest of those beside it, or all."""
    parent = name.rpartition(".")[0]
    known = [f"{parent}.{last}" if parent else last for last in siblings]
    return f"there is no option {name!r}{did_you_mean(name, known) or '; there is ' + ', '.join(known)}"


def format_option_errors(
    errors: Iterable[Mapping[str, Any]], options_class: Any, section: str
) -> Iterator[str]:
    """What pydantic found in a class of options, in a sentence each, by the options' full names.

    `at` is where the class stands in the configuration: "trainer", "source.folder", or "".
    """
    for error in errors:
        value, raised = error["input"], error.get("ctx", {}).get("error")
        path = error["loc"][:-2] if error["loc"][-1] == "[key]" else error["loc"]
        parts = [part for part in path if isinstance(part, str)]
        name = ".".join([section, *parts] if section else parts)
        if isinstance(raised, ConfigError):
            yield from raised.args
        elif error["type"] == "unexpected_keyword_argument":
            yield format_unknown_option(name, _option_names(options_class, parts[:-1]))
        elif error["type"] == "missing":
            yield f"{name} must be given; add '{name}=…'"
        elif value != "???":  # Hydra's mark of what must be given, which says so itself
            rule, known = raised.args if raised else _rule_and_choices(error)
            got = "" if known is None else f"; got {value!r}{did_you_mean(str(value), known)}"
            yield f"{name} must {rule}{got}"


def _option_names(options_class: Any, path: Iterable[str]) -> list[str]:
    """The options of a section below a class of options."""
    for part in path:
        options_class = get_type_hints(options_class)[part]
    return [field.name for field in fields(options_class)]


def _rule_and_choices(error: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """What a value of the wrong type must be, and the words it is one of, if so."""
    known = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    words = re.split(r", | or an instance", error["msg"].removeprefix("Input should "))[0]
    return (f"be one of {', '.join(known)}" if known else words.replace("tuple", "list")), known
