"""The questions of a reading; the defaults are those of published reader studies, in one sitting.

`origin` with `confidence` is the forced choice that detection accuracy, d' and the area under the
ROC curve come from (Green and Swets, Signal Detection Theory and Psychophysics, 1966), as asked by
Tordjman et al., Radiology 2026 (17 radiologists; 75 % right on GPT-4o's radiographs, 70 % on
RoentGen's), who ask for `diagnosis` and image `quality` too, and in GazeVal (arXiv:2503.20967).
Whether the prompted finding is there is asked in Schuit et al., arXiv:2508.07128. `quality` and
`realism` are five-step Likert scales. `errors` are marked where they are seen: an omission (the
finding asked for is missing), a commission (a finding that nobody asked for), a subtle discrepancy
(severity, side or extent), or an artefact.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.records import JsonObject, to_json

ORIGINS = ("real", "synthetic")
ERROR_KINDS = ("omission", "commission", "subtle", "artefact")
QUESTIONS = ("origin", "confidence", "diagnosis", "quality", "realism", "errors", "comment")
"""Ids of the questions whose words are part of the kit."""

LANGUAGES = ("en", "de")
RESERVED_COLUMNS = (
    *("format", "study", "kit", "reader", "session", "item", "position", "calibration"),
    *("seconds", "changes", "answered_at", "answered", "of", "check"),
)
"""Columns of an export besides the answers: no question can have such an id."""

_OWN_QUESTION_KINDS = ("choice", "scale", "text")
_OWN_QUESTION_FIELDS = ("kind", "text", "options", "low", "high", "required")


@dataclass(frozen=True)
class Question:
    """A question of a kit: choice, scale, errors, or text.

    `options` are those of a choice, or the kinds of errors; `low` and `high` are the ends of a scale.
    `text` is the question, or one per language; None where its words are part of the kit.
    """

    id: str
    kind: str
    required: bool = True
    text: str | dict[str, str] | None = None
    options: list[str] | None = None
    low: int | None = None
    high: int | None = None

    @classmethod
    def from_options(cls, name: str, options: JsonObject) -> "Question":
        """From the options of an own question."""
        return cls(
            name, **{key: value for key, value in options.items() if key in _OWN_QUESTION_FIELDS}
        )

    def as_json(self) -> JsonObject:
        """As it stands in a kit and in its key: without what such a question does not have."""
        values = {name: value for name, value in to_json(self).items() if value is not None}
        return {"id": self.id, "required": self.required} | values  # in the order of earlier kits


def build_questions(
    ids: Sequence[str], own_questions: Mapping[str, JsonObject], classes: Sequence[str]
) -> list[Question]:
    """The questions of a kit in the order they are asked."""
    known = [
        Question("origin", "choice", options=list(ORIGINS)),
        Question("confidence", "scale", low=1, high=5),
        Question("diagnosis", "choice", options=list(classes)),
        Question("quality", "scale", low=-2, high=2),
        Question("realism", "scale", low=-2, high=2),
        Question("errors", "errors", required=False, options=list(ERROR_KINDS)),
        Question("comment", "text", required=False),
    ]
    by_id = {question.id: question for question in known}
    return [by_id[name] for name in ids] + [
        Question.from_options(*item) for item in own_questions.items()
    ]


def require_valid_questions(own_questions: JsonObject) -> None:
    """Raise `ConfigError` for an own question that no kit could ask."""
    for name, question in own_questions.items():
        place = f"review.own_questions.{name}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (*QUESTIONS, *RESERVED_COLUMNS):
            raise ConfigError(
                f"{place}: an id is lower-case letters, digits and '_', and no question or column of "
                f"the kit ({', '.join((*QUESTIONS, *RESERVED_COLUMNS))}); choose another"
            )
        if not isinstance(question, Mapping):
            raise ConfigError(f"{place} must be a mapping with kind and text; got {question!r}")
        unknown = sorted(set(question) - set(_OWN_QUESTION_FIELDS))
        if unknown or question.get("kind") not in _OWN_QUESTION_KINDS:
            raise ConfigError(
                f"{place} takes {', '.join(_OWN_QUESTION_FIELDS)}, kind being one of "
                f"{', '.join(_OWN_QUESTION_KINDS)}; "
                f"got {dict(question)}"
            )
        _require_text(place, question.get("text"))
        if not isinstance(question.get("required", True), bool):
            raise ConfigError(
                f"{place}.required must be true or false; got {question['required']!r}"
            )
        _require_options(place, question)


def _require_text(place: str, text: Any) -> None:
    words = list(text.values()) if isinstance(text, Mapping) else [text]
    languages = set(text) if isinstance(text, Mapping) else set()
    if not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(f"{place}.text must be the question, or one per language; got {text!r}")
    if not languages <= set(LANGUAGES):
        raise ConfigError(
            f"{place}.text knows the languages {', '.join(LANGUAGES)}; got {sorted(languages)}"
        )


def _require_options(place: str, question: JsonObject) -> None:
    options, low, high = (question.get(name) for name in ("options", "low", "high"))
    if question["kind"] == "choice" and not (
        isinstance(options, Sequence)
        and not isinstance(options, str)
        and len(options) >= 2
        and all(isinstance(o, str) and o for o in options)
        and len(set(options)) == len(options)
    ):
        raise ConfigError(f"{place}.options must be two or more different texts; got {options!r}")
    if question["kind"] == "scale" and not (
        isinstance(low, int) and isinstance(high, int) and 1 <= high - low <= 10
    ):
        raise ConfigError(
            f"{place}: low and high must be whole numbers, 1 to 10 apart; got {low!r} and {high!r}"
        )
