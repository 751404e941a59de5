"""What an answer of an images API means: an image, a refusal, a failure, and what it may have cost."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.records import JsonObject, Outcome


class ApiError(XraysynthError):
    """The service will answer no further call; what came before is kept."""


class BudgetError(ApiError):
    """The budget does not allow the next call."""


REFUSAL_CODES = ("moderation_blocked", "content_policy_violation", "contentfilter")
QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
RETRYABLE_STATUSES = (409, 429, 500, 502, 503, 520, 529)
POSSIBLY_BILLED_STATUSES = (408, 504, 522, 524)
"""A gateway gave up waiting: what stands behind it may have made the image."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to record, and what to do next.

    `retry`: ask again; `limited`: because of a rate limit; `stop`: no other request would fare better.
    """

    outcome: Outcome
    reason: str
    retry: bool = False
    rate_limited: bool = False
    stop: bool = False
    retry_after: float | None = None
    stage: str | None = None
    categories: tuple[str, ...] = ()


def classify_status(status: int, headers: Mapping[str, str], body: Any) -> Verdict:
    """The meaning of an answer that is not 2xx."""
    error = _extract_error(body)
    code = str(error.get("code") or "")
    named = f" {code}" if code not in ("", str(status)) else ""
    reason = f"HTTP {status}{named}: {error.get('message') or 'no message'}"
    if _is_refusal(code, error):
        stage, categories = _parse_moderation(error)
        return Verdict(outcome="refused", reason=reason, stage=stage, categories=categories)
    if code in QUOTA_CODES:
        return Verdict(outcome="failed", reason=reason, stop=True)
    if status in (401, 403, 404) or 300 <= status < 400:
        return Verdict(outcome="failed", reason=reason, stop=True)
    if status in POSSIBLY_BILLED_STATUSES:
        return Verdict(outcome="possibly_billed", reason=reason)
    return Verdict(
        outcome="failed",
        reason=reason,
        retry=status in RETRYABLE_STATUSES,
        rate_limited=status == 429,
        retry_after=parse_retry_after(headers),
    )


def classify_exception(error: BaseException) -> Verdict:
    """The meaning of an exchange that broke off: what was sent may have been worked on and billed."""
    kinds = {type(e).__name__ for e in _exception_chain(error)}
    reason = " from ".join(dict.fromkeys(type(e).__name__ for e in _exception_chain(error)))
    if kinds & {"ConnectTimeout", "ConnectError", "PoolTimeout"}:
        return Verdict(outcome="failed", reason=f"not reached ({reason})", retry=True)
    return Verdict(outcome="possibly_billed", reason=f"no answer to what was sent ({reason})")


REMEDIES = {
    "401": "check the key in {key}",
    "403": "the account behind {key} may not use {model}",
    "404": "{served_by} has no model {model}: it may have been withdrawn; choose another with "
    "{option}, or score images made earlier with generator=archive",
    "429": "the account has no money left: add some",
}
"""What to do when the service will answer no further call, by status."""


def remedy(reason: str, *, key: str, served_by: str, model: str, option: str) -> str:
    """What to do about the reason of a `Verdict` that stopped a run.

    `key` is the variable that holds the key, `option` the one that names the model.
    """
    status = re.match(r"HTTP (\d{3})", reason)
    text = REMEDIES.get(status[1] if status else "", "mend the cause")
    return text.format(key=key, served_by=served_by, model=model, option=option)


def _exception_chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_exception_chain(error.__cause__)]


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to be left alone: a number or a date; None when it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * unit
        try:
            wait = parsedate_to_datetime(value) - datetime.now(UTC)
        except (TypeError, ValueError):
            continue
        return max(0.0, wait.total_seconds())
    return None


def _extract_error(body: Any) -> JsonObject:
    error = body.get("error", body) if isinstance(body, Mapping) else body
    return error if isinstance(error, Mapping) else {"message": str(error or "")[:500]}


def _is_refusal(code: str, error: JsonObject) -> bool:
    """By the code; by the message where a proxy has put a code of its own in its place."""
    codes = {code.lower(), str(_inner_error(error).get("code", "")).lower()}
    said = re.search(
        rf"safety_violations=\[|{'|'.join(REFUSAL_CODES)}", str(error.get("message", ""))
    )
    return bool(codes & {*REFUSAL_CODES, "responsibleaipolicyviolation"}) or said is not None


def _inner_error(error: JsonObject) -> JsonObject:
    inner = error.get("innererror") or error.get("inner_error")
    return inner if isinstance(inner, Mapping) else {}


def _parse_moderation(error: JsonObject) -> tuple[str | None, tuple[str, ...]]:
    """Stage and categories, wherever the service puts them; None and () where it does not say."""
    details = error.get("moderation_details")
    details = details if isinstance(details, Mapping) else error
    stage = details.get("moderation_stage") or details.get("stage")
    named = details.get("categories") or details.get("safety_violations")
    found = list(named) if isinstance(named, list) else []
    listed = re.search(r"safety_violations=\[([^\]]*)\]", str(error.get("message", "")))
    if listed:
        found += [name.strip(" '\"") for name in listed[1].split(",") if name.strip(" '\"")]
    inner = _inner_error(error)
    found += filtered_categories(
        inner.get("content_filter_results") or inner.get("content_filter_result")
    )
    if stage is None and re.search(r"\b(generated image|output)\b", str(error.get("message", ""))):
        stage = "output"
    return stage, tuple(dict.fromkeys(map(str, found)))


def filtered_categories(results: Any) -> list[str]:
    """Azure's content filter: the categories that it filtered."""
    if not isinstance(results, Mapping):
        return []
    return [n for n, r in results.items() if isinstance(r, Mapping) and r.get("filtered")]


