"""Defines the questions of a reading; the defaults are those of published reader studies, in one sitting.

`origin` with `confidence` is the forced choice that detection accuracy, d' and the area under the
ROC curve are computed from (Green and Swets, Signal Detection Theory and Psychophysics, 1966), as asked
by Tordjman et al., Radiology 2026 (17 radiologists; 75 % right on GPT-4o's radiographs, 70 % on
RoentGen's), who ask for `diagnosis` and image `quality` too, and in GazeVal (arXiv:2503.20967).
Whether the prompted finding is present is asked in Schuit et al., arXiv:2508.07128. `quality` and
`realism` are five-step Likert scales. `errors` are marked where they are seen: an omission (the finding
that was prompted is missing), a commission (a finding that was not prompted), a subtle discrepancy
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

LEADING_COLUMNS = (
    "format",
    "study",
    "kit",
    "reader",
    "session",
    "item",
    "position",
    "calibration",
)
"""Columns of an export before the answers."""

TRAILING_COLUMNS = ("seconds", "changes", "answered_at", "answered", "of", "check")
"""Columns of an export after the answers."""

RESERVED_COLUMNS = (*LEADING_COLUMNS, *TRAILING_COLUMNS)
"""Columns of an export besides the answers: no question can have such an id."""

_OWN_QUESTION_KINDS = ("choice", "scale", "text")
_OWN_QUESTION_FIELDS = ("kind", "text", "options", "low", "high", "required")


@dataclass(frozen=True)
class Question:
    """A question of a kit.

    Attributes:
        id: The id, which is also the column of the answers.
        kind: "choice", "scale", "errors" or "text".
        required: Whether an item counts as answered only with an answer to it.
        text: The question, or one per language; None where its words are part of the kit.
        options: The options of a choice, or the kinds of errors.
        low: The lowest step of a scale.
        high: The highest step of a scale.
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
        """Builds a question that the study added from its options in review.own_questions."""
        fields = {key: options[key] for key in options if key in _OWN_QUESTION_FIELDS}
        return cls(name, **fields)

    def as_json(self) -> JsonObject:
        """Returns the entry of kits and keys, without fields that such a question does not have."""
        values: dict[str, object] = {
            "id": self.id,
            "required": self.required,
        }  # first, as in earlier kits
        for name, value in to_json(self).items():
            if value is not None:
                values[name] = value
        return values


def build_questions(
    ids: Sequence[str], own_questions: Mapping[str, JsonObject], classes: Sequence[str]
) -> list[Question]:
    """Returns the questions of a kit in the order they are asked.

    Args:
        ids: Ids among `QUESTIONS`.
        own_questions: Questions that the study added, by id; they come last.
        classes: The options of the diagnosis.
    """
    provided = {
        "origin": Question("origin", "choice", options=list(ORIGINS)),
        "confidence": Question("confidence", "scale", low=1, high=5),
        "diagnosis": Question("diagnosis", "choice", options=list(classes)),
        "quality": Question("quality", "scale", low=-2, high=2),
        "realism": Question("realism", "scale", low=-2, high=2),
        "errors": Question("errors", "errors", required=False, options=list(ERROR_KINDS)),
        "comment": Question("comment", "text", required=False),
    }
    questions = [provided[name] for name in ids]
    for name, options in own_questions.items():
        questions.append(Question.from_options(name, options))
    return questions


def require_valid_questions(own_questions: JsonObject) -> None:
    """Checks the questions that a study adds.

    Raises:
        ConfigError: A kit could not ask one of them; the message names option, rule and value.
    """
    for name, question in own_questions.items():
        option = f"review.own_questions.{name}"
        _require_free_id(option, name)
        if not isinstance(question, Mapping):
            raise ConfigError(f"{option} must be a mapping with kind and text; got {question!r}")
        unknown = set(question) - set(_OWN_QUESTION_FIELDS)
        if unknown or question.get("kind") not in _OWN_QUESTION_KINDS:
            raise ConfigError(
                f"{option} takes {', '.join(_OWN_QUESTION_FIELDS)}, and kind must be one of "
                f"{', '.join(_OWN_QUESTION_KINDS)}; got {dict(question)}"
            )
        _require_text(option, question.get("text"))
        if not isinstance(question.get("required", True), bool):
            raise ConfigError(
                f"{option}.required must be true or false; got {question['required']!r}"
            )
        if question["kind"] == "choice":
            _require_options(option, question.get("options"))
        if question["kind"] == "scale":
            _require_scale(option, question.get("low"), question.get("high"))


def _require_free_id(option: str, name: str) -> None:
    """Requires an id that can be a column of its own."""
    existing = (*QUESTIONS, *RESERVED_COLUMNS)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in existing:
        raise ConfigError(
            f"{option}: an id consists of lower-case letters, digits and '_', and must not be a question "
            f"or column of the kit ({', '.join(existing)}); choose another"
        )


def _require_text(option: str, text: Any) -> None:
    """Requires a text, or one text per known language."""
    texts = list(text.values()) if isinstance(text, Mapping) else [text]
    languages = set(text) if isinstance(text, Mapping) else set()
    if not texts or not all(map(_is_text, texts)):
        raise ConfigError(f"{option}.text must be the question, or one per language; got {text!r}")
    if not languages <= set(LANGUAGES):
        raise ConfigError(
            f"{option}.text can be given in the languages {', '.join(LANGUAGES)}; got {sorted(languages)}"
        )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _require_options(option: str, options: Any) -> None:
    """Requires two or more different texts."""
    if (
        not isinstance(options, Sequence)
        or isinstance(options, str)
        or len(options) < 2
        or not all(isinstance(text, str) and text for text in options)
        or len(set(options)) < len(options)
    ):
        raise ConfigError(f"{option}.options must be two or more different texts; got {options!r}")


def _require_scale(option: str, low: Any, high: Any) -> None:
    """Requires whole numbers that make a scale of 2 to 11 steps."""
    if not (isinstance(low, int) and isinstance(high, int) and 1 <= high - low <= 10):
        raise ConfigError(
            f"{option}: low and high must be whole numbers, 1 to 10 apart; got {low!r} and {high!r}"
        )
