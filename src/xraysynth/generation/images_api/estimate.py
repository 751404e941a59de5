"""What a run would cost and how long it would take, before any call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from xraysynth.generation.images_api.catalogue import Pricing, load_catalogue
from xraysynth.records import Request

MAX_BATCH_SECONDS = 24 * 3600.0
PROMPT_TOO_LONG = "the prompt is longer than the endpoint takes"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Images and dollars per class and in total; `seconds` is None where no limit is known.

    `refused` counts what would not be sent, by reason.
    """

    per_class: Mapping[str, Mapping[str, float]]
    images: int
    usd: float
    usd_at_most: float
    seconds: float | None
    refused: Mapping[str, int]

    def __str__(self) -> str:
        lines = [
            f"{label}: {entry['images']:.0f} images, ${entry['usd']:.2f}"
            for label, entry in self.per_class.items()
        ]
        time = "unknown, as no limit per minute is given"
        if self.seconds is not None:
            time = f"{timedelta(seconds=round(self.seconds))} at the given limits"
        total = f"total: {self.images} images, ${self.usd:.2f} (at most ${self.usd_at_most:.2f})"
        refused = [f"not sent: {count} ({reason})" for reason, count in self.refused.items()]
        return "\n".join([*lines, f"{total}, time {time}", *refused])


def is_sendable(request: Request) -> bool:
    """Whether the endpoint takes the prompt."""
    return len(request.prompt) <= load_catalogue().maximum_prompt_characters


def estimate_cost(
    requests: Sequence[Request],
    pricing: Pricing,
    *,
    per_minute: Mapping[str, float | None],
    batch: bool,
) -> Estimate:
    """The estimate of a run over these requests at these limits."""
    sent = [request for request in requests if is_sendable(request)]
    dollars = [pricing.expected_usd(request.prompt) for request in sent]
    per_class: dict[str, dict[str, float]] = {}
    for request, usd in zip(sent, dollars, strict=True):
        entry = per_class.setdefault(request.label, {"images": 0.0, "usd": 0.0})
        entry["images"] += 1
        entry["usd"] += usd
    tokens = sum(pricing.count_tokens(request.prompt) for request in sent)
    amounts = {"requests": len(sent), "images": len(sent), "tokens": tokens}
    waits = [60 * amounts[what] / rate for what, rate in per_minute.items() if rate]
    too_long = len(requests) - len(sent)
    return Estimate(
        per_class=per_class,
        images=len(sent),
        usd=sum(dollars),
        usd_at_most=sum(pricing.max_usd(request.prompt) for request in sent),
        seconds=MAX_BATCH_SECONDS if batch else max(waits, default=None),
        refused={PROMPT_TOO_LONG: too_long} if too_long else {},
    )
