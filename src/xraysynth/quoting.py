"""How values are written on the command line: texts as they are, lists and mappings in brackets.

A text is taken as the shell passes it on, unless all of it is in quotes, which are then removed: quotes are
needed only around a text that is itself in quotes, and around commas in a multirun. In a list or
mapping, quotes are needed around a text with a comma, a colon or an open bracket.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
SWEEP_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\s*\(.*\)", re.DOTALL)
"""Functions of Hydra that make several values of one override in a multirun."""


def quote_override(name: str, value: Any) -> str:
    r"""Write an override that can be pasted into a POSIX shell, so that exactly this value arrives.

    >>> print(quote_override("source.folder.root", "Röntgen (Klinik 1)"))
    'source.folder.root=Röntgen (Klinik 1)'
    >>> print(quote_override("source.table.labels", {"COVID-19, ARDS": "covid19", "No Finding": None}))
    'source.table.labels={"COVID-19, ARDS": covid19, No Finding: null}'
    >>> print(quote_override("size_px", 224))
    size_px=224

    Args:
        name: Name of the option.
        value: A text, number, boolean or None, or a list or mapping of them.
    """
    return shlex.quote(f"{name}={format_value(convert_texts(value, escape_interpolation))}")


def convert_texts(value: Any, convert: Callable[[str], str]) -> Any:
    """Apply a function to every text in a value; keys of mappings stay as they are.

    >>> convert_texts({"a": ["b", None]}, str.upper)
    {'a': ['B', None]}
    """
    if isinstance(value, Mapping):
        return {str(key): convert_texts(item, convert) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [convert_texts(item, convert) for item in value]
    return convert(value) if isinstance(value, str) else value


def escape_interpolation(text: str) -> str:
    r"""Escape what OmegaConf would replace by the value of another option.

    >>> print(escape_interpolation("costs ${price}"))
    costs \${price}
    """
    return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", text)


def read_text(raw: str) -> str:
    r"""Read a text: as it is, or without the quotes around all of it.

    >>> read_text('"a b"'), read_text("P[0-9]{4}(?=_)"), read_text("the 'left' lung")
    ('a b', 'P[0-9]{4}(?=_)', "the 'left' lung")

    Returns:
        The text as OmegaConf holds it (`node_text`).
    """
    return node_text(unquote(raw) if QUOTED.fullmatch(raw) else raw)


def node_text(text: str) -> str:
    r"""Return a text as OmegaConf has to hold it.

    "${paths.data}/x" stands for the value of another option, and a backslash before "${" says that it
    does not. Where "${" begins no interpolation, it is escaped.

    >>> print(node_text("${paths.data}/x"), node_text("${"))
    ${paths.data}/x \${
    """
    return text if _is_interpolation(text) else escape_interpolation(text)


def _is_interpolation(text: str) -> bool:
    """Whether OmegaConf can read the interpolations in a text; escaped ones count."""
    if "${" not in text:
        return False
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    try:
        parse(text)
    except GrammarParseError:
        return False
    return True


def unquote(quoted: str) -> str:
    r"""Remove the quotes around a text; inside, a backslash matters only before a quote.

    >>> print(unquote("'it\\'s C:\\temp'"))
    it's C:\temp
    """
    quote, inside = quoted[0], quoted[1:-1]

    def unescape(match: re.Match[str]) -> str:
        return "\\" * (len(match[1]) // 2) + match[2]

    return re.sub(rf"(\\+)({quote}|\Z)", unescape, inside)


def quote(text: str) -> str:
    r"""Put a text into quotes: double ones, if it means the same there in JSON (`unquote` is the inverse).

    >>> print(quote("the 'left' lung"), quote("C:\\temp"))
    "the 'left' lung" 'C:\temp'
    """
    mark = "'" if re.search(r'["\\]', text) else '"'

    def escape(match: re.Match[str]) -> str:
        return 2 * match[1] + ("\\" + mark if match[2] else "")

    return mark + re.sub(rf"(\\*)({mark}|\Z)", escape, text) + mark


def format_value(value: Any) -> str:
    """Write a value, its interpolations as `read_text` returns them, in the form without needless quotes."""
    if isinstance(value, str):
        is_sweep = split_sweep(value) != [value] or SWEEP_FUNCTION.fullmatch(value)
        is_reserved = value.strip().lower() in ("", "null")
        return quote(value) if read_text(value) != value or is_sweep or is_reserved else value
    return _format_item(value)


def _format_item(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{_format_item(key)}: {_format_item(item)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format_item, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _format_text_in_brackets(value) if isinstance(value, str) else str(value)


def _format_text_in_brackets(text: str) -> str:
    is_plain = re.fullmatch(r"[^\W_]([\w./+-]| (?=\S))*", text) and text.lower() != "null"
    return text if is_plain else quote(text)


def split_sweep(raw: str) -> list[str]:
    """Split the values of a sweep at commas that are neither in quotes nor in brackets.

    >>> split_sweep("a,b"), split_sweep("site (A,B)"), split_sweep("'a,b',c")
    (['a', 'b'], ['site (A,B)'], ["'a,b'", 'c'])
    """
    values, start, position = [], 0, 0
    while position < len(raw):
        position = _skip(raw, position, is_first=not raw[start:position].strip())
        if raw[position : position + 1] == ",":
            values.append(raw[start:position])
            start = position = position + 1
    values.append(raw[start:])
    return [value.strip() for value in values] if len(values) > 1 else values


def _skip(raw: str, position: int, *, is_first: bool) -> int:
    """The position after a quoted text, brackets or one character other than a comma."""
    quoted = QUOTED.match(raw, position) if is_first else None
    if quoted:
        return quoted.end()
    closing = find_closing(raw, position)
    return closing or position + (raw[position] != ",")


def find_closing(raw: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`; 0 if none is there or it stays open."""
    expected: list[str] = []
    for position in range(start, len(raw)):
        character = raw[position]
        if character in _BRACKETS:
            expected.append(_BRACKETS[character])
        elif expected and character == expected[-1]:
            expected.pop()
        if not expected:
            return position + 1 if position > start else 0
    return 0
