"""The messages of the code that print something to paste: an option, a command or an installation."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from xraysynth.config import Config

SOURCE = Path(__file__).parents[1] / "src" / "xraysynth"
STAGES = {path.stem.replace("_", " ") for path in (SOURCE / "stages").glob("[!_]*.py")}
ROOT_OPTIONS = "|".join(field.name for field in fields(Config))
OPTION = re.compile(
    rf"(?<![\w.=])\+?((?:{ROOT_OPTIONS}|(?:[a-z_]+|\{{[\w.]+\}})(?:\.(?:\w+|<\w+>|\{{[^}}]+\}}))+)=)"
)
"""An option with a value: of the root, or with a dot in its name, parts of which may be filled in."""

COMMAND = re.compile(
    r"\b(?:xraysynth|torchrun|hf|gdcmconv|rm|sed|env) [a-z{-]|-m after|pip install"
    r"|\{?quote_override\(|\.command\("
)
MADE_OF_CODE = ("quote_override", "command")
"""Functions that write an option or a command for a message."""


@dataclass(frozen=True)
class Printed:
    """A text of the code, what is filled in in braces."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"

    def is_meant_by(self, file_and_part: tuple[str, str]) -> bool:
        file, part = file_and_part
        return self.file == file and part in self.text


def messages_with_remedies(folder: Path = SOURCE) -> list[Printed]:
    """Every text of the code that names an option with a value, or a command, after its first word.

    What a message begins with is the option that is wrong, and the value that it has.
    """
    found = []
    for path in sorted(folder.rglob("*.py")):
        file = path.relative_to(folder).as_posix()
        found += [Printed(file, *text) for text in texts(path.read_text("utf-8"))]
    return [printed for printed in found if has_remedy(printed.text)]


def has_remedy(text: str) -> bool:
    is_named_later = any(match.start() for match in OPTION.finditer(text))
    return bool(is_named_later or COMMAND.search(text))


def texts(code: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string, and of each call that writes a remedy outside of one."""
    tree = ast.parse(code)
    parts = set(docstrings(tree))
    for node in ast.walk(tree):  # a string comes before its parts
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, ast.walk(node)))
            yield node.lineno, "".join(map(written, node.values))
        elif id(node) in parts:
            continue
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Call) and called(node) in MADE_OF_CODE:
            yield node.lineno, ast.unparse(node)


def docstrings(tree: ast.AST) -> Iterator[int]:
    """Docstrings, and the strings below attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield id(node.value)


def written(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return f"{{{ast.unparse(part.value)}}}"


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
