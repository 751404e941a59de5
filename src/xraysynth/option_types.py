"""The declared type of every option: by its name, what kind of value is meant on the command line."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from itertools import chain
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from xraysynth.config import PLUGIN_GROUPS, TEST_SOURCE, Config
from xraysynth.options import FROM_FILE, IS_PATH

PLUGIN_SECTIONS = (*PLUGIN_GROUPS, TEST_SOURCE)

FindClass = Callable[[str, str], Any]
"""Function of a section such as "source" and a key in it; returns the class of the plug-in, or None."""


class Kind(StrEnum):
    """What a value is on the command line: a text, a list or mapping of texts, or anything else."""

    text = "text"
    list = "list"
    mapping = "mapping"
    other = "other"


@dataclass(frozen=True)
class ValueType:
    """How a value is read from the command line.

    Attributes:
        kinds: Kinds of value that the option accepts; `other` is what Hydra makes of the value.
        is_list: Whether it is a list, of whatever items.
        is_optional: Whether null is a value.
        is_path: Whether its texts are paths.
        from_file: Whether a text is the path of a file that holds the mapping.
    """

    kinds: frozenset[Kind]
    is_list: bool = False
    is_optional: bool = False
    is_path: bool = False
    from_file: bool = False


OTHER = ValueType(frozenset({Kind.other}))


@dataclass(frozen=True)
class Option:
    """An option that a name on the command line means.

    Attributes:
        name: Full name of the option: "source.table.labels".
        key: Key of the mapping that the option is, if the name goes on with one: "No Finding"; else None.
        annotation: Declared type of its value, or of the key's value.
    """

    name: str
    key: str | None
    annotation: Any


def find_option(name: str, find_class: FindClass) -> Option | None:
    """Find the option that a name means; None if the schema and the plug-ins have none of this name.

    Args:
        name: Full name of an option, or of one key of an option that is a mapping. The key may contain dots.
        find_class: Gives the class of a plug-in.
    """
    return _find_below(Config, [], name.split("."), find_class)


def sibling_names(name: str, find_class: FindClass) -> list[str]:
    """List the options of the section that a name begins with; those of the root if there is none."""
    section = name.rpartition(".")[0]
    option = find_option(section, find_class) if section else None
    options_class = _strip(option.annotation) if option else Config
    return [
        field.name for field in fields(options_class if is_dataclass(options_class) else Config)
    ]


def _find_below(
    annotation: Any, path: list[str], rest: list[str], find_class: FindClass
) -> Option | None:
    """Find the option at `rest` below the option or section at `path`, which has the type `annotation`."""
    if not rest:
        return Option(".".join(path), None, annotation)
    bare = _strip(annotation)
    deeper = ([*path, rest[0]], rest[1:], find_class)
    if is_dataclass(bare):
        hint = get_type_hints(bare, include_extras=True).get(rest[0])
        return _find_below(hint, *deeper) if hint is not None else None
    if path in [[section] for section in PLUGIN_SECTIONS]:
        plugin_class = find_class(path[0], rest[0])
        return _find_below(plugin_class, *deeper) if plugin_class is not None else None
    if get_origin(bare) is not dict or _strip(get_args(bare)[1]) is Any:
        return None
    return Option(".".join(path), ".".join(rest), get_args(bare)[1])


def value_type(annotation: Any) -> ValueType:
    """Return how values of a declared type are read from the command line."""
    metadata = _metadata(annotation)
    alternatives = _alternatives(annotation)
    kinds = [kind for kind in map(_kind, alternatives) if kind]
    if _strip(annotation) is Any and IS_PATH in metadata:
        kinds = [Kind.text, Kind.list]
    return ValueType(
        frozenset(kinds),
        is_list=any(get_origin(_strip(one)) is list for one in alternatives),
        is_optional=NoneType in alternatives or _strip(annotation) is Any,
        is_path=IS_PATH in metadata,
        from_file=FROM_FILE in metadata,
    )


def _kind(annotation: Any) -> Kind | None:
    """The kind of one alternative of a type; None for None itself."""
    bare = _strip(annotation)
    if bare is NoneType:
        return None
    if _is_text(bare):
        return Kind.text
    if get_origin(bare) is list and _kind(get_args(bare)[0]) is Kind.text:
        return Kind.list
    if get_origin(bare) is dict and Kind.other not in map(_kind, _alternatives(get_args(bare)[1])):
        return Kind.mapping
    return Kind.other


def _is_text(bare: Any) -> bool:
    if get_origin(bare) is Literal:
        return all(isinstance(choice, str) for choice in get_args(bare))
    if not isinstance(bare, type):
        return False
    is_text_enum = issubclass(bare, Enum) and all(isinstance(one.value, str) for one in bare)
    return bare is str or is_text_enum


def _strip(annotation: Any) -> Any:
    """The type without what `Annotated` adds, and without None if only one other type is left."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    others = [one for one in _members(annotation) if one is not NoneType]
    return annotation if len(others) != 1 or others == [annotation] else _strip(others[0])


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, each without what `Annotated` adds to the union itself."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return list(_members(annotation))


def _metadata(annotation: Any) -> list[Any]:
    """What `Annotated` adds to a type, to its alternatives and to the items of lists and mappings."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return [*metadata, *_metadata(inner)]
    if get_origin(annotation) in (Union, UnionType, list, dict):
        inner_metadata = map(_metadata, get_args(annotation))
        return list(chain.from_iterable(inner_metadata))
    return []
