"""Errors, whose messages name the argument, the rule, the value and the remedy."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints


class XraysynthError(Exception):
    """Base of every error that a user can cause; the command line prints it without a traceback."""


class ConfigError(XraysynthError, ValueError):
    """Options are unknown, missing, of the wrong type or against their rule; one argument for each.

    It is a ValueError, so that pydantic continues with the next option after a class raises it.

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
    """Data, weights or an optional package is missing; the message says where it was looked for."""


class ArchiveError(XraysynthError):
    """An archive is damaged, or would write where it must not, or more than it may."""


class DamagedArchiveError(ArchiveError):
    """An archive breaks off, or is damaged, or no archive at all."""


class DownloadError(DataNotFoundError):
    """Data could not be downloaded; the message names the reason of each server."""


class ImageError(XraysynthError):
    """A file cannot be used as a radiograph."""


class ManifestError(XraysynthError):
    """A manifest breaks one of its guarantees."""


class LeakageError(XraysynthError):
    """Images or patients of one split would reach another."""


class ConfoundingError(XraysynthError):
    """The data source alone predicts a class."""


class PoolError(XraysynthError):
    """A pool of generated images is missing, incomplete or damaged."""


class DamageError(XraysynthError):
    """A file of finished work is altered, cut short or unreadable; the message says what to do."""


class DamagedPoolError(PoolError, DamageError):
    """Images of a pool or cohort differ from their SHA-256, or are missing."""


class PrivacyError(XraysynthError):
    """Private data would leave this machine: images, identifiers, paths or secrets."""


def format_some(values: Iterable[object], limit: int = 5) -> str:
    """Format the first values as text, and the number of the others.

    >>> format_some(range(9), limit=3)
    '0, 1, 2 and 6 more'
    """
    texts = list(map(str, values))
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return the end of a sentence on an unknown word that names the nearest choice; "" if none is near.

    >>> did_you_mean("sede", ["seed", "steps"])
    "; did you mean 'seed'?"
    """
    import difflib

    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def format_unknown_option(name: str, siblings: Iterable[str]) -> str:
    """Write the error on an unknown option, with the nearest option of its section, or all of them.

    Args:
        name: Full name of the unknown option.
        siblings: Names of the options of the same section, without the section.
    """
    section = name.rpartition(".")[0]
    options = [f"{section}.{sibling}" if section else sibling for sibling in siblings]
    hint = did_you_mean(name, options) or f"; choose one of {', '.join(options)}"
    return f"there is no option {name!r}{hint}"


def format_option_errors(
    errors: Iterable[Mapping[str, Any]], options_class: Any, section: str
) -> Iterator[str]:
    """Write pydantic's errors on a class of options as sentences with the options' full names.

    Args:
        errors: The errors of a pydantic `ValidationError`.
        options_class: The dataclass of the options.
        section: Section of the class in the configuration: "trainer", "source.folder", or "".

    Yields:
        One sentence or more per error. A missing value of Hydra ("???") yields none, as Hydra reports
        it.
    """
    for error in errors:
        path = _option_path(error["loc"])
        name = ".".join([section, *path] if section else path)
        raised = error.get("ctx", {}).get("error")
        if isinstance(raised, ConfigError):
            yield from raised.args
        elif error["type"] == "unexpected_keyword_argument":
            yield format_unknown_option(name, _option_names(options_class, path[:-1]))
        elif error["type"] == "missing":
            yield f"{name} must be given; add '{name}=…'"
        elif error["input"] != "???":
            rule, choices = raised.args if raised else _rule_and_choices(error)
            yield f"{name} must {rule}{_format_value(error['input'], choices)}"


def _option_path(location: Sequence[str | int]) -> list[str]:
    """The names in pydantic's location of an error, without positions in lists."""
    if location[-1] == "[key]":  # the error is on the key of a mapping: the mapping is the option
        location = location[:-2]
    return [name for name in location if isinstance(name, str)]


def _format_value(value: Any, choices: Sequence[str] | None) -> str:
    """The end of the sentence, which names the value unless it may be secret (`Rule.choices`)."""
    if choices is None:
        return ""
    return f"; got {value!r}{did_you_mean(str(value), choices)}"


def _option_names(options_class: Any, path: Iterable[str]) -> list[str]:
    """Names of the options in the section at a path below a class of options."""
    for section in path:
        options_class = get_type_hints(options_class)[section]
    return [field.name for field in fields(options_class)]


def _rule_and_choices(error: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """The rule in pydantic's message, as the rest of "seed must …", and the choices if it names some."""
    choices = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    if choices:
        return f"be one of {', '.join(choices)}", choices
    message = error["msg"].removeprefix("Input should ")
    rule = re.split(r", | or an instance", message)[0]
    return rule.replace("tuple", "list"), choices
