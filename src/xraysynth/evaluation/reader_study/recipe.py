"""Options of a blinded reading: the images it shows, its readers, and its questions."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from xraysynth.evaluation.reader_study.protocol import LANGUAGES, QUESTIONS, require_valid_questions
from xraysynth.options import (
    IS_PATH,
    Count,
    FolderName,
    Rule,
    at_least,
    between,
    expand_path,
    one_of,
    require_valid,
)

_is_pseudonym = re.compile(r"[A-Za-z0-9-]{1,40}").fullmatch


def _are_pseudonyms(readers: list[str]) -> bool:
    return bool(readers) and all(map(_is_pseudonym, readers))


def _are_unique(names: list[str]) -> bool:
    return len(set(map(str.lower, names))) == len(names)


def _are_different(ids: list[str]) -> bool:
    return bool(ids) and len(set(ids)) == len(ids)


def _are_paths(exports: Any) -> bool:
    if exports is None:
        return True
    paths = [exports] if isinstance(exports, str) else exports
    return isinstance(paths, list) and bool(paths) and all(map(_is_text, paths))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


PSEUDONYMS = Rule(
    "name one or more readers by pseudonyms of letters, digits and '-' (they are in file names)",
    _are_pseudonyms,
)
QUESTION_ID = one_of(QUESTIONS, remedy=" (your own questions go into review.own_questions)")


@dataclass(frozen=True)
class ReviewRecipe:
    """Kits for `readers`, in the folder reviews/`name` below paths.output.

    `per_cell` is the number of images of each class from the real test split and from each generator;
    the fraction `repeat_fraction` of them is shown twice. `calibration` images come first, with the
    truth after each. A session has up to `session_size` showings of images of `side_px` pixels a side
    (null: the study's size_px), in the `language` of the readers. The kit asks `questions` in this order,
    then `own_questions` (id to kind, text, options or low and high, required). `acknowledge_terms`
    states that the agreement of a credentialed source allows you to hand its images to the readers.
    `exports` are the files that came back, a folder or files, for `xraysynth review analyse`. `seed`
    draws images and sessions.
    """

    name: FolderName = "review"
    readers: Annotated[list[str], PSEUDONYMS, Rule("differ, also in lower case", _are_unique)] = (
        field(default_factory=lambda: ["R1", "R2"])
    )
    per_cell: Count = 10
    repeat_fraction: Annotated[float, between(0, 0.5)] = 0.1
    calibration: Annotated[int, at_least(0)] = 0
    session_size: Annotated[int, at_least(8)] = 200
    side_px: Annotated[int, between(32, 1024)] | None = None
    language: Annotated[str, one_of(LANGUAGES)] = "en"
    seed: int = 0
    questions: Annotated[
        list[Annotated[str, QUESTION_ID]],
        Rule("name one or more different ones", _are_different),
    ] = field(default_factory=lambda: list(QUESTIONS))
    own_questions: dict[str, Any] = field(default_factory=dict)
    acknowledge_terms: bool = False
    exports: Annotated[
        Any, IS_PATH, Rule("be a folder, a file, or a list of files", _are_paths)
    ] = None

    def __post_init__(self) -> None:
        require_valid(self, "review")
        require_valid_questions(self.own_questions)

    @property
    def export_paths(self) -> list[Path]:
        """`exports` as paths; empty where none are named."""
        paths = [self.exports] if isinstance(self.exports, str) else self.exports or []
        return list(map(expand_path, paths))
