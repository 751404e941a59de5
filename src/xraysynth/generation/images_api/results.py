"""Answers to results: pixels or the reason why there are none, what it cost, and the archive."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xraysynth.errors import ImageError
from xraysynth.generation.images_api.catalogue import Pricing
from xraysynth.generation.images_api.outcomes import Verdict, parse_response, redact_secrets
from xraysynth.generation.images_api.pixels import decode_base64, decode_grey_pixels
from xraysynth.records import GenerationResult, JsonObject, Request, to_json


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """Everything that the calls of a run have in common."""

    make_client: Callable[[], Any]
    build_body: Callable[[Request], JsonObject]
    served_by: str
    pricing: Pricing
    secret: str | None = field(repr=False)
    attempts: int
    give_up_after: int


def fill_placeholders(parameters: JsonObject, request: Request) -> JsonObject:
    """Parameters of one's own, with what stands for those of a request replaced by them."""
    values = {
        "{seed}": request.seed,
        "{seed32}": request.seed % 2**32,
        "{negative_prompt}": request.negative_prompt,
    }
    return {
        name: values.get(value, value) if isinstance(value, str) else value
        for name, value in parameters.items()
    }


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """How a request was asked and answered, its failed attempts included.

    `lost_usd` is what calls without a known answer may have cost.
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
        """What of it goes into the journal and the archive; money is added there."""
        facts: JsonObject = to_json(self)
        return {name: value for name, value in facts.items() if name != "lost_usd"}


def result_from_response(
    call: CallSettings, request: Request, content: bytes, exchange: Exchange
) -> GenerationResult:
    """The result of an answer 200: work for a processor, so not for the event loop's thread."""
    answer = parse_response(content)
    cost = call.pricing.cost_usd(answer.usage, has_image=answer.base64 is not None)
    at_most = call.pricing.max_usd(request.prompt)
    facts = {
        **exchange.facts,
        "cost_usd": 0.0 if cost is None else cost,
        "cost_possible_usd": exchange.lost_usd + (at_most if cost is None else 0.0),
        "usage": answer.usage,
        "served_model": answer.body_without_image.get("model"),
    }
    if answer.verdict is not None:
        return _build_result(call, request, answer.verdict, facts, answer.body_without_image)
    try:
        data = decode_base64(answer.base64 or "")
        pixels, image = decode_grey_pixels(data)
    except ImageError as error:
        verdict = Verdict(outcome="failed", reason=str(error))
        return _build_result(call, request, verdict, facts, answer.body_without_image)
    asked = str(call.build_body(request).get("size"))
    got = f"{image.width_px}x{image.height_px}"
    facts |= to_json(image) | {"wrong_size": True if asked not in (got, "auto") else None}
    archive = _build_archive(call, request, facts, answer.body_without_image) | {image.suffix: data}
    return GenerationResult(request, "image", pixels, facts=_journal_facts(facts), archive=archive)


def result_without_image(
    call: CallSettings, request: Request, verdict: Verdict, exchange: Exchange, response_body: Any
) -> GenerationResult:
    """The result of an error. What was refused after it had been made may have been billed."""
    maybe = verdict.outcome == "possibly_billed" or verdict.stage == "output"
    at_most = call.pricing.max_usd(request.prompt) if maybe else 0.0
    costs = {"cost_usd": 0.0, "cost_possible_usd": at_most + exchange.lost_usd}
    return _build_result(call, request, verdict, {**exchange.facts, **costs}, response_body)


def _build_result(
    call: CallSettings, request: Request, verdict: Verdict, facts: JsonObject, response_body: Any
) -> GenerationResult:
    reason = redact_secrets(verdict.reason, call.secret)
    full = {**facts, "stage": verdict.stage, "categories": list(verdict.categories)}
    archive = _build_archive(call, request, full | {"reason": reason}, response_body)
    return GenerationResult(
        request, verdict.outcome, reason=reason, facts=_journal_facts(full), archive=archive
    )


def _build_archive(
    call: CallSettings, request: Request, facts: JsonObject, response_body: Any
) -> dict[str, bytes]:
    """Request, answer without the image, and facts, as JSON without the key."""
    record = {
        "request": dict(call.build_body(request)),
        "response": response_body,
        "facts": dict(facts),
    }
    text = json.dumps(record, sort_keys=True, default=str, ensure_ascii=False)
    return {"json": redact_secrets(text, call.secret).encode()}


def _journal_facts(facts: JsonObject) -> JsonObject:
    return {k: v for k, v in facts.items() if k != "headers" and v is not None and v != []}
