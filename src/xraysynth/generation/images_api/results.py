"""Answers to results: pixels or the reason why there are none, what it cost, and the archive."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xraysynth.errors import ImageError
from xraysynth.generation.images_api.catalogue import Pricing
from xraysynth.generation.images_api.outcomes import Verdict, read_answer, scrubbed
from xraysynth.generation.images_api.pixels import decode_base64, grey_pixels
from xraysynth.records import Generated, Request


@dataclass(frozen=True, kw_only=True)
class Call:
    """Everything that the calls of a run have in common."""

    client: Callable[[], Any]
    body: Callable[[Request], dict[str, Any]]
    served_by: str
    pricing: Pricing
    secret: str | None = field(repr=False)
    attempts: int
    give_up_after: int


def understood(call: Call, request: Request, content: bytes, facts: Mapping[str, Any]) -> Generated:
    """The result of an answer 200: work for a processor, so not for the event loop's thread."""
    answer = read_answer(content)
    cost = call.pricing.cost_usd(answer.usage, image=answer.base64 is not None)
    at_most = call.pricing.at_most_usd(request.prompt)
    facts = {k: v for k, v in facts.items() if k != "lost_usd"} | {
        "cost_usd": 0.0 if cost is None else cost,
        "cost_possible_usd": facts["lost_usd"] + (at_most if cost is None else 0.0),
        "usage": answer.usage,
        "served_model": answer.slim.get("model"),
    }
    if answer.verdict is not None:
        return _result(call, request, answer.verdict, facts, answer.slim)
    try:
        data = decode_base64(answer.base64 or "")
        pixels, suffix, measured = grey_pixels(data)
    except ImageError as error:
        verdict = Verdict(outcome="failed", reason=str(error))
        return _result(call, request, verdict, facts, answer.slim)
    asked = str(call.body(request).get("size"))
    got = f"{measured['width_px']}x{measured['height_px']}"
    facts |= {**measured, "wrong_size": True if asked not in (got, "auto") else None}
    archive = _archive(call, request, facts, answer.slim) | {suffix: data}
    return Generated(request, "image", pixels, facts=_for_journal(facts), archive=archive)


def without_image(
    call: Call, request: Request, verdict: Verdict, facts: Mapping[str, Any], said: Any
) -> Generated:
    """The result of an error. What was refused after it had been made may have been billed."""
    maybe = verdict.outcome == "possibly_billed" or verdict.stage == "output"
    at_most = call.pricing.at_most_usd(request.prompt) if maybe else 0.0
    kept = {k: v for k, v in facts.items() if k != "lost_usd"}
    costs = {"cost_usd": 0.0, "cost_possible_usd": at_most + facts["lost_usd"]}
    return _result(call, request, verdict, kept | costs, said)


def _result(
    call: Call, request: Request, verdict: Verdict, facts: Mapping[str, Any], said: Any
) -> Generated:
    reason = scrubbed(verdict.reason, call.secret)
    full = {**facts, "stage": verdict.stage, "categories": list(verdict.categories)}
    archive = _archive(call, request, full | {"reason": reason}, said)
    return Generated(
        request, verdict.outcome, reason=reason, facts=_for_journal(full), archive=archive
    )


def _archive(call: Call, request: Request, facts: Mapping[str, Any], said: Any) -> dict[str, bytes]:
    """Request, answer without the image, and facts, as JSON without the key."""
    record = {"request": call.body(request), "response": said, "facts": dict(facts)}
    text = json.dumps(record, sort_keys=True, default=str, ensure_ascii=False)
    return {"json": scrubbed(text, call.secret).encode()}


def _for_journal(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in facts.items() if k != "headers" and v is not None and v != []}
