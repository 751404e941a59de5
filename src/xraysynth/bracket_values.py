"""Reading lists and mappings of texts as they are written on the command line: [a, b], {a: b}.

What is valid JSON is read as JSON. Anything else is a list or mapping whose texts may be in quotes; without
them a text ends at a comma or bracket, and a backslash may stand before one. No text is taken for a
number or a truth value: {0: normal, yes: sick} has the keys "0" and "yes".
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from xraysynth.quoting import QUOTED, find_closing, unquote

Item = str | None | list[Any] | dict[str, Any]
"""A text, a list or a mapping of texts; None is null."""

_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")


class BracketError(ValueError):
    """A list or mapping cannot be read; the message says why.

    Attributes:
        suggestion: What was probably meant; None if that is not clear.
    """

    def __init__(self, message: str, suggestion: Item = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def read_brackets(raw: str) -> Item:
    r"""Read a list or mapping of texts.

    >>> read_brackets('{unauffällig: normal, "COVID-19, ARDS": covid19, 0: null}')
    {'unauffällig': 'normal', 'COVID-19, ARDS': 'covid19', '0': None}
    >>> read_brackets("[normal, Pneumonia (viral, mild)]")
    ['normal', 'Pneumonia (viral, mild)']

    Raises:
        BracketError: It is neither, is not closed, or names a key twice or without its value.
    """
    try:
        return _read_json(raw)
    except json.JSONDecodeError:
        return _Reader(raw.strip()).read_whole()


def split_brackets(raw: str) -> list[str]:
    """Split the values of a sweep, which are lists or mappings.

    >>> split_brackets("{a: 'b,'}, {c: d}")
    ["{a: 'b,'}", '{c: d}']

    Raises:
        BracketError: One of them cannot be read.
    """
    reader, values = _Reader(raw.strip()), []
    while True:
        start = reader.position
        reader.read_item(",")
        values.append(reader.raw[start : reader.position].strip())
        if reader.next() != ",":
            return [*values[:-1], values[-1] + reader.raw[reader.position :]]
        reader.position += 1


def _read_json(raw: str) -> Item:
    """Read JSON, its numbers and truth values as texts."""
    value = json.loads(
        raw, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_to_mapping
    )
    item: Item = _words_as_text(value)
    return item


def _words_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _words_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_words_as_text, value))
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _to_mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if mapping.setdefault(key, value) != value:
            raise BracketError(f"{key!r} stands in it twice, with different values")
    return mapping


class _Reader:
    """Reads one value after the other from a text."""

    def __init__(self, raw: str) -> None:
        self.raw, self.position = raw, 0

    def read_whole(self) -> Item:
        item = self.read_item(",")
        if self.position < len(self.raw):
            raise BracketError(f"nothing may follow {self.raw[: self.position]!r}")
        return item

    def read_item(self, end: str) -> Item:
        start = self.next()
        if start == "[":
            return self._read_list()
        if start == "{":
            return self._read_mapping()
        text, is_quoted = self._read_text(end)
        return None if not is_quoted and text.lower() in ("null", "~") else text

    def _read_list(self) -> list[Any]:
        items: list[Any] = []
        while not self._closes("]", is_first=not items):
            items.append(self.read_item(",]"))
        return items

    def _read_mapping(self) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        alone: list[str] = []  # texts before a comma without a value: perhaps parts of one key
        incomplete = ""
        while not self._closes("}", is_first=not pairs and not alone):
            key = self._read_text(":,}")[0]
            alone.append(key)
            if self.next() == ":":
                pairs.append((", ".join(alone), self._read_value(key)))
                alone = []
            else:
                incomplete = incomplete or key
        if incomplete:
            raise BracketError(
                f"{incomplete!r} has no value, and a text with a comma needs quotes",
                None if alone else dict(pairs),
            )
        return _to_mapping(pairs)

    def _read_value(self, key: str) -> Any:
        """Read the value after a key; without quotes it holds no further colon before a space."""
        self.position += 1
        may_be_unclear = self.next() not in ("'", '"')
        value = self.read_item(",}")
        if may_be_unclear and isinstance(value, str) and ": " in value:
            raise BracketError(
                f"'{key}: {value}' has several colons, and a text with one needs quotes",
                {f"{key}: {value.rpartition(': ')[0]}": value.rpartition(": ")[2]},
            )
        return value

    def _closes(self, bracket: str, *, is_first: bool) -> bool:
        """Whether the list or mapping ends here; goes on to its next item otherwise."""
        opening_or_comma = self.next()
        if not is_first and opening_or_comma not in (",", bracket):
            raise BracketError(
                f"it does not end in {bracket}; put a text with a bracket into quotes"
            )
        if is_first or opening_or_comma == ",":
            self.position += 1
        if self.next() != bracket:
            return False
        self.position += 1
        return True

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        while self.raw[self.position : self.position + 1].isspace():
            self.position += 1
        return self.raw[self.position : self.position + 1]

    def _read_text(self, end: str) -> tuple[str, bool]:
        """Read one text up to one of the characters; return it and whether it was in quotes."""
        self.next()
        if QUOTED.match(self.raw, self.position):
            return self._read_quoted(end), True
        start = self.position
        while self.position < len(self.raw) and not self._ends(end):
            escaped = _ESCAPED.match(self.raw, self.position)
            closing = find_closing(self.raw, self.position)
            self.position = escaped.end() if escaped else closing or self.position + 1
        text = self.raw[start : self.position].strip()
        if not text:
            raise BracketError(f"a text is missing before {self.raw[self.position :]!r}")
        return _ESCAPED.sub(r"\1", text), False

    def _read_quoted(self, end: str) -> str:
        """Read a text in quotes; a quote in it is escaped, or written twice as in yaml."""
        parts, start = [], self.position
        while quoted := QUOTED.match(self.raw, self.position):
            parts.append(unquote(quoted[0]))
            mark, self.position = quoted[0][0], quoted.end()
            if not self.raw.startswith(mark, self.position):
                break
        if self.next() and self.next() not in end:
            raise BracketError(
                f"nothing may follow {self.raw[start : self.position]} before a comma or bracket"
            )
        return mark.join(parts)

    def _ends(self, end: str) -> bool:
        """Whether the text ends here; a colon ends a key only before a space, if there is such a colon."""
        character = self.raw[self.position]
        if character == ":" and ":" in end:
            return self._is_separator()
        return character in end

    def _is_separator(self) -> bool:
        """Whether the colon here is the one between key and value."""
        rest = re.match(r"[^,{}]*", self.raw[self.position :])
        has_spaced_colon = rest is not None and re.search(r":\s", rest[0])
        return self.raw[self.position + 1 : self.position + 2].isspace() or not has_spaced_colon
