"""The price of one call: expected, at most, and after the call."""

from collections.abc import Mapping
from dataclasses import dataclass

from xraysynth.records import JsonObject

CHARACTERS_PER_TOKEN = 4
"""Characters per token of English text, on average."""

MESSAGE_TOKENS = 16
"""Expected number of tokens that a call adds to its prompt."""

MAX_MESSAGE_TOKENS = 64
"""Largest number of tokens that a call can add to its prompt."""

MAX_TOKENS = 100_000
"""Largest number of tokens of one image that is plausible: ten times the largest known one."""


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """Computes the dollars of one call that makes one image.

    Attributes:
        declared_usd: Price per image that the user declares; it takes precedence over `prices`.
        prices: Kind of token ("text_in", "image_in", "image_out") -> dollars per million tokens.
        output_tokens: Tokens of one image, or None if unknown.
        discount: Factor by which the price is multiplied: that of the Batch API, else 1.
    """

    declared_usd: float | None
    prices: Mapping[str, float]
    output_tokens: int | None
    discount: float = 1.0

    @property
    def has_price(self) -> bool:
        """Whether an upper bound of the price is known before a call."""
        return self.declared_usd is not None or bool(self.prices and self.output_tokens)

    def count_tokens(self, prompt: str) -> int:
        """Estimates the tokens of a call, as rate limits count them."""
        return (self.output_tokens or 0) + _estimate_text_tokens(prompt)

    def expected_usd(self, prompt: str) -> float:
        """Estimates what one image costs."""
        return self._compute_usd(_estimate_text_tokens(prompt))

    def max_usd(self, prompt: str) -> float:
        """Computes an upper bound of what one image costs: each byte of the prompt is one token."""
        return self._compute_usd(MAX_MESSAGE_TOKENS + len(prompt.encode()))

    def _compute_usd(self, text_tokens: int) -> float:
        if self.declared_usd is not None:
            return self.declared_usd * self.discount
        output = (self.output_tokens or 0) * self.prices["image_out"]
        return (text_tokens * self.prices["text_in"] + output) / 1e6 * self.discount

    def cost_usd(self, usage: JsonObject | None, *, has_image: bool) -> float | None:
        """Computes what a call cost, from the token usage in its answer and `prices`.

        Args:
            usage: The tokens that the answer reports, or None.
            has_image: Whether the answer holds an image.

        Returns:
            Dollars. None where they are unknown: the answer reports no usage (and, with `declared_usd`,
            has no image), it has an image but reports no output tokens, as some relays do, or it
            reports more than `MAX_TOKENS`.

        >>> tokens = {"text_in": 5, "image_in": 8, "image_out": 30}
        >>> pricing = Pricing(declared_usd=None, prices=tokens, output_tokens=1756)
        >>> pricing.cost_usd({"input_tokens": 40, "output_tokens": 1756}, has_image=True)
        0.05288
        """
        if self.declared_usd is not None and (has_image or usage is not None):
            return self.declared_usd * self.discount
        if not usage or not self.prices:
            return None
        output_tokens = _parse_count(usage.get("output_tokens"))
        if has_image and not output_tokens:
            return None
        details = usage.get("input_tokens_details")
        image_tokens = 0
        if isinstance(details, Mapping):
            image_tokens = _parse_count(details.get("image_tokens"))
        input_tokens = _parse_count(usage.get("input_tokens"))
        if max(input_tokens, image_tokens, output_tokens) > MAX_TOKENS:
            return None
        text_tokens = max(0, input_tokens - image_tokens)
        millionths = text_tokens * self.prices["text_in"]
        millionths += image_tokens * self.prices["image_in"]
        millionths += output_tokens * self.prices["image_out"]
        return millionths / 1e6 * self.discount


def _estimate_text_tokens(prompt: str) -> int:
    return MESSAGE_TOKENS + len(prompt) // CHARACTERS_PER_TOKEN


def _parse_count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
