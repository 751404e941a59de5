"""Errors that name the argument, the rule, the value and the remedy."""

from collections.abc import Iterable


class XraysynthError(Exception):
    """Base of every error a user can cause; the command line prints it without a traceback."""


class ConfigError(XraysynthError):
    """An option is unknown, missing, of the wrong type or out of range."""


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
