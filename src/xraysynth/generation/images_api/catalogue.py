"""The dated catalogue of image models, and what a call to one may cost and did cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

CATALOGUE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is known of a model; an unknown one takes the parameters that every server takes."""

    model_id: str
    known: bool = False
    retired: date | None = None
    successor: str = ""
    parameters: tuple[str, ...] = ("prompt", "model", "n", "size", "response_format")
    sizes: tuple[str, ...] = ()
    size_multiple_px: int | None = None
    qualities: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    output_tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    images_per_minute: float | None = None

    def takes_size(self, size: str) -> bool:
        """Whether a size such as 1024x1024 is listed, or obeys the model's rule for free sizes."""
        if not self.known or size in self.sizes:
            return True
        if self.size_multiple_px is None or size == "auto":
            return False
        width, height = (int(side) for side in size.split("x"))
        fits = width % self.size_multiple_px == height % self.size_multiple_px == 0
        return fits and 1 / 3 <= width / height <= 3


@cache
def catalogue() -> dict[str, Any]:
    """The yaml file."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text())
    return content


def model(model_id: str) -> Model:
    """The catalogue's entry of an id or of a snapshot of it; an unknown id has `known` False."""
    for name, entry in catalogue()["models"].items():
        if model_id == name or model_id in entry.get("snapshots", ()):
            values = {k: v for k, v in entry.items() if k not in ("snapshots", "source")}
            lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
            return Model(model_id=model_id, known=True, **(values | lists))
    return Model(model_id=model_id)


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """Dollars of one call that makes one image.

    A declared price per image goes before the catalogue's price per token. `discount` is the factor
    of the Batch API.
    """

    declared_usd: float | None
    prices: Mapping[str, float]
    output_tokens: int | None
    discount: float = 1.0

    @property
    def known(self) -> bool:
        """Whether an upper bound can be given before a call."""
        return self.declared_usd is not None or bool(self.prices and self.output_tokens)

    def tokens(self, prompt: str) -> int:
        """Tokens of a call as rate limits count them: four characters to a token of text."""
        return (self.output_tokens or 0) + 16 + len(prompt) // 4

    def expected_usd(self, prompt: str) -> float:
        """What one image should cost."""
        return self._usd(16 + len(prompt) // 4)

    def at_most_usd(self, prompt: str) -> float:
        """What one image can cost: no token of text is shorter than a byte."""
        return self._usd(64 + len(prompt.encode()))

    def _usd(self, text_tokens: int) -> float:
        if self.declared_usd is not None:
            return self.declared_usd * self.discount
        output = (self.output_tokens or 0) * self.prices["image_out"]
        return (text_tokens * self.prices["text_in"] + output) / 1e6 * self.discount

    def cost_usd(self, usage: Mapping[str, Any] | None, *, image: bool) -> float | None:
        """Returned usage times the dated price; None when the answer does not say.

        An image without output tokens, as some relays report it, says nothing; nor does an answer that
        holds neither an image nor its usage.

        >>> tokens = {"text_in": 5, "image_in": 8, "image_out": 30}
        >>> pricing = Pricing(declared_usd=None, prices=tokens, output_tokens=1756)
        >>> pricing.cost_usd({"input_tokens": 40, "output_tokens": 1756}, image=True)
        0.05288
        """
        if self.declared_usd is not None and (image or usage is not None):
            return self.declared_usd * self.discount
        if not usage or not self.prices or (image and not _count(usage.get("output_tokens"))):
            return None
        details = usage.get("input_tokens_details")
        details = details if isinstance(details, Mapping) else {}
        images = _count(details.get("image_tokens"))
        text = max(0, _count(usage.get("input_tokens")) - images)
        output = _count(usage.get("output_tokens"))
        parts = zip((text, images, output), ("text_in", "image_in", "image_out"), strict=True)
        return sum(tokens * self.prices[name] for tokens, name in parts) / 1e6 * self.discount


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
