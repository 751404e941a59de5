"""Images from an API: OpenAI's, Azure's, or any server that speaks /v1/images/generations."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from xraysynth.errors import ConfigError
from xraysynth.generators import _api_batch, _api_client
from xraysynth.generators._api_catalogue import Model, Pricing, catalogue
from xraysynth.generators._api_catalogue import model as catalogued
from xraysynth.generators._api_limits import Budget
from xraysynth.generators._api_outcomes import ApiError
from xraysynth.generators._api_results import Call
from xraysynth.generators._api_spool import Spool
from xraysynth.generators.base import Card
from xraysynth.records import Generated, Request

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BATCH_SECONDS = 24 * 3600.0


class BudgetError(ApiError):
    """The budget does not allow the next call."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would cost before any call. `seconds` is None where no limit is known."""

    per_class: Mapping[str, Mapping[str, float]]
    images: int
    usd: float
    usd_at_most: float
    seconds: float | None
    refused: Mapping[str, int]

    def __str__(self) -> str:
        lines = [
            f"{n}: {c['images']:.0f} images, ${c['usd']:.2f}" for n, c in self.per_class.items()
        ]
        time = "unknown (no limit per minute is given)"
        if self.seconds is not None:
            time = f"{timedelta(seconds=round(self.seconds))} at the given limits"
        total = f"total: {self.images} images, ${self.usd:.2f} (at most ${self.usd_at_most:.2f})"
        refused = [f"not sent: {count} ({reason})" for reason, count in self.refused.items()]
        return "\n".join([*lines, f"{total}, time {time}", *refused])


