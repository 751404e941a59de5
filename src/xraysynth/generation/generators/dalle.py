"""Images from an API: OpenAI's, Azure's, or any server that speaks /v1/images/generations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from xraysynth.errors import ConfigError
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.images_api import background, batch, client
from xraysynth.generation.images_api.catalogue import SIZE_RULE, Model, find_model, load_catalogue
from xraysynth.generation.images_api.endpoint import URL_RULE, VARIABLE_RULE, Endpoint
from xraysynth.generation.images_api.estimate import (
    PROMPT_TOO_LONG,
    Estimate,
    estimate_cost,
    is_sendable,
)
from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.outcomes import ApiError, BudgetError, remedy
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import CallSettings, fill_placeholders
from xraysynth.generation.ledger import Ledger
from xraysynth.options import Count, NonNegative, Positive, require_valid
from xraysynth.records import GenerationResult, JsonObject, Request


@dataclass(frozen=True)
class Dalle:
    """Text to image through an images API, with a budget, limits and an account of every outcome.

    `model` is looked up in the dated catalogue models.yaml, which says what it takes and costs;
    an id that is not there takes prompt, size and `extra_body`, and needs `price_usd_per_image`.
    `base_url` or `azure_endpoint` name another server than OpenAI's. In `extra_body` the texts
    "{seed}", "{seed32}" and "{negative_prompt}" stand for those of each request, and a null leaves a
    parameter out. The key is read from the environment variable that `api_key_env` names. `batch` uses
    the Batch API for half the price. What is in flight is kept in `state_folder`, so that an answer
    that came is not paid for again after a restart.
    """

    name: str = "dalle"
    model: str = "gpt-image-2.5-sunburst-2026-09-08"
    size: Annotated[str, SIZE_RULE] = "1024x1024"
    quality: str = "medium"
    moderation: str = "auto"
    output_format: str = "png"
    base_url: Annotated[str, URL_RULE] | None = None
    azure_endpoint: Annotated[str, URL_RULE] | None = None
    azure_deployment: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    azure_api_version: str = field(default="2025-04-01-preview", metadata={"identity": False})
    api_key_env: Annotated[str, VARIABLE_RULE] = field(
        default="OPENAI_API_KEY", metadata={"identity": False}
    )
    budget_usd: NonNegative | None = field(default=None, metadata={"identity": False})
    price_usd_per_image: NonNegative | None = field(default=None, metadata={"identity": False})
    spent_usd: float = field(default=0.0, metadata={"identity": False})
    concurrency: Count = field(default=8, metadata={"identity": False})
    requests_per_minute: Positive | None = field(default=None, metadata={"identity": False})
    images_per_minute: Positive | None = field(default=None, metadata={"identity": False})
    tokens_per_minute: Positive | None = field(default=None, metadata={"identity": False})
    timeout_seconds: Positive = field(default=300.0, metadata={"identity": False})
    attempts: Count = field(default=5, metadata={"identity": False})
    give_up_after: Count = field(default=20, metadata={"identity": False})
    batch: bool = field(default=False, metadata={"identity": False})
    batch_lines: Count = field(default=200, metadata={"identity": False})
    poll_seconds: Positive = field(default=60.0, metadata={"identity": False})
    state_folder: str | None = field(default=None, metadata={"identity": False})

    def __post_init__(self) -> None:
        require_valid(self, f"generator.{self.name}")
        rules = {
            "base_url and azure_endpoint exclude each other": not (
                self.base_url and self.azure_endpoint
            ),
            "azure_deployment must be given with azure_endpoint": (
                self.azure_deployment or not self.azure_endpoint
            ),
            "batch is not offered for Azure here; leave it out": not (
                self.batch and self.azure_endpoint
            ),
        }
        broken = [f"generator.{self.name}: {rule}" for rule, holds in rules.items() if not holds]
        if broken:
            raise ConfigError(*broken)

    # What is asked, of whom, at what price

    @property
    def _catalogue_entry(self) -> Model:
        return find_model(self.model)

    @property
    def endpoint(self) -> Endpoint:
        """Who is asked."""
        return Endpoint(
            base_url=self.base_url,
            azure_endpoint=self.azure_endpoint,
            azure_api_version=self.azure_api_version,
            key_env=self.api_key_env,
            timeout_seconds=self.timeout_seconds,
        )

    @property
    def served_by(self) -> str:
        """Who answers: OpenAI, Azure OpenAI, or host and port."""
        return self.endpoint.label

    @property
    def pricing(self) -> Pricing:
        """Dollars of a call: the declared price, or the catalogue's."""
        entry = self._catalogue_entry
        return Pricing(
            declared_usd=self.price_usd_per_image,
            prices=entry.prices,
            output_tokens=entry.output_tokens.get(self.size, {}).get(self.quality),
            discount=load_catalogue().batch_discount if self.batch else 1.0,
        )

    @property
    def rate_limits(self) -> dict[str, float | None]:
        """Limits: those given, and of OpenAI the lowest that the catalogue knows."""
        known = self._catalogue_entry.images_per_minute if self.endpoint.is_openai else None
        return {
            "requests": self.requests_per_minute,
            "images": self.images_per_minute or known,
            "tokens": self.tokens_per_minute,
        }

    def body(self, request: Request) -> JsonObject:
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
        taken = {k: v for k, v in offered.items() if k in self._catalogue_entry.parameters}
        body = {**taken, **fill_placeholders(self.extra_body, request)}
        return {name: value for name, value in body.items() if value is not None}

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be had and steered."""
        sent = [str(value) for value in self.extra_body.values()]
        negative = ", negative prompt" if "{negative_prompt}" in sent else ""
        local, price = self.endpoint.is_local, f"catalogue of {load_catalogue().as_of}"
        if self.price_usd_per_image is not None:
            price = f"${self.price_usd_per_image:g} per image, as declared"
        return GeneratorCard(
            title=f"{self.model} served by {self.served_by}",
            access="local server" if local else "API",
            licence="the model's own" if local else "terms of the service",
            offline=local,
            seeds_reproducible=any(value.startswith("{seed") for value in sent),
            prompt_control=f"prompt{negative}",
            fine_tunable="no",
            hardware="that of the server" if local else "none",
            set_up="start the server" if local else f"an account and a key in {self.api_key_env}",
            price=price,
        )

    @property
    def block_size(self) -> None:
        """Images are independent, and each costs money: nothing is asked for that is there."""

    def learning_record(self) -> None:
        """It has seen no image of the study."""

    def model_ledger(self) -> Ledger:
        """Who served which model."""
        return Ledger(engine="images API", device=self.served_by, model=self.model)

    # Checks before any call

    def check(self) -> None:
        """Raise `ConfigError` for whatever would make calls fail or cost without bounds; warn of
        models that are unknown or about to go."""
        self._check_options()
        self.endpoint.require_key()

    def _check_options(self) -> None:
        owner = f"generator.{self.name}"
        if self.endpoint.is_openai or not self._catalogue_entry.known:
            self._catalogue_entry.require_available(f"{owner}.model", today=date.today())
        self._catalogue_entry.require_supported(
            owner, size=self.size, quality=self.quality, output_format=self.output_format
        )
        if self.azure_endpoint and self.output_format == "webp":
            raise ConfigError(f"{owner}.output_format=webp: Azure has png and jpeg")
        if not self.pricing.has_price:
            raise ConfigError(
                f"{owner}.price_usd_per_image must be given: the catalogue of "
                f"{load_catalogue().as_of} has no price of {self.model} at {self.size}, {self.quality}. "
                "Give the highest price of an image, 0 for a server of your own"
            )

    # Money

    def with_spent_budget(self, spent_usd: float, *, folder: Path | None = None) -> Self:
        """The same generator, knowing what earlier runs have spent and where their calls are kept."""
        kept = self.state_folder if folder is None else str(folder)
        return replace(self, spent_usd=spent_usd, state_folder=kept)

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """Images, dollars and time of a run, and what would not be sent; needs no key."""
        self._check_options()
        return estimate_cost(requests, self.pricing, per_minute=self.rate_limits, batch=self.batch)

    # The run

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Results as they come, in any order. Raises `BudgetError` or `ApiError` at the end when some
        requests could not be made; those before it are results all the same."""
        self.check()
        free = self.endpoint.is_local and self.price_usd_per_image == 0
        if self.budget_usd is None and not free:
            raise ConfigError(
                f"generator.{self.name}.budget_usd must be given for a service that costs money. "
                f"This run would cost:\n{self.estimate(requests)}"
            )
        for request in requests:
            if not is_sendable(request):
                facts = {"cost_usd": 0.0, "cost_possible_usd": 0.0, "stage": "before sending"}
                yield GenerationResult(request, "refused", reason=PROMPT_TOO_LONG, facts=facts)
        sent = [request for request in requests if is_sendable(request)]
        yield from (
            self._generate_in_batches(sent) if self.batch else self._generate_concurrently(sent)
        )

    def _generate_concurrently(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        budget = Budget(self.budget_usd, self.spent_usd)
        gate = client.build_rate_limiter(self.concurrency, self.rate_limits)
        run = client.ApiRun(self.call_settings, gate, budget, ResponseCache(self.state_folder))
        yield from background.stream_results(run, requests, in_flight=self.concurrency)
        if run.out_of_budget:
            raise self._budget_error(budget, run.not_sent)
        if run.stop_reason:
            raise ApiError(self._stop_message(run.stop_reason, run.not_sent))

    def _generate_in_batches(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        budget = Budget(self.budget_usd, self.spent_usd)
        batches = batch.BatchRunner(
            call=self.call_settings,
            client=self.endpoint.build_client(asynchronous=False),
            budget=budget,
            folder=self.state_folder,
            lines_per_batch=self.batch_lines,
            poll_seconds=self.poll_seconds,
        )
        yield from batches.stream_results(requests)
        if batches.not_sent:
            raise self._budget_error(budget, batches.not_sent)

    def _budget_error(self, budget: Budget, not_sent: int) -> BudgetError:
        return BudgetError(
            f"generator.{self.name}.budget_usd={self.budget_usd} does not allow the next call: "
            f"${budget.paid_usd:.4f} of it are spent or may be; {not_sent} requests were not made. "
            "What came is kept; raise the budget and start again"
        )

    def _stop_message(self, reason: str, not_sent: int) -> str:
        names = {"key": self.api_key_env, "served_by": self.served_by, "model": self.model}
        advice = remedy(reason, option=f"generator.{self.name}.model", **names)
        return (
            f"generator.{self.name} ({self.served_by}) stopped: {reason}. {advice}, and start again: "
            f"what came is kept, {not_sent} requests were not made"
        )

    @property
    def call_settings(self) -> CallSettings:
        """What all calls have in common."""
        endpoint = self.endpoint
        return CallSettings(
            make_client=lambda: endpoint.build_client(asynchronous=True),
            build_body=self.body,
            served_by=self.served_by,
            pricing=self.pricing,
            secret=endpoint.secret,
            attempts=self.attempts,
            give_up_after=self.give_up_after,
        )
