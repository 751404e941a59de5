"""Rules that options must follow, and the checks that build classes of options from plain values.

A field names its rule in its annotation, such as `Annotated[int, at_least(1)]`; pydantic applies it.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, TypeVar, get_type_hints

from xraysynth.errors import ConfigError, format_option_errors

Options = TypeVar("Options")


@dataclass(frozen=True)
class Rule:
    """A rule for the values of an option: `Annotated[int, Rule("be even", is_even)]`.

    Attributes:
        description: The rest of a sentence that begins "seed must", such as "be at least 1".
        is_valid: Function of the value whose result is true for a valid one.
        choices: Words that are valid, of which the error names the nearest; empty if the option is not
            a choice of words. None keeps the value, which may be secret, out of the error.
    """

    description: str
    is_valid: Callable[[Any], object]
    choices: Sequence[str] | None = ()

    def __get_pydantic_core_schema__(self, kind: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self._validate, handler(kind))

    def _validate(self, value: Any) -> Any:
        if not self.is_valid(value):
            raise ValueError(self.description, self.choices)
        return value


def at_least(low: float) -> Rule:
    """Return the rule that a value is at least `low`."""
    return Rule(f"be at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Rule:
    """Return the rule that a value lies in [low, high]."""
    return Rule(f"lie in [{low}, {high}]", lambda value: low <= value <= high)


def one_of(choices: Sequence[str], remedy: str = "") -> Rule:
    """Return the rule that a value is one of some words; `remedy` is added to the error."""
    return Rule(f"be one of {', '.join(choices)}{remedy}", choices.__contains__, choices)


def match_pattern(pattern: str, description: str) -> Rule:
    """Return the rule that a regular expression matches a whole text."""
    return Rule(description, re.compile(pattern).fullmatch)


FOLDER_NAME = match_pattern(
    r"\w[\w.-]*",
    "be usable as a folder name: letters, digits, '.', '_' and '-', and neither '.' nor '-' first",
)
FolderName = Annotated[str, FOLDER_NAME]
"""A name that becomes a folder, or a part of its name, below paths.output."""

IS_PATH = "path"
FROM_FILE = "from file"
PathText = Annotated[str, IS_PATH]
"""A path of a file or folder; a leading ~ is the home folder (`expand_path`)."""

Labels = Annotated[dict[str, str | None], FROM_FILE]
"""Label -> class, or null for none; on the command line and in yaml also the path of a file with them."""

NOT_EMPTY = Rule("hold at least one value", len)
Count = Annotated[int, at_least(1)]
Positive = Annotated[float, Rule("be above 0", lambda value: value > 0)]
NonNegative = Annotated[float, at_least(0)]
FinitePositive = Annotated[Positive, Rule("be a finite number", math.isfinite)]
Dollars = Annotated[NonNegative, Rule("be at most 1,000,000 dollars", lambda value: value <= 1e6)]
Fraction = Annotated[float, between(0, 1)]
PositiveFraction = Annotated[float, Rule("lie in (0, 1]", lambda value: 0 < value <= 1)]


def expand_path(text: str | Path) -> Path:
    """Return the path that an option names: a leading ~ is the home folder, ~name that of a user.

    A path stays as it is where there is no such user. Relative paths start in the working folder.
    """
    return Path(os.path.expanduser(text))


_is_validating: ContextVar[bool] = ContextVar("_is_validating", default=False)
"""Whether `from_options` is building a class, so that `require_valid` need not check it again."""


def from_options(options_class: type[Options], values: Any, section: str = "") -> Options:
    """Build a class of options from plain values.

    Args:
        options_class: A dataclass whose annotations hold the types and rules.
        values: Name of the option -> value; nested sections are mappings.
        section: Section of the class in the configuration, with which names in errors begin:
            "trainer", "source.folder", or "" for the whole configuration.

    Raises:
        ConfigError: Options are unknown, missing, of the wrong type or against their rule; one line
            for each of them.
    """
    from pydantic import ValidationError

    errors = list(_bool_for_number_errors(options_class, values, section))
    token = _is_validating.set(True)
    try:
        adapter = _options_adapter(options_class)  # type: ignore[arg-type]  # a class is hashable
        (options,) = adapter.validate_python((values,))
    except ValidationError as error:
        errors += format_option_errors(error.errors(), options_class, section)
    finally:
        _is_validating.reset(token)
    if errors:
        raise ConfigError(*errors)
    return options  # type: ignore[no-any-return]


def require_valid(options: Any, section: str) -> None:
    """Check options that Python code has created; called at the start of their `__post_init__`.

    Args:
        options: An instance of a class of options.
        section: Section of the class in the configuration (`from_options`).

    Raises:
        ConfigError: Options are of the wrong type or against their rule; one line for each of them.
    """
    if _is_validating.get():
        return
    names = [field.name for field in fields(options)]
    from_options(type(options), {name: getattr(options, name) for name in names}, section)


def require_folder_name(name: str, owner: str) -> None:
    """Require that a name that no class of options has checked is a `FolderName`.

    Args:
        name: The name.
        owner: What has the name, for the error: "a source or generator".

    Raises:
        ConfigError: The name would leave the folder that it is used in, or cannot be a folder's name.
    """
    if not FOLDER_NAME.is_valid(name):
        raise ConfigError(
            f"the name of {owner} must {FOLDER_NAME.description}; got {name!r}; choose another name"
        )


def _bool_for_number_errors(options_class: Any, values: Any, section: str) -> Iterator[str]:
    """The errors of numbers that are given as true or false, which pydantic accepts as 1 and 0."""
    if not (is_dataclass(options_class) and isinstance(values, Mapping)):
        return
    for name, expected_type in get_type_hints(options_class).items():
        value = values.get(name)
        full_name = f"{section}.{name}" if section else name
        if isinstance(value, bool) and expected_type in (int, float, int | None, float | None):
            yield f"{full_name} must be a number; got {value}"
        yield from _bool_for_number_errors(expected_type, value, full_name)


@cache
def _options_adapter(options_class: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    strict = ConfigDict(extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=True)
    # pydantic accepts no config for a dataclass itself, but for a tuple of it.
    tuple_of_class: Any = GenericAlias(tuple, (options_class,))
    return TypeAdapter(tuple_of_class, config=strict)
