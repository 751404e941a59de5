"""Texts of a server as they may be shown and stored: without the key, printable and bounded."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

MAX_SHOWN_CHARACTERS = 2000
"""Longest text of a server that is shown or stored as a reason."""

_KEY_LIKE = re.compile(r"\b(sk|sess)-[\w*.\-]{4,}")
_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters, which could steer a terminal, and halves of characters, which no file takes."""


def clean_text(text: str, secret: str | None) -> str:
    """Returns a text of a server as it may be shown: without keys, printable, and not too long.

    Args:
        text: The text.
        secret: The key, or None if there is none.
    """
    text = _NOT_PRINTABLE.sub("\N{REPLACEMENT CHARACTER}", redact_secrets(text, secret))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def redact_values(value: Any, secret: str | None) -> Any:
    """Returns JSON values as they may be stored: no text in them, nor any name, holds a key.

    Args:
        value: The values of a server, in any form.
        secret: The key, or None if there is none.
    """
    if isinstance(value, str):
        return _NOT_PRINTABLE.sub("\N{REPLACEMENT CHARACTER}", redact_secrets(value, secret))
    if isinstance(value, Mapping):
        return {redact_values(str(k), secret): redact_values(v, secret) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item, secret) for item in value]
    return value


def redact_content(content: bytes, secret: str | None) -> bytes:
    """Removes keys from an answer that has not been parsed, as `redact_secrets` does."""
    if secret:
        content = content.replace(secret.encode(), b"***")
    if not any(mark in content for mark in (b"sk-", b"sess-", b"\\")):
        return content
    text = content.decode(errors="surrogateescape")
    return redact_secrets(text, secret).encode(errors="surrogateescape")


def redact_secrets(text: str, secret: str | None) -> str:
    """Replaces the key, in JSON's escaped forms as well, and everything that looks like a key, by `***`.

    Args:
        text: A text that will be shown or stored.
        secret: The key, or None if there is none.
    """
    if secret:
        text = text.replace(secret, "***")
        if "\\" in text:
            text = _escaped_form(secret).sub("***", text)
    return _KEY_LIKE.sub("***", text)


@cache
def _escaped_form(secret: str) -> re.Pattern[str]:
    """Matches a key of which JSON has escaped any characters, such as `\\u0073k-` for `sk-`."""
    characters = []
    for character in secret:
        backslash = r"\\?" if character in '"/\\' else ""
        code = f"{ord(character):04x}"
        characters.append(rf"(?:{backslash}{re.escape(character)}|\\u(?i:{code}))")
    return re.compile("".join(characters))
