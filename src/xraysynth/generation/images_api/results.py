"""Results of calls: pixels or the reason why there are none, the cost, and what is archived."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xraysynth.errors import ImageError
from xraysynth.generation.images_api.outcomes import CallFailure
from xraysynth.generation.images_api.pixels import decode_base64, decode_grey_pixels
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.redaction import clean_text, redact_values
from xraysynth.generation.images_api.responses import ApiResponse, parse_response
from xraysynth.records import GenerationResult, JsonObject, Request, to_json

RECORDED_HEADERS = (
    "date",
    "openai-model",
    "openai-processing-ms",
    "openai-version",
    "x-request-id",
)
"""Headers of an answer that are archived."""

MAX_FACT_CHARACTERS = 4000
"""Longest fact in the journal; the archive holds the whole."""


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """Settings that all calls of a run share.

    Attributes:
        make_client: Makes the SDK's asynchronous client.
        build_body: Builds the body of a call from a request.
        served_by: Who answers, for records.
        pricing: The price of one call.
        secret: The key, which must be stored nowhere, or None.
        attempts: Most calls for one request, not counting rate limits.
        give_up_after: Failures in a row after which the run stops.
        deadline_seconds: Longest time of a whole call, also where its answer comes drop by drop.
    """

    make_client: Callable[[], Any]
    build_body: Callable[[Request], JsonObject]
    served_by: str
    pricing: Pricing
    secret: str | None = field(repr=False)
    attempts: int
    give_up_after: int
    deadline_seconds: float | None = None


def fill_placeholders(parameters: JsonObject, request: Request) -> JsonObject:
    """Replaces "{seed}", "{seed32}" and "{negative_prompt}" by the values of a request.

    Args:
        parameters: Extra parameters of a call. Only values that equal a placeholder are replaced.
        request: The request.
    """
    values = {
        "{seed}": request.seed,
        "{seed32}": request.seed % 2**32,
        "{negative_prompt}": request.negative_prompt,
    }
    body: dict[str, object] = {}
    for name, value in parameters.items():
        body[name] = values.get(value, value) if isinstance(value, str) else value
    return body


def is_json(value: Any) -> bool:
    """Whether a value can be sent as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """How a request was sent and answered, with its failed attempts.

    Attributes:
        served_by: Who answered.
        seconds: Time of the last attempt.
        retries: Failed attempts before the last one.
        retry_reasons: Why each of them failed.
        request_id: The service's id of the last attempt.
        status: HTTP status of the last attempt.
        headers: Some headers of the answer.
        lost_usd: Dollars that calls without a known answer may have cost.
    """

    served_by: str
    seconds: float | None = None
    retries: int = 0
    retry_reasons: Sequence[str] = ()
    request_id: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    lost_usd: float = 0.0

    @property
    def facts(self) -> JsonObject:
        """Fields for the journal and the archive; `lost_usd` becomes part of the costs there."""
        facts = dict(to_json(self))
        del facts["lost_usd"]
        return facts


def result_from_response(
    settings: CallSettings, request: Request, content: bytes, exchange: Exchange
) -> GenerationResult:
    """Builds the result of an answer with status 200.

    An answer that cannot be understood, for whatever reason, is possibly billed. Decoding the image
    keeps a processor busy, so it must not run in the event loop's thread.

    Args:
        settings: Settings of the run.
        request: The request that was answered.
        content: The body of the answer.
        exchange: How the answer came.
    """
    try:
        return _understand_response(settings, request, content, exchange)
    except Exception as error:  # one bad answer must not end a run, and again when it is replayed
        failure = misunderstood_answer(error)
        body = {"unreadable_bytes": len(content)}
        return result_without_image(settings, request, failure, exchange, body)


def misunderstood_answer(error: Exception) -> CallFailure:
    """Returns the failure of an answer that raised an error when it was taken apart."""
    reason = f"the answer cannot be understood ({type(error).__name__})"
    return CallFailure(outcome="possibly_billed", reason=reason)


