"""Matches a user's regular expression in a process of its own, which can be stopped."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Literal

from xraysynth.errors import ConfigError

TIME_LIMIT_SECONDS = 30.0
"""The time in which a pattern must have matched all texts; a sound one takes a microsecond for each."""

_SCRIPT = """
import json, re, sys
pattern, method, texts = json.load(sys.stdin)
match = getattr(re.compile(pattern), method)
found = [match(text) for text in texts]
json.dump([m and [m[0], m.groupdict()] for m in found], sys.stdout)
"""

Match = tuple[str, dict[str, Any]]
"""The whole match, and the named groups."""


def compile_pattern(pattern: str, option: str) -> re.Pattern[str]:
    """Compiles a regular expression.

    Args:
        pattern: The regular expression.
        option: Full name of the option that holds it, for the message.

    Raises:
        ConfigError: It is no regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{option}={pattern!r} is not a regular expression: {error}") from None


def match_all(
    pattern: str, method: Literal["fullmatch", "search"], texts: Sequence[str], option: str
) -> list[Match | None]:
    """Matches a pattern against texts; None for each text that does not match.

    A pattern such as `(a+)+b` takes twice the time for each further letter, and Python's matching cannot
    be interrupted from within its process.

    Args:
        pattern: A regular expression that `compile_pattern` accepts.
        method: "fullmatch" if the whole text must match, "search" if a part of it is enough.
        texts: The texts.
        option: Full name of the option that holds the pattern, for the message.

    Raises:
        ConfigError: The pattern is not done with all texts within `TIME_LIMIT_SECONDS`.
    """
    try:
        process = subprocess.run(
            [sys.executable, "-I", "-c", _SCRIPT],
            input=json.dumps([pattern, method, list(texts)]),
            stdout=subprocess.PIPE,
            encoding="ascii",
            check=True,
            timeout=TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"{option}={pattern!r} is not done with {len(texts)} paths in {TIME_LIMIT_SECONDS:g} s, since "
            "it can match one text in very many ways; write it without a repetition inside a "
            "repetition, for example [^/]+ in place of ([^/]+)+"
        ) from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"{option}={pattern!r} cannot be matched with {len(texts)} paths (exit status "
            f"{error.returncode}); write a simpler pattern"
        ) from error
    matches: list[Match | None] = []
    for match in json.loads(process.stdout):
        matches.append(tuple(match) if match else None)
    return matches
