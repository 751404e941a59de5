"""How images APIs say that a prompt or an image was refused, and for which categories."""

import re
from collections.abc import Mapping
from typing import Any

from xraysynth.records import JsonObject

REFUSAL_CODES = ("moderation_blocked", "content_policy_violation", "contentfilter")
INNER_REFUSAL_CODES = (*REFUSAL_CODES, "responsibleaipolicyviolation")
"""Codes of refusals, in lower case, as Azure also puts them into an inner error."""

MAX_MESSAGE_CHARACTERS = 10_000
"""Longest message that is searched: the time of a search can grow with the square of the length."""

_REFUSAL_IN_MESSAGE = re.compile(rf"safety_violations=\[|{'|'.join(REFUSAL_CODES)}")
_VIOLATIONS_IN_MESSAGE = re.compile(r"safety_violations=\[([^\]]*)\]")
_OUTPUT_IN_MESSAGE = re.compile(r"\b(generated image|output)\b")


def is_refusal(code: str, error: JsonObject) -> bool:
    """Whether an error is a refusal for its content.

    Decided by the code, or by the message where a proxy has replaced the code by its own.

    Args:
        code: The error's code, or "".
        error: The error object of the answer.
    """
    inner_code = str(_inner_error(error).get("code", ""))
    if code.lower() in INNER_REFUSAL_CODES or inner_code.lower() in INNER_REFUSAL_CODES:
        return True
    return _REFUSAL_IN_MESSAGE.search(_message(error)) is not None


def parse_moderation(error: JsonObject) -> tuple[str | None, tuple[str, ...]]:
    """Finds the stage and the categories of a refusal, wherever the service puts them.

    Args:
        error: The error object of the answer.

    Returns:
        The stage, such as "input" or "output", or None; and the categories without repetitions.
    """
    details = error.get("moderation_details")
    if not isinstance(details, Mapping):
        details = error
    stage = details.get("moderation_stage") or details.get("stage")
    if stage is None and _OUTPUT_IN_MESSAGE.search(_message(error)):
        stage = "output"
    stage = stage if isinstance(stage, str) else None
    categories = [
        *_listed_categories(details),
        *_categories_in_message(error),
        *_categories_in_inner_error(error),
    ]
    return stage, tuple(dict.fromkeys(map(str, categories)))


def filtered_categories(results: Any) -> list[str]:
    """Returns the categories that Azure's content filter has filtered.

    Args:
        results: The value of `content_filter_results`: category -> {"filtered": …}.
    """
    if not isinstance(results, Mapping):
        return []
    categories = []
    for category, result in results.items():
        if isinstance(result, Mapping) and result.get("filtered"):
            categories.append(category)
    return categories


def _listed_categories(details: JsonObject) -> list[Any]:
    categories = details.get("categories") or details.get("safety_violations")
    return categories if isinstance(categories, list) else []


def _categories_in_message(error: JsonObject) -> list[str]:
    match = _VIOLATIONS_IN_MESSAGE.search(_message(error))
    if match is None:
        return []
    names = [name.strip(" '\"") for name in match[1].split(",")]
    return list(filter(None, names))


def _categories_in_inner_error(error: JsonObject) -> list[str]:
    inner = _inner_error(error)
    results = inner.get("content_filter_results") or inner.get("content_filter_result")
    return filtered_categories(results)


def _inner_error(error: JsonObject) -> JsonObject:
    inner = error.get("innererror") or error.get("inner_error")
    return inner if isinstance(inner, Mapping) else {}


def _message(error: JsonObject) -> str:
    return str(error.get("message", ""))[:MAX_MESSAGE_CHARACTERS]