def _understand_response(
    settings: CallSettings, request: Request, content: bytes, exchange: Exchange
) -> GenerationResult:
    response = parse_response(content)
    facts = {**exchange.facts, **_response_facts(settings, request, response, exchange.lost_usd)}
    body = response.body_without_image
    if response.failure is not None:
        return _build_failed_result(settings, request, response.failure, facts, body)
    try:
        data = decode_base64(response.base64 or "")
        pixels, image = decode_grey_pixels(data)
    except ImageError as error:
        failure = CallFailure(outcome="failed", reason=str(error))
        return _build_failed_result(settings, request, failure, facts, body)
    requested_size = str(settings.build_body(request).get("size"))
    is_wrong_size = requested_size not in (f"{image.width_px}x{image.height_px}", "auto")
    facts |= {**to_json(image), "wrong_size": True if is_wrong_size else None}
    archive = _build_archive(settings, request, facts, body)
    if not (settings.secret and settings.secret.encode() in data):
        archive[image.suffix] = data  # unchanged, so that a file with the key in it is left out
    journal_facts = _journal_facts(facts, settings.secret)
    return GenerationResult(request, "image", pixels, facts=journal_facts, archive=archive)


def _response_facts(
    settings: CallSettings, request: Request, response: ApiResponse, lost_usd: float
) -> JsonObject:
    """Computes the costs of an answer; one that does not report its usage may cost the maximum."""
    cost_usd = settings.pricing.cost_usd(response.usage, has_image=response.base64 is not None)
    max_usd = settings.pricing.max_usd(request.prompt)
    return {
        "cost_usd": 0.0 if cost_usd is None else cost_usd,
        "cost_possible_usd": lost_usd + (max_usd if cost_usd is None else 0.0),
        "usage": response.usage,
        "served_model": response.body_without_image.get("model"),
    }


def result_without_image(
    settings: CallSettings,
    request: Request,
    failure: CallFailure,
    exchange: Exchange,
    response_body: Any,
) -> GenerationResult:
    """Builds the result of a call that failed.

    An image that was made and then refused may have been billed.

    Args:
        settings: Settings of the run.
        request: The request that failed.
        failure: Why it failed.
        exchange: How the answer came, if one came.
        response_body: The answer as JSON values, or None.
    """
    is_maybe_billed = failure.outcome == "possibly_billed" or failure.stage == "output"
    max_usd = settings.pricing.max_usd(request.prompt) if is_maybe_billed else 0.0
    costs = {"cost_usd": 0.0, "cost_possible_usd": max_usd + exchange.lost_usd}
    return _build_failed_result(
        settings, request, failure, {**exchange.facts, **costs}, response_body
    )


def billed_usd(result: GenerationResult) -> float:
    """Returns the dollars that a result has cost or may have cost."""
    return float(result.facts["cost_usd"] + result.facts["cost_possible_usd"])


def _build_failed_result(
    settings: CallSettings,
    request: Request,
    failure: CallFailure,
    facts: JsonObject,
    response_body: Any,
) -> GenerationResult:
    reason = clean_text(failure.reason, settings.secret)
    facts = {**facts, "stage": failure.stage, "categories": list(failure.categories)}
    archive = _build_archive(settings, request, {**facts, "reason": reason}, response_body)
    return GenerationResult(
        request,
        failure.outcome,
        reason=reason,
        facts=_journal_facts(facts, settings.secret),
        archive=archive,
    )


def _build_archive(
    settings: CallSettings, request: Request, facts: JsonObject, response_body: Any
) -> dict[str, bytes]:
    """Writes request, answer without the image, and facts as JSON without the key."""
    record = {
        "request": settings.build_body(request),
        "response": _storable_body(response_body, settings.secret),
        "facts": facts,
    }
    values = redact_values(record, settings.secret)
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=False)
    return {"json": text.encode()}


def _storable_body(body: Any, secret: str | None) -> Any:
    """Returns the body of an answer as it is archived, or a note if it is nested too deeply."""
    try:
        body = redact_values(body, secret)
        json.dumps(body, sort_keys=True, default=str)
    except (RecursionError, ValueError) as error:
        return {"not_archived": type(error).__name__}
    return body


def _journal_facts(facts: JsonObject, secret: str | None) -> JsonObject:
    """Returns the facts for the pool's journal: without headers, empty values and the key."""
    journal_facts: dict[str, object] = {}
    for name, value in facts.items():
        if name != "headers" and value is not None and value != []:
            journal_facts[name] = _shorten(redact_values(value, secret))
    return journal_facts


def _shorten(value: Any) -> Any:
    """Returns a fact, or the first `MAX_FACT_CHARACTERS` of its text if it is longer."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= MAX_FACT_CHARACTERS else f"{text[:MAX_FACT_CHARACTERS]}…"
