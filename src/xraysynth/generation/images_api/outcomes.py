"""Failures of an images API: a refusal or an error, whether to retry, and whether it was billed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.generation.images_api.moderation import is_refusal, parse_moderation
from xraysynth.records import JsonObject, Outcome


class ApiError(XraysynthError):
    """The service will answer no further call; earlier results are kept."""


class BudgetError(ApiError):
    """The budget does not allow the next call."""


QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
RETRYABLE_STATUSES = (409, 429, 500, 502, 503, 520, 529)
REJECTING_STATUSES = (401, 403, 404, *range(300, 400))
"""Statuses with which a server rejects every request, whatever its prompt."""

POSSIBLY_BILLED_STATUSES = (408, 504, 522, 524)
"""Statuses of a gateway that gave up waiting: the server behind it may have made the image."""

NOT_REACHED_ERRORS = frozenset({"ConnectTimeout", "ConnectError", "PoolTimeout"})
"""Names of exceptions that are raised before a request is sent."""

REMEDIES = {
    "401": "check the key in {key}",
    "403": "the account behind {key} may not use {model}",
    "404": "{served_by} has no model {model}: it may have been withdrawn; choose another with "
    "{option}, or score images made earlier with generator=archive",
    "429": "the account has no money left: add some",
}
"""Status -> what to do after it has stopped a run."""


@dataclass(frozen=True, kw_only=True)
class CallFailure:
    """Why a call returned no image, and what to do next.

    Attributes:
        outcome: The outcome to record.
        reason: A text for people.
        retry: Whether to send the request again.
        rate_limited: Whether to wait first, because of a rate limit.
        stop: Whether to stop the run, as every other request would fail as well.
        retry_after: Seconds that the server asks to wait, or None.
        stage: Stage of moderation that refused the request, such as "input" or "output", or None.
        categories: Categories for which the request was refused.
    """

    outcome: Outcome
    reason: str
    retry: bool = False
    rate_limited: bool = False
    stop: bool = False
    retry_after: float | None = None
    stage: str | None = None
    categories: tuple[str, ...] = ()


def classify_status(status: int, headers: Mapping[str, str], body: Any) -> CallFailure:
    """Classifies an answer whose status is not 2xx; by the status alone if the body is no help.

    Args:
        status: HTTP status.
        headers: Headers of the answer, by name in lower case.
        body: The answer as JSON values, in any form.
    """
    try:
        return _classify_error(status, headers, _extract_error(body))
    except Exception as error:  # a body of any form, such as one that is nested too deeply
        message = f"an error that cannot be understood ({type(error).__name__})"
        return _classify_error(status, headers, {"message": message})


def _classify_error(status: int, headers: Mapping[str, str], error: JsonObject) -> CallFailure:
    code = str(error.get("code") or "")
    shown_code = f" {code}" if code not in ("", str(status)) else ""
    reason = f"HTTP {status}{shown_code}: {error.get('message') or 'no message'}"
    if is_refusal(code, error):
        stage, categories = parse_moderation(error)
        return CallFailure(outcome="refused", reason=reason, stage=stage, categories=categories)
    if code in QUOTA_CODES or status in REJECTING_STATUSES:
        return CallFailure(outcome="failed", reason=reason, stop=True)
    if status in POSSIBLY_BILLED_STATUSES:
        return CallFailure(outcome="possibly_billed", reason=reason)
    return CallFailure(
        outcome="failed",
        reason=reason,
        retry=status in RETRYABLE_STATUSES,
        rate_limited=status == 429,
        retry_after=parse_retry_after(headers),
    )


def classify_exception(error: BaseException) -> CallFailure:
    """Classifies a call that was broken off by an exception.

    The call may have been worked on and billed, unless the server was not reached.
    """
    names = _exception_names(error)
    chain = " from ".join(dict.fromkeys(names))
    if NOT_REACHED_ERRORS.intersection(names):
        return CallFailure(outcome="failed", reason=f"not reached ({chain})", retry=True)
    return CallFailure(outcome="possibly_billed", reason=f"no answer to what was sent ({chain})")


def _exception_names(error: BaseException | None) -> list[str]:
    """Returns the class names of an exception and of its causes, from the outermost inwards."""
    if error is None:
        return []
    return [type(error).__name__, *_exception_names(error.__cause__)]


def remedy(reason: str, *, key: str, served_by: str, model: str, option: str) -> str:
    """Returns what to do about the failure that stopped a run.

    Args:
        reason: The reason of a `CallFailure`.
        key: Name of the environment variable that holds the key.
        served_by: Who answers.
        model: Name of the model.
        option: Name of the option that selects the model.
    """
    status = re.match(r"HTTP (\d{3})", reason)
    text = REMEDIES.get(status[1] if status else "", "remove the cause")
    return text.format(key=key, served_by=served_by, model=model, option=option)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that the server asks to wait: from a number or a date, or None.

    Args:
        headers: Headers of the answer, by name in lower case.
    """
    for name, unit_seconds in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * unit_seconds
        try:
            wait = parsedate_to_datetime(value) - datetime.now(UTC)
        except (TypeError, ValueError, OverflowError):
            continue
        return max(0.0, wait.total_seconds())
    return None


def _extract_error(body: Any) -> JsonObject:
    """Returns the error object of an answer, or an object with its text as the message."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    return error if isinstance(error, Mapping) else {"message": str(error or "")[:500]}
