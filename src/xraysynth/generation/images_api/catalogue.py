"""The dated catalogue of image models, and what a call to one may cost and did cost."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path

from xraysynth.errors import ConfigError
from xraysynth.records import JsonObject, match_pattern

CATALOGUE_PATH = Path(__file__).with_name("models.yaml")
SIZE_RULE = match_pattern(
    r"auto|[1-9]\d{1,4}x[1-9]\d{1,4}", "be <width>x<height> in pixels, or auto"
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is known of a model; an unknown one takes the parameters that every server takes."""

    model_id: str
    known: bool = False
    snapshots: tuple[str, ...] = ()
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

    def require_available(self, option: str, *, today: date) -> None:
        """Raise `ConfigError` for a model that was shut down; `option` is the one that names it.

        Warns of a model that is unknown, or is going to be shut down.
        """
        if not self.known:
            as_of = load_catalogue().as_of
            warn_once(
                f"{option}={self.model_id} is not in the catalogue of {as_of}; it is sent as it is"
            )
        if self.retired is None:
            return
        advice = (
            f"use {option}={self.successor}, or score images made earlier with generator=archive"
        )
        if self.retired <= today:
            raise ConfigError(f"{option}={self.model_id} was shut down on {self.retired}; {advice}")
        warn_once(f"{self.model_id} is shut down on {self.retired}; {advice}")

    def require_supported(
        self, option_prefix: str, *, size: str, quality: str, output_format: str
    ) -> None:
        """Raise `ConfigError` for an image that the model does not make; `owner` has the options."""
        choices = {
            "quality": (quality, self.qualities),
            "output_format": (output_format, self.formats),
        }
        for option, (value, values) in choices.items():
            if values and value not in values:
                raise ConfigError(
                    f"{option_prefix}.{option} must be one of {', '.join(values)} for {self.model_id}; "
                    f"got {value!r}"
                )
        if not self.supports_size(size):
            multiple = self.size_multiple_px
            free = f", sides divisible by {multiple} up to an aspect of 1:3" if multiple else ""
            raise ConfigError(
                f"{option_prefix}.size={size} is not to be had from {self.model_id}; it takes "
                f"{', '.join(self.sizes)}{free}"
            )

    def supports_size(self, size: str) -> bool:
        """Whether a size such as 1024x1024 is listed, or obeys the model's rule for free sizes."""
        if not self.known or size in self.sizes:
            return True
        if self.size_multiple_px is None or size == "auto":
            return False
        width, height = (int(side) for side in size.split("x"))
        fits = width % self.size_multiple_px == height % self.size_multiple_px == 0
        return fits and 1 / 3 <= width / height <= 3


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What is known of image models on the day `as_of`; `models` by id."""

    as_of: date
    maximum_prompt_characters: int
    batch_discount: float
    models: Mapping[str, Model]


@cache
def load_catalogue() -> Catalogue:
    """The yaml file."""
    import yaml

    content: JsonObject = yaml.safe_load(CATALOGUE_PATH.read_text())
    return Catalogue(
        as_of=content["as_of"],
        maximum_prompt_characters=content["maximum_prompt_characters"],
        batch_discount=content["batch_discount"],
        models={name: _build_model(name, entry) for name, entry in content["models"].items()},
    )


def _build_model(model_id: str, entry: JsonObject) -> Model:
    values = {name: value for name, value in entry.items() if name != "source"}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    prices = {name: usd for name, usd in entry.get("prices", {}).items() if name != "source"}
    return Model(**values | {"model_id": model_id, "known": True, "prices": prices})


def find_model(model_id: str) -> Model:
    """The catalogue's entry of an id or of a snapshot of it; an unknown id has `known` False."""
    for name, entry in load_catalogue().models.items():
        if model_id == name or model_id in entry.snapshots:
            return replace(entry, model_id=model_id)
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
    def has_price(self) -> bool:
        """Whether an upper bound can be given before a call."""
        return self.declared_usd is not None or bool(self.prices and self.output_tokens)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a call as rate limits count them: four characters to a token of text."""
        return (self.output_tokens or 0) + 16 + len(prompt) // 4

    def expected_usd(self, prompt: str) -> float:
        """What one image should cost."""
        return self._compute_usd(16 + len(prompt) // 4)

    def max_usd(self, prompt: str) -> float:
        """What one image can cost: no token of text is shorter than a byte."""
        return self._compute_usd(64 + len(prompt.encode()))

    def _compute_usd(self, text_tokens: int) -> float:
        if self.declared_usd is not None:
            return self.declared_usd * self.discount
        output = (self.output_tokens or 0) * self.prices["image_out"]
        return (text_tokens * self.prices["text_in"] + output) / 1e6 * self.discount

    def cost_usd(self, usage: JsonObject | None, *, has_image: bool) -> float | None:
        """Returned usage times the dated price; None when the answer does not say.

        An image without output tokens, as some relays report it, says nothing; nor does an answer that
        holds neither an image nor its usage.

        >>> tokens = {"text_in": 5, "image_in": 8, "image_out": 30}
        >>> pricing = Pricing(declared_usd=None, prices=tokens, output_tokens=1756)
        >>> pricing.cost_usd({"input_tokens": 40, "output_tokens": 1756}, has_image=True)
        0.05288
        """
        if self.declared_usd is not None and (has_image or usage is not None):
            return self.declared_usd * self.discount
        if (
            not usage
            or not self.prices
            or (has_image and not _parse_count(usage.get("output_tokens")))
        ):
            return None
        details = usage.get("input_tokens_details")
        details = details if isinstance(details, Mapping) else {}
        images = _parse_count(details.get("image_tokens"))
        text = max(0, _parse_count(usage.get("input_tokens")) - images)
        output = _parse_count(usage.get("output_tokens"))
        parts = zip((text, images, output), ("text_in", "image_in", "image_out"), strict=True)
        return sum(tokens * self.prices[name] for tokens, name in parts) / 1e6 * self.discount


def _parse_count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


@cache
def warn_once(text: str) -> None:
    """Say it on stderr, once per process."""
    print(f"warning: {text}", file=sys.stderr)
