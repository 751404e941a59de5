"""The dated catalogue of image models: what each takes, and until when it is served."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.options import match_pattern
from xraysynth.records import JsonObject

CATALOGUE_PATH = Path(__file__).with_name("models.yaml")
SIZE_RULE = match_pattern(
    r"auto|[1-9]\d{1,4}x[1-9]\d{1,4}", "be <width>x<height> in pixels, or auto"
)
MAX_ASPECT_RATIO = 3
"""Longest side over shortest side of an image of free size."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """An image model of the catalogue, or an unknown one with the parameters that any server takes.

    Attributes:
        model_id: Name of the model in calls.
        known: Whether the catalogue has the model.
        snapshots: Names of dated versions of the model.
        retired: Day on which the model is shut down, or None.
        successor: Model that replaces it, or "".
        parameters: Parameters that the model takes; others are not sent.
        sizes: Sizes such as "1024x1024" that it makes.
        size_multiple_px: Number by which the sides of other sizes must be divisible; None where it
            makes no other size.
        qualities: Values of the parameter `quality`; empty where any is sent.
        formats: Values of the parameter `output_format`; empty where any is sent.
        prices: "text_in", "image_in", "image_out" -> dollars per million tokens.
        output_tokens: Size -> quality -> tokens of one image.
        images_per_minute: Lowest rate limit of OpenAI for this model, or None.
    """

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
        """Checks that the model is still served; warns if it is unknown or will be shut down.

        Args:
            option: Name of the option that selects the model.
            today: The day of the run.

        Raises:
            ConfigError: If the model has been shut down.
        """
        if not self.known:
            as_of = load_catalogue().as_of
            warn_once(
                f"{option}={self.model_id} is not in the catalogue of {as_of}; its parameters are "
                "sent without a check"
            )
        if self.retired is None:
            return
        advice = (
            f"use {option}={self.successor}, or score images made earlier with generator=archive"
        )
        if self.retired <= today:
            raise ConfigError(f"{option}={self.model_id} was shut down on {self.retired}; {advice}")
        warn_once(f"{self.model_id} will be shut down on {self.retired}; {advice}")

    def require_supported(
        self, option_prefix: str, *, size: str, quality: str, output_format: str
    ) -> None:
        """Checks that the model makes such an image.

        Args:
            option_prefix: Prefix of the names of the options, such as "generator.dalle".
            size: Width and height, such as "1024x1024".
            quality: Value of the option `quality`.
            output_format: Value of the option `output_format`.

        Raises:
            ConfigError: If the model does not make it.
        """
        self._require_listed(f"{option_prefix}.quality", quality, self.qualities)
        self._require_listed(f"{option_prefix}.output_format", output_format, self.formats)
        if self.supports_size(size):
            return
        rule = ""
        if self.size_multiple_px:
            rule = (
                f", and sides divisible by {self.size_multiple_px} up to an aspect ratio of "
                f"1:{MAX_ASPECT_RATIO}"
            )
        raise ConfigError(
            f"{option_prefix}.size={size} is not available from {self.model_id}; it takes "
            f"{', '.join(self.sizes)}{rule}"
        )

    def _require_listed(self, option: str, value: str, values: tuple[str, ...]) -> None:
        if values and value not in values:
            raise ConfigError(
                f"{option} must be one of {', '.join(values)} for {self.model_id}; got {value!r}"
            )

    def supports_size(self, size: str) -> bool:
        """Whether a size such as "1024x1024" is listed or obeys the model's rule for other sizes."""
        if not self.known or size in self.sizes:
            return True
        if self.size_multiple_px is None or size == "auto":
            return False
        width, height = map(int, size.split("x"))
        is_divisible = width % self.size_multiple_px == height % self.size_multiple_px == 0
        return is_divisible and 1 / MAX_ASPECT_RATIO <= width / height <= MAX_ASPECT_RATIO


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Facts about image models as of one day.

    Attributes:
        as_of: The day on which the facts were collected.
        maximum_prompt_characters: Longest prompt that the endpoint takes.
        batch_discount: Factor of the price in the Batch API.
        models: Model id -> model.
    """

    as_of: date
    maximum_prompt_characters: int
    batch_discount: float
    models: Mapping[str, Model]


@cache
def load_catalogue() -> Catalogue:
    """Loads the catalogue from models.yaml, once per process."""
    import yaml

    content: JsonObject = yaml.safe_load(CATALOGUE_PATH.read_text())
    models = {}
    for model_id, entry in content["models"].items():
        models[model_id] = _build_model(model_id, entry)
    return Catalogue(
        as_of=content["as_of"],
        maximum_prompt_characters=content["maximum_prompt_characters"],
        batch_discount=content["batch_discount"],
        models=models,
    )


def _build_model(model_id: str, entry: JsonObject) -> Model:
    """Builds a model from its entry; `source` says who states the facts, and is left out."""
    values: dict[str, Any] = {}
    for name, value in entry.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    values.pop("source", None)
    prices = dict(entry.get("prices", {}))
    prices.pop("source", None)
    return Model(**values | {"model_id": model_id, "known": True, "prices": prices})


def find_model(model_id: str) -> Model:
    """Looks up a model by its id or by the id of one of its snapshots.

    An id that the catalogue does not have gives a model with `known` False.
    """
    for name, model in load_catalogue().models.items():
        if model_id == name or model_id in model.snapshots:
            return replace(model, model_id=model_id)
    return Model(model_id=model_id)


@cache
def warn_once(text: str) -> None:
    """Prints a warning to stderr, once per process."""
    print(f"warning: {text}", file=sys.stderr)
