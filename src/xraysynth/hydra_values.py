"""One value of the command line, from the user's spelling to the one that Hydra reads, and back."""

import re
from collections.abc import Mapping
from typing import Any

from xraysynth.bracket_values import BracketError, read_brackets, split_brackets
from xraysynth.errors import ConfigError
from xraysynth.option_types import Kind, ValueType
from xraysynth.options import expand_path
from xraysynth.quoting import (
    SWEEP_FUNCTION,
    convert_texts,
    format_value,
    node_text,
    quote,
    quote_override,
    read_text,
    split_sweep,
)

_KEY_MARK = "hex__"
"""Begins a key of a mapping that Hydra's grammar cannot write; its UTF-8 bytes follow."""

_PLAIN = re.compile(r"(?!(null|true|false|inf|nan)$)[a-z_][\w-]*( [\w-]+)*", re.ASCII | re.I)
"""Texts that mean themselves everywhere in Hydra's grammar, also as keys."""

_LIST_FUNCTION = re.compile(r"(extend_list|sort|shuffle)\s*\(.*\)", re.DOTALL)


def to_hydra_values(
    name: str, raw: str, value_type: ValueType, *, multirun: bool = False
) -> list[str]:
    """Write the value of an override so that Hydra's grammar reads what is meant; several of a multirun.

    Args:
        name: Name of the option, for errors.
        raw: The value as the shell has passed it on.
        value_type: How the option's values are read.
        multirun: Whether commas separate several values. They do not in an existing path, in brackets or
            in quotes.

    Raises:
        ConfigError: A list or mapping cannot be read.
    """
    if value_type.kinds == {Kind.other}:
        return [_to_other(name, raw, is_list=value_type.is_list, multirun=multirun)]
    is_one = not multirun or (value_type.is_path and expand_path(raw).exists())
    if not is_one and SWEEP_FUNCTION.fullmatch(raw) and parse_value(raw) is not None:
        return [raw]
    values = [raw] if is_one else _split_sweep(name, raw, value_type)
    return [_to_one_value(name, value, value_type) for value in values]


def _split_sweep(name: str, raw: str, value_type: ValueType) -> list[str]:
    if not _is_bracketed(raw.strip(), value_type.kinds):
        return split_sweep(raw)
    try:
        return split_brackets(raw)
    except BracketError as error:
        raise _bracket_error(name, raw, error) from error


def _to_one_value(name: str, raw: str, value_type: ValueType) -> str:
    kinds = value_type.kinds
    bare = raw.strip()
    if value_type.is_optional and bare.lower() == "null":
        return "null"
    if Kind.list in kinds and _LIST_FUNCTION.fullmatch(bare) and parse_value(bare) is not None:
        return bare
    if _is_bracketed(bare, kinds):
        return _write(_read_brackets(name, bare))
    is_file = value_type.from_file and not bare.startswith("[")
    if Kind.text in kinds or is_file or bare.startswith("${"):
        return to_hydra_text(raw)
    raise ConfigError(_wrong_brackets(name, raw, value_type))


def _is_bracketed(bare: str, kinds: "frozenset[Kind]") -> bool:
    opening = {Kind.list: "[", Kind.mapping: "{"}
    return any(bare.startswith(opening[kind]) for kind in kinds & set(opening))


def _wrong_brackets(name: str, raw: str, value_type: ValueType) -> str:
    """The error on a value without the brackets of its list or mapping."""
    items = split_sweep(raw)
    if Kind.list in value_type.kinds:
        return (
            f"{name} must be a list in brackets; got {raw!r}; write {quote_override(name, items)}"
        )
    example = quote_override(name, {"first": "value", "second": "value"})
    return f"{name} must be a mapping in braces, such as {example}; got {raw!r}"


def _read_brackets(name: str, raw: str) -> Any:
    try:
        return convert_texts(read_brackets(raw), node_text)
    except BracketError as error:
        raise _bracket_error(name, raw, error) from error


def _bracket_error(name: str, raw: str, error: BracketError) -> ConfigError:
    remedy = ""
    if error.suggestion is not None:
        remedy = f"; if it is one text, write {quote_override(name, error.suggestion)}"
    return ConfigError(f"{name}={raw}: {error}{remedy}")


def _to_other(name: str, raw: str, *, is_list: bool, multirun: bool) -> str:
    """A number or the like, which Hydra's own grammar reads; what it cannot read is refused later."""
    parsed = parse_value(raw)
    if parsed is not None:
        if parsed.is_sweep_override() and not multirun:
            as_list = (
                f"for a list write {quote_override(name, split_sweep(raw))}, " if is_list else ""
            )
            raise ConfigError(
                f"{name}={raw} gives several values; {as_list}for one run with each value add -m"
            )
        return raw
    if raw.strip().startswith(("[", "{")):
        return _write(_read_brackets(name, raw.strip()))
    return to_hydra_text(raw)


def parse_value(raw: str) -> Any:
    """Hydra's reading of a value; None if its grammar does not know it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"option={raw}")
    except HydraException:
        return None


def _write(value: Any) -> str:
    """Write a list or mapping in Hydra's grammar."""
    if isinstance(value, Mapping):
        pairs = [f"{encode_key(str(key))}: {_write(item)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write, value))}]"
    return "null" if value is None else _quote_unless_plain(value)


def to_hydra_text(raw: str) -> str:
    """Write a text of the command line in Hydra's grammar, without quotes where it stays the same text."""
    text = read_text(raw)
    parsed = parse_value(text) if text and not text.startswith(("'", '"')) else None
    is_same = parsed is not None and not parsed.is_sweep_override() and parsed.value() == text
    return text if is_same and text != "???" else _quote_unless_plain(text)


def _quote_unless_plain(text: str) -> str:
    if text == "???":  # by itself the mark of a value that is missing
        return "'?${oc.select:none,\"\"}??'"
    return text if _PLAIN.fullmatch(text) else quote(text)


def encode_key(key: str) -> str:
    """Write a key of a mapping with the characters that Hydra's grammar allows in it (`decode_keys`).

    >>> encode_key("No Finding"), encode_key("0")
    ('No Finding', 'hex__30')
    """
    is_plain = _PLAIN.fullmatch(key) and not key.startswith(_KEY_MARK)
    return key if is_plain else _KEY_MARK + key.encode("utf-8", "surrogateescape").hex()


def decode_key(key: Any) -> Any:
    """Return a key as the user has written it (`encode_key`)."""
    if not (isinstance(key, str) and re.fullmatch(rf"{_KEY_MARK}([0-9a-f]{{2}})*", key)):
        return key
    return bytes.fromhex(key.removeprefix(_KEY_MARK)).decode("utf-8", "surrogateescape")


def decode_keys(values: Any) -> Any:
    """Return composed values with all keys of mappings as the user has written them; later ones win."""
    if isinstance(values, dict):
        return {decode_key(key): decode_keys(value) for key, value in values.items()}
    return list(map(decode_keys, values)) if isinstance(values, list) else values


def to_typed_value(hydra_value: str) -> str:
    """Return a value in Hydra's grammar as a user would type it (inverse of `to_hydra_values`)."""
    parsed = parse_value(hydra_value)
    if parsed is None or parsed.is_sweep_override():
        return hydra_value
    is_rewritten = re.search(rf"['\"]|{_KEY_MARK}", hydra_value)
    return format_value(decode_keys(parsed.value())) if is_rewritten else hydra_value