@dataclass(frozen=True)
class Dalle:
    """Text to image through an images API, with a budget, limits and an account of every outcome.

    `model` is looked up in the dated catalogue image_models.yaml, which says what it takes and costs;
    an id that is not there takes prompt, size and `extra_body`, and needs `price_usd_per_image`.
    `base_url` or `azure_endpoint` name another server than OpenAI's. In `extra_body` the texts
    "{seed}", "{seed32}" and "{negative_prompt}" stand for those of each request, and a null leaves a
    parameter out. The key is read from
    the environment variable that `api_key_env` names. `batch` uses the Batch API for half the price.
    """

    name: str = "dalle"
    model: str = "gpt-image-2.5-sunburst-2026-09-08"
    size: str = "1024x1024"
    quality: str = "medium"
    moderation: str = "auto"
    output_format: str = "png"
    base_url: str | None = None
    azure_endpoint: str | None = None
    azure_deployment: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    azure_api_version: str = field(default="2025-04-01-preview", metadata={"identity": False})
    api_key_env: str = field(default="OPENAI_API_KEY", metadata={"identity": False})
    budget_usd: float | None = field(default=None, metadata={"identity": False})
    price_usd_per_image: float | None = field(default=None, metadata={"identity": False})
    spent_usd: float = field(default=0.0, metadata={"identity": False})
    concurrency: int = field(default=8, metadata={"identity": False})
    requests_per_minute: float | None = field(default=None, metadata={"identity": False})
    images_per_minute: float | None = field(default=None, metadata={"identity": False})
    tokens_per_minute: float | None = field(default=None, metadata={"identity": False})
    timeout_seconds: float = field(default=300.0, metadata={"identity": False})
    attempts: int = field(default=5, metadata={"identity": False})
    give_up_after: int = field(default=20, metadata={"identity": False})
    batch: bool = field(default=False, metadata={"identity": False})
    batch_lines: int = field(default=200, metadata={"identity": False})
    poll_seconds: float = field(default=60.0, metadata={"identity": False})
    state_folder: str | None = field(default=None, metadata={"identity": False})

    external = True
    """Prompts leave this machine."""

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url or self.azure_endpoint or OPENAI)
        at_least_1 = ("concurrency", "attempts", "give_up_after", "batch_lines")
        rates = ("requests_per_minute", "images_per_minute", "tokens_per_minute")
        rules = {
            "size must be <width>x<height> in pixels, or auto": self._sized,
            "base_url and azure_endpoint exclude each other": not (
                self.base_url and self.azure_endpoint
            ),
            "base_url or azure_endpoint must be an http(s) address without user and password": (
                address.scheme in ("http", "https") and address.username is None
            ),
            "azure_deployment must be given with azure_endpoint": bool(self.azure_deployment)
            or not self.azure_endpoint,
            "api_key_env must be the name of an environment variable, never a key itself": bool(
                re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,60}", self.api_key_env)
            ),
            "batch is not offered for Azure here; leave it out": not (
                self.batch and self.azure_endpoint
            ),
            **{f"{n} must be at least 1": getattr(self, n) >= 1 for n in at_least_1},
            **{f"{n} must be above 0": (getattr(self, n) or 1) > 0 for n in rates},
            "timeout_seconds and poll_seconds must be above 0": (
                min(self.timeout_seconds, self.poll_seconds) > 0
            ),
            "budget_usd and price_usd_per_image must not be negative": (
                min(self.budget_usd or 0, self.price_usd_per_image or 0) >= 0
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise ConfigError(f"generator.{self.name}: {rule}")

    @property
    def _sized(self) -> bool:
        return self.size == "auto" or bool(re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", self.size))

    # What is asked, of whom, at what price

    @property
    def _entry(self) -> Model:
        return catalogued(self.model)

    @property
    def _address(self) -> str:
        return self.base_url or self.azure_endpoint or OPENAI

    @property
    def served_by(self) -> str:
        """Who answers: host and port, or OpenAI or Azure OpenAI."""
        if self.azure_endpoint:
            return f"Azure OpenAI ({urlsplit(self.azure_endpoint).netloc})"
        return "OpenAI" if self._vendor else urlsplit(self._address).netloc

    @property
    def _vendor(self) -> bool:
        return urlsplit(self._address).hostname == urlsplit(OPENAI).hostname

    @property
    def _local(self) -> bool:
        return urlsplit(self._address).hostname in LOOPBACK

    @property
    def pricing(self) -> Pricing:
        """Dollars of a call: the declared price, or the catalogue's."""
        entry = self._entry
        return Pricing(
            declared_usd=self.price_usd_per_image,
            prices={k: v for k, v in entry.prices.items() if k != "source"},
            output_tokens=entry.output_tokens.get(self.size, {}).get(self.quality),
            discount=catalogue()["batch_discount"] if self.batch else 1.0,
        )

    @property
    def _free(self) -> bool:
        return self._local and self.price_usd_per_image == 0

    @property
    def _images_per_minute(self) -> float | None:
        return self.images_per_minute or (self._entry.images_per_minute if self._vendor else None)

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request: only parameters that the model takes."""
        offered = {
            "prompt": request.prompt,
            "model": self.azure_deployment or self.model,
            "n": 1,
            "size": self.size,
            "quality": self.quality,
            "moderation": self.moderation,
            "output_format": self.output_format,
            "response_format": "b64_json",
        }
        taken = {k: v for k, v in offered.items() if k in self._entry.parameters}
        of_request = {
            "{seed}": request.seed,
            "{seed32}": request.seed % 2**32,
            "{negative_prompt}": request.negative_prompt,
        }
        extra = {
            k: of_request.get(v, v) if isinstance(v, str) else v for k, v in self.extra_body.items()
        }
        return {k: v for k, v in (taken | extra).items() if v is not None}

    @property
    def card(self) -> Card:
        """How this generator can be had and steered."""
        sent = [str(value) for value in self.extra_body.values()]
        seeds = any(value.startswith("{seed") for value in sent)
        negative = ", negative prompt" if "{negative_prompt}" in sent else ""
        as_of = f"catalogue of {catalogue()['as_of']}"
        declared = f"${self.price_usd_per_image} per image, as declared"
        return Card(
            title=f"{self.model} served by {self.served_by}",
            access="local server" if self._local else "API",
            licence="the model's own" if self._local else "terms of the service",
            offline=self._local,
            seeds_reproducible=seeds,
            prompt_control=f"prompt{negative}",
            fine_tunable="no",
            hardware="that of the server" if self._local else "none",
            set_up="start the server"
            if self._local
            else f"an account and a key ({self.api_key_env})",
            price=as_of if self.price_usd_per_image is None else declared,
        )

    @property
    def block(self) -> None:
        """Images are independent, and each costs money: nothing is asked for that is there."""

    def learned(self) -> Mapping[str, Any]:
        """It has seen no image of the study."""
        return {}

    def measured(self) -> Mapping[str, Any]:
        """Who served which model."""
        return {"engine": "images API", "device": self.served_by, "model": self.model}

    # Checks before any call

    def check(self) -> None:
        """Raise `ConfigError` for whatever would make calls fail or cost without bounds; warn of
        models that are unknown or about to go."""
        self._check_model()
        self._check_parameters()
        if not self.pricing.known:
            raise ConfigError(
                f"generator.{self.name}.price_usd_per_image must be given: the catalogue of "
                f"{catalogue()['as_of']} has no price of {self.model} at {self.size}, {self.quality}. "
                "Give the highest price of an image, 0 for a server of your own"
            )
        self._key()

    def _check_model(self) -> None:
        entry, own = self._entry, f"generator.{self.name}.model"
        if not entry.known:
            print(
                f"warning: {own}={self.model} is not in the catalogue of {catalogue()['as_of']}; "
                "it is sent as it is",
                file=sys.stderr,
            )
        if entry.retired is None or not self._vendor:
            return
        advice = f"use {own}={entry.successor}, or score images made earlier with generator=archive"
        if entry.retired <= date.today():
            raise ConfigError(f"{own}={self.model} was shut down on {entry.retired}; {advice}")
        print(f"warning: {self.model} is shut down on {entry.retired}; {advice}", file=sys.stderr)

    def _check_parameters(self) -> None:
        entry = self._entry
        for option, values in (("quality", entry.qualities), ("output_format", entry.formats)):
            value = getattr(self, option)
            if values and value not in values:
                raise ConfigError(
                    f"generator.{self.name}.{option} must be one of {', '.join(values)} for "
                    f"{self.model}; got {value!r}"
                )
        if not entry.takes_size(self.size):
            raise ConfigError(
                f"generator.{self.name}.size={self.size} is not to be had from {self.model}; it takes "
                f"{', '.join(entry.sizes)}"
                + (
                    f", sides divisible by {entry.size_multiple_px}"
                    if entry.size_multiple_px
                    else ""
                )
            )
        if self.azure_endpoint and self.output_format == "webp":
            raise ConfigError(f"generator.{self.name}.output_format=webp: Azure has png and jpeg")

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self._local:
            return "none"
        if not key:
            raise ConfigError(
                f"generator.{self.name}: the environment variable {self.api_key_env} holds no key; "
                f"set it (export {self.api_key_env}=…) or name another variable with "
                f"generator.{self.name}.api_key_env; images made earlier can be scored without a key "
                "by generator=archive"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"the key in {self.api_key_env} has characters that no key has")
        return key

    # Money

    def continued(self, spent_usd: float) -> "Dalle":
        """The same generator, knowing what earlier runs have spent."""
        return replace(self, spent_usd=spent_usd)

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """Images, dollars and time of a run, and what would not be sent."""
        sendable = [request for request in requests if self._sendable(request)]
        per_class = {
            label: {
                "images": float(len(of_class)),
                "usd": sum(self.pricing.expected_usd(r.prompt) for r in of_class),
            }
            for label in dict.fromkeys(r.label for r in sendable)
            for of_class in [[r for r in sendable if r.label == label]]
        }
        too_long = len(requests) - len(sendable)
        return Estimate(
            per_class=per_class,
            images=len(sendable),
            usd=sum(entry["usd"] for entry in per_class.values()),
            usd_at_most=sum(self.pricing.at_most_usd(r.prompt) for r in sendable),
            seconds=self._seconds(sendable),
            refused={_TOO_LONG: too_long} if too_long else {},
        )

    def _sendable(self, request: Request) -> bool:
        limit: int = catalogue()["maximum_prompt_characters"]
        return len(request.prompt) <= limit

    def _seconds(self, requests: Sequence[Request]) -> float | None:
        if self.batch:
            return BATCH_SECONDS
        tokens = sum(self.pricing.tokens(r.prompt) for r in requests)
        given = (
            (len(requests), self.requests_per_minute),
            (len(requests), self._images_per_minute),
            (tokens, self.tokens_per_minute),
        )
        return max((60 * amount / rate for amount, rate in given if rate), default=None)

    # The run

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """Results as they come, in any order. Raises `BudgetError` or `ApiError` at the end when some
        requests could not be made; those before it are results all the same."""
        self.check()
        if self.budget_usd is None and not self._free:
            raise ConfigError(
                f"generator.{self.name}.budget_usd must be given for a service that costs money. "
                f"This run would cost:\n{self.estimate(requests)}"
            )
        for request in requests:
            if not self._sendable(request):
                facts = {"cost_usd": 0.0, "cost_possible_usd": 0.0, "stage": "before sending"}
                yield Generated(request, "refused", reason=_TOO_LONG, facts=facts)
        sendable = [request for request in requests if self._sendable(request)]
        yield from self._in_batches(sendable) if self.batch else self._at_once(sendable)

    def _at_once(self, requests: Sequence[Request]) -> Iterator[Generated]:
        gate = _api_client.gate(
            self.concurrency,
            requests=self.requests_per_minute,
            images=self._images_per_minute,
            tokens=self.tokens_per_minute,
        )
        budget = Budget(self.budget_usd, self.spent_usd)
        run = _api_client.Run(self.call, gate, budget, Spool(self.state_folder))
        yield from _api_client.results(run, requests, in_flight=self.concurrency)
        if run.out_of_budget:
            raise self._over_budget(budget, run.not_asked)
        if run.stopped:
            raise ApiError(self._stop_message(run.stopped, run.not_asked))

    def _in_batches(self, requests: Sequence[Request]) -> Iterator[Generated]:
        budget = Budget(self.budget_usd, self.spent_usd)
        batches = _api_batch.Batches(
            call=self.call,
            client=self._client(asynchronous=False),
            budget=budget,
            folder=self.state_folder,
            lines=self.batch_lines,
            poll_seconds=self.poll_seconds,
        )
        yield from batches.results(requests)
        if batches.not_asked:
            raise self._over_budget(budget, batches.not_asked)

    def _over_budget(self, budget: Budget, not_asked: int) -> BudgetError:
        return BudgetError(
            f"generator.{self.name}.budget_usd={self.budget_usd} does not allow the next call: "
            f"${budget.spent:.4f} of it are spent or may be; {not_asked} requests were not made. "
            "What came is kept; raise the budget and start again"
        )

    def _stop_message(self, reason: str, not_asked: int) -> str:
        remedies = {
            "401": f"check the key in {self.api_key_env}",
            "403": f"the account behind {self.api_key_env} may not use {self.model}",
            "404": f"{self.served_by} has no model {self.model}: it may have been withdrawn; choose "
            f"another with generator.{self.name}.model, or score images made earlier with "
            "generator=archive",
            "429": "the account has no money left: add some",
        }
        found = re.match(r"HTTP (\d{3})", reason)
        remedy = remedies.get(found[1] if found else "", "mend the cause")
        return (
            f"generator.{self.name} ({self.served_by}) stopped: {reason}. {remedy}, and start again: "
            f"what came is kept, {not_asked} requests were not made"
        )

    @property
    def call(self) -> Call:
        """What all calls have in common."""
        return Call(
            client=lambda: self._client(asynchronous=True),
            body=self.body,
            served_by=self.served_by,
            pricing=self.pricing,
            secret=os.environ.get(self.api_key_env, "").strip() or None,
            attempts=self.attempts,
            give_up_after=self.give_up_after,
        )

    def _client(self, *, asynchronous: bool) -> Any:
        """The SDK's client, which neither tries again, nor follows redirects, nor reads other
        settings from the environment."""
        import httpx2
        import openai

        timeout = httpx2.Timeout(self.timeout_seconds, connect=20.0, pool=None)
        http = openai.DefaultAsyncHttpxClient if asynchronous else openai.DefaultHttpxClient
        options: dict[str, Any] = {
            "api_key": self._key(),
            "max_retries": 0,
            "timeout": timeout,
            "http_client": http(
                timeout=timeout,
                verify=_certificates(),
                follow_redirects=False,
                trust_env=not self._local,
            ),
        }
        if self.azure_endpoint:
            return openai.AsyncAzureOpenAI(
                azure_endpoint=self.azure_endpoint, api_version=self.azure_api_version, **options
            )
        kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        return kind(base_url=self._address, **options)


@cache
def _certificates() -> Any:
    """Reading them takes longer than a call to a server nearby."""
    import httpx2

    return httpx2.create_ssl_context()


_TOO_LONG = "the prompt is longer than the endpoint takes"
