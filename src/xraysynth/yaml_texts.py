"""Reading yaml that people write: what is meant as text stays as it is written.

In yaml `0`, `01`, `1.50`, `yes` and `No` are numbers and truth values; as a label or name they are texts.
"""

from collections.abc import Callable, Sequence
from typing import Any

from xraysynth.errors import ConfigError

MAX_BYTES = 10_000_000
_TEXT, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))

IsText = Callable[[Sequence[str]], bool]
"""Function of the keys that lead to a value; returns whether it is meant as text."""


def load_yaml(text: str, name: str, is_text: IsText = lambda _: True) -> Any:
    r"""Load yaml (or JSON), in which keys are texts, and values where `is_text` says so.

    >>> load_yaml("{0: normal, 01: 1.50, yes: no, other: null}", "labels.yaml")
    {'0': 'normal', '01': '1.50', 'yes': 'no', 'other': None}

    Args:
        text: The yaml.
        name: Name of its file, for errors.
        is_text: Tells texts from numbers and truth values.

    Raises:
        ConfigError: It is no yaml, or names a key twice; the message has the line.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: a file of options or labels has at most {MAX_BYTES:,} bytes")
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _keep_texts(root, [], is_text, name)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{name}{line}: this is no yaml ({problem}); put a text with : or # into quotes"
        ) from error
    except (RecursionError, ValueError) as error:  # a date that there is none, or endless nesting
        raise ConfigError(f"{name}: this is no yaml ({error}); put texts into quotes") from error


def _keep_texts(node: Any, keys: Sequence[str], is_text: IsText, name: str) -> None:
    """Mark the scalars below a node that are texts, whatever yaml takes them for."""
    if isinstance(node.value, str):
        if node.style is None and node.tag != _NULL and is_text(keys):
            node.tag = _TEXT
        return
    seen: set[str] = set()
    for item in node.value:
        if not isinstance(item, tuple):
            _keep_texts(item, keys, is_text, name)
            continue
        key, value = item
        if key.tag == _MERGE:
            continue
        if not isinstance(key.value, str):
            raise ConfigError(f"{name}, line {key.start_mark.line + 1}: a key must be a text")
        if key.value in seen:
            raise ConfigError(
                f"{name}, line {key.start_mark.line + 1}: {key.value!r} stands in it twice; remove one"
            )
        seen.add(key.value)
        key.tag = _TEXT
        _keep_texts(value, [*keys, key.value], is_text, name)