@dataclass(frozen=True, kw_only=True)
class ApiResponse:
    """An answer 200, taken apart: the image as base64 or why there is none, and what was used."""

    base64: str | None
    verdict: Verdict | None
    usage: JsonObject | None
    body_without_image: Any
    """The answer without the image."""


def parse_response(content: bytes) -> ApiResponse:
    """Take an answer 200 apart; one that is no JSON has been worked on, and perhaps billed."""
    try:
        body = json.loads(content)
        items = list(body.get("data") or [])
    except (ValueError, AttributeError, TypeError) as error:
        reason = f"the answer is not the JSON that the endpoint promises ({type(error).__name__})"
        broken = Verdict(outcome="possibly_billed", reason=reason)
        length = {"unreadable_bytes": len(content)}
        return ApiResponse(base64=None, verdict=broken, usage=None, body_without_image=length)
    image = items[0].get("b64_json") if items and isinstance(items[0], Mapping) else None
    image = str(image) if image else None
    verdict = None if image else _explain_missing_image(items)
    slim = {**body, "data": [_strip_image(item) for item in items]}
    usage = body.get("usage") if isinstance(body.get("usage"), Mapping) else None
    return ApiResponse(base64=image, verdict=verdict, usage=usage, body_without_image=slim)


def _explain_missing_image(items: list[Any]) -> Verdict:
    first = items[0] if items and isinstance(items[0], Mapping) else {}
    categories = tuple(filtered_categories(first.get("content_filter_results")))
    if categories:
        reason = f"the image was filtered: {', '.join(categories)}"
        return Verdict(outcome="refused", reason=reason, stage="output", categories=categories)
    if first.get("url"):
        reason = "the server answered with a link; ask for the image itself with extra_body="
        return Verdict(outcome="failed", reason=reason + "{response_format: b64_json}")
    return Verdict(outcome="empty", reason="the answer holds no image")


def _strip_image(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {k: v for k, v in item.items() if k not in ("b64_json", "url")}


def redact_secrets(text: str, secret: str | None) -> str:
    """Text without the key, and without anything that looks like one."""
    if secret:
        text = text.replace(secret, "***")
    return re.sub(r"\b(sk|sess)-[\w*.\-]{4,}", "***", text)
