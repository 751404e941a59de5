"""What a blinded reading shows, to whom, and what it asks."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.protocol import LANGUAGES, QUESTIONS, require_sound


@dataclass(frozen=True)
class ReviewRecipe:
    """Kits for `readers`, below paths.output/reviews/`name`.

    `per_cell` images of each class from the real test split and from each generator; the share
    `repeats` of them is shown twice; `calibration` images come first, with the truth after each.
    A session holds up to `session_size` images of `side_px` (null: the study's size_px). Questions
    are asked in the order of `questions`, then `own_questions` (id to kind, text, options or low
    and high, required). `acknowledge_terms` states that the agreement of a credentialed source
    allows to hand its images to the readers. `exports` are what came back, a folder or files, for
    `xraysynth review analyse`.
    """

    name: str = "review"
    readers: list[str] = field(default_factory=lambda: ["R1", "R2"])
    per_cell: int = 10
    repeats: float = 0.1
    calibration: int = 0
    session_size: int = 200
    side_px: int | None = None
    language: str = "en"
    seed: int = 0
    questions: list[str] = field(default_factory=lambda: list(QUESTIONS))
    own_questions: dict[str, Any] = field(default_factory=dict)
    acknowledge_terms: bool = False
    exports: Any = None

    def __post_init__(self) -> None:
        _require_names(self.name, self.readers)
        for option, low in {"per_cell": 1, "calibration": 0, "session_size": 8}.items():
            if getattr(self, option) < low:
                raise ConfigError(
                    f"review.{option} must be at least {low}; got {getattr(self, option)}"
                )
        if not 0 <= self.repeats <= 0.5:
            raise ConfigError(f"review.repeats must lie in [0, 0.5]; got {self.repeats}")
        if self.side_px is not None and not 32 <= self.side_px <= 1024:
            raise ConfigError(f"review.side_px must lie in [32, 1024]; got {self.side_px}")
        if self.language not in LANGUAGES:
            raise ConfigError(
                f"review.language must be one of {', '.join(LANGUAGES)}; got {self.language!r}"
            )
        _require_questions(self.questions)
        require_sound(self.own_questions)
        _require_paths(self.exports)

    @property
    def export_paths(self) -> list[Path]:
        """`exports` as paths; none where nothing is given."""
        given = [self.exports] if isinstance(self.exports, str) else list(self.exports or [])
        return [Path(path) for path in given]


def _require_names(name: str, readers: list[str]) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(
            f"review.name is used as a folder name: letters, digits, '.', '_' and '-'; got {name!r}"
        )
    if not readers or not all(re.fullmatch(r"[A-Za-z0-9-]{1,40}", reader) for reader in readers):
        raise ConfigError(
            "review.readers must name one or more readers by pseudonyms of letters, digits and '-' "
            f"(they are in file names); got {readers}"
        )
    if len({reader.lower() for reader in readers}) < len(readers):
        raise ConfigError(f"review.readers must differ, also in lower case; got {readers}")


def _require_questions(ids: list[str]) -> None:
    import difflib

    if not ids or len(set(ids)) < len(ids):
        raise ConfigError(f"review.questions must name one or more different ones; got {ids}")
    for name in ids:
        if name not in QUESTIONS:
            close = difflib.get_close_matches(name, QUESTIONS, n=1, cutoff=0.5)
            nearest = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"review.questions must be among {', '.join(QUESTIONS)}; got {name!r}{nearest} "
                "(own ones go into review.own_questions)"
            )


def _require_paths(exports: Any) -> None:
    given = [exports] if isinstance(exports, str) else exports
    if given is not None and not (
        isinstance(given, list) and given and all(isinstance(path, str) and path for path in given)
    ):
        raise ConfigError(
            f"review.exports must be a folder, a file, or a list of files; got {exports!r}"
        )
