"""Estimate of what a run would cost and how long it would take, before any call is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from xraysynth.generation.images_api.catalogue import load_catalogue
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.records import Request

MAX_BATCH_SECONDS = 24 * 3600.0
PROMPT_TOO_LONG = "the prompt is longer than the endpoint takes"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Images, dollars and time of a run.

    Attributes:
        per_class: Class -> {"images": number, "usd": expected dollars}.
        images: Images in total.
        usd: Expected dollars in total.
        usd_at_most: Upper bound of the dollars in total.
        seconds: Duration at the given rates; None where no rate is known.
        refused: Reason -> requests that would not be sent.
    """

    per_class: Mapping[str, Mapping[str, float]]
    images: int
    usd: float
    usd_at_most: float
    seconds: float | None
    refused: Mapping[str, int]

    def __str__(self) -> str:
        lines: list[str] = []
        for label, entry in self.per_class.items():
            lines.append(f"{label}: {entry['images']:.0f} images, ${entry['usd']:.2f}")
        duration = "unknown, as no limit per minute is given"
        if self.seconds is not None:
            duration = f"{timedelta(seconds=round(self.seconds))} at the given limits"
        total = f"total: {self.images} images, ${self.usd:.2f} (at most ${self.usd_at_most:.2f})"
        lines.append(f"{total}, time {duration}")
        for reason, count in self.refused.items():
            lines.append(f"not sent: {count} ({reason})")
        return "\n".join(lines)


def is_sendable(request: Request) -> bool:
    """Whether the prompt is short enough for the endpoint."""
    return len(request.prompt) <= load_catalogue().maximum_prompt_characters


def estimate_cost(
    requests: Sequence[Request],
    pricing: Pricing,
    *,
    per_minute: Mapping[str, float | None],
    batch: bool,
) -> Estimate:
    """Estimates a run over these requests.

    Args:
        requests: The images that the run would request.
        pricing: The price of one call.
        per_minute: "requests", "images", "tokens" -> rate per minute, or None if unknown.
        batch: Whether the Batch API is used, which takes up to a day.
    """
    sendable = list(filter(is_sendable, requests))
    prices = [pricing.expected_usd(request.prompt) for request in sendable]
    too_long = len(requests) - len(sendable)
    return Estimate(
        per_class=_sum_per_class(sendable, prices),
        images=len(sendable),
        usd=sum(prices),
        usd_at_most=sum(pricing.max_usd(request.prompt) for request in sendable),
        seconds=MAX_BATCH_SECONDS if batch else _estimate_seconds(sendable, pricing, per_minute),
        refused={PROMPT_TOO_LONG: too_long} if too_long else {},
    )


def _sum_per_class(
    requests: Sequence[Request], prices: Sequence[float]
) -> dict[str, dict[str, float]]:
    per_class: dict[str, dict[str, float]] = {}
    for request, usd in zip(requests, prices, strict=True):
        entry = per_class.setdefault(request.label, {"images": 0.0, "usd": 0.0})
        entry["images"] += 1
        entry["usd"] += usd
    return per_class


def _estimate_seconds(
    requests: Sequence[Request], pricing: Pricing, per_minute: Mapping[str, float | None]
) -> float | None:
    """Returns the time that the slowest of the known rates needs."""
    tokens = sum(pricing.count_tokens(request.prompt) for request in requests)
    amounts = {"requests": len(requests), "images": len(requests), "tokens": tokens}
    durations = [60 * amounts[unit] / rate for unit, rate in per_minute.items() if rate]
    return max(durations, default=None)
