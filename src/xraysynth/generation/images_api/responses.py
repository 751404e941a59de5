"""Successful answers of an images API, taken apart: the image, the usage, and everything else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xraysynth.generation.images_api.moderation import filtered_categories
from xraysynth.generation.images_api.outcomes import CallFailure
from xraysynth.records import JsonObject

IMAGE_FIELDS = ("b64_json", "url")


@dataclass(frozen=True, kw_only=True)
class ApiResponse:
    """The parts of an answer with status 200.

    Attributes:
        base64: The image, or None.
        failure: Why there is no image; None where there is one.
        usage: The tokens that the answer reports, or None.
        body_without_image: The answer as JSON values, without the image.
    """

    base64: str | None
    failure: CallFailure | None
    usage: JsonObject | None
    body_without_image: Any


def parse_response(content: bytes) -> ApiResponse:
    """Takes an answer with status 200 apart.

    An answer that is not JSON is possibly billed: the server has worked on the request.

    Args:
        content: The body of the answer, in any form.
    """
    try:
        body = json.loads(content)
        data = body.get("data")
    except (ValueError, AttributeError, RecursionError) as error:
        return _unreadable_response(content, error)
    items = data if isinstance(data, list) else []
    first_item = items[0] if items and isinstance(items[0], Mapping) else {}
    image = first_item.get("b64_json")
    usage = body.get("usage")
    return ApiResponse(
        base64=str(image) if image else None,
        failure=None if image else _explain_missing_image(first_item),
        usage=usage if isinstance(usage, Mapping) else None,
        body_without_image={**body, "data": list(map(_without_image, items))},
    )


def _unreadable_response(content: bytes, error: Exception) -> ApiResponse:
    reason = f"the answer is not the JSON that the endpoint promises ({type(error).__name__})"
    failure = CallFailure(outcome="possibly_billed", reason=reason)
    body = {"unreadable_bytes": len(content)}
    return ApiResponse(base64=None, failure=failure, usage=None, body_without_image=body)


def _explain_missing_image(first_item: JsonObject) -> CallFailure:
    categories = tuple(filtered_categories(first_item.get("content_filter_results")))
    if categories:
        reason = f"the image was filtered: {', '.join(categories)}"
        return CallFailure(outcome="refused", reason=reason, stage="output", categories=categories)
    if first_item.get("url"):
        reason = "the server answered with a link; ask for the image itself with extra_body="
        return CallFailure(outcome="failed", reason=reason + "{response_format: b64_json}")
    return CallFailure(outcome="empty", reason="the answer holds no image")


def _without_image(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {name: value for name, value in item.items() if name not in IMAGE_FIELDS}
