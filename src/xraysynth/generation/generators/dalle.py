"""Generator behind an images API: OpenAI's, Azure's, or any server that offers /v1/images/generations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from xraysynth.errors import ConfigError
from xraysynth.generation.generators._api_errors import budget_error, stop_error
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.images_api import background, batch, client
from xraysynth.generation.images_api.catalogue import SIZE_RULE, Model, find_model, load_catalogue
from xraysynth.generation.images_api.endpoint import (
    CONNECT_SECONDS,
    URL_RULE,
    VARIABLE_RULE,
    Endpoint,
)
from xraysynth.generation.images_api.estimate import (
    PROMPT_TOO_LONG,
    Estimate,
    estimate_cost,
    is_sendable,
)
from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import CallSettings, fill_placeholders, is_json
from xraysynth.generation.images_api.unsettled import unsettled_usd_before
from xraysynth.generation.ledger import Ledger
from xraysynth.options import (
    Count,
    Dollars,
    FinitePositive,
    FolderName,
    PathText,
    expand_path,
    require_valid,
)
from xraysynth.records import GenerationResult, JsonObject, Request

_NOT_IN_IDENTITY = {"identity": False}


@dataclass(frozen=True)
class Dalle:
    """Text to image through an images API, with a budget, rate limits and a record of every outcome.

    `model` is looked up in the dated catalogue models.yaml, which says what parameters it takes and what
    it costs; a model that is not listed takes prompt, size and `extra_body`, and needs
    `price_usd_per_image`. `size`, `quality`, `moderation` and `output_format` are sent if the model
    takes them. `base_url` or `azure_endpoint` name a server other than OpenAI's, by https unless it runs
    on this machine. In `extra_body` the texts "{seed}", "{seed32}" and "{negative_prompt}" stand for
    those of each request, and null leaves a parameter out.

    The key is read from the environment variable `api_key_env`. `budget_usd` limits what one pool may
    cost, over all runs that fill it: another model, size or set of prompts is another pool. For all
    pools together there is `generate.budget_usd`. Where answers turn out dearer than the catalogue's
    highest price, at most the calls in flight at that moment (`concurrency`), or with `batch` the lines
    submitted at once, exceed the budget. `spent_usd` is what earlier runs have spent of it.

    `concurrency` calls run at once, within `requests_per_minute`, `images_per_minute` and
    `tokens_per_minute`. A call fails after `timeout_seconds` and is tried `attempts` times; the run
    stops after `give_up_after` failed calls in a row. `batch` uses the Batch API for half the price,
    with `batch_lines` requests per batch, polled every `poll_seconds`. Calls that are under way are
    kept in `state_folder`, so that a response that was received is not paid for twice after a restart.
    """

    name: FolderName = "dalle"
    model: str = "gpt-image-2.5-sunburst-2026-09-08"
    size: Annotated[str, SIZE_RULE] = "1024x1024"
    quality: str = "medium"
    moderation: str = "auto"
    output_format: str = "png"
    base_url: Annotated[str, URL_RULE] | None = None
    azure_endpoint: Annotated[str, URL_RULE] | None = None
    azure_deployment: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    azure_api_version: str = field(default="2025-04-01-preview", metadata=_NOT_IN_IDENTITY)
    api_key_env: Annotated[str, VARIABLE_RULE] = field(
        default="OPENAI_API_KEY", metadata=_NOT_IN_IDENTITY
    )
    budget_usd: Dollars | None = field(default=None, metadata=_NOT_IN_IDENTITY)
    price_usd_per_image: Dollars | None = field(default=None, metadata=_NOT_IN_IDENTITY)
    spent_usd: Dollars = field(default=0.0, metadata=_NOT_IN_IDENTITY)
    concurrency: Count = field(default=8, metadata=_NOT_IN_IDENTITY)
    requests_per_minute: FinitePositive | None = field(default=None, metadata=_NOT_IN_IDENTITY)
    images_per_minute: FinitePositive | None = field(default=None, metadata=_NOT_IN_IDENTITY)
    tokens_per_minute: FinitePositive | None = field(default=None, metadata=_NOT_IN_IDENTITY)
    timeout_seconds: FinitePositive = field(default=300.0, metadata=_NOT_IN_IDENTITY)
    attempts: Count = field(default=5, metadata=_NOT_IN_IDENTITY)
    give_up_after: Count = field(default=20, metadata=_NOT_IN_IDENTITY)
    batch: bool = field(default=False, metadata=_NOT_IN_IDENTITY)
    batch_lines: Count = field(default=200, metadata=_NOT_IN_IDENTITY)
    poll_seconds: FinitePositive = field(default=60.0, metadata=_NOT_IN_IDENTITY)
    state_folder: PathText | None = field(default=None, metadata=_NOT_IN_IDENTITY)

    def __post_init__(self) -> None:
        require_valid(self, self._option_prefix)
        broken_rules = []
        if self.base_url and self.azure_endpoint:
            broken_rules.append("base_url and azure_endpoint exclude each other")
        if self.azure_endpoint and not self.azure_deployment:
            broken_rules.append("azure_deployment must be given with azure_endpoint")
        if self.batch and self.azure_endpoint:
            broken_rules.append("batch is not offered for Azure here; leave it out")
        if not is_json(self.extra_body):
            broken_rules.append(
                "extra_body must hold JSON values, without infinite or undefined numbers"
            )
        if broken_rules:
            raise ConfigError(*[f"{self._option_prefix}: {rule}" for rule in broken_rules])

    @property
    def _option_prefix(self) -> str:
        return f"generator.{self.name}"

    # Server, price and limits

    @property
    def _catalogue_entry(self) -> Model:
        return find_model(self.model)

    @property
    def endpoint(self) -> Endpoint:
        """Server that is called, with its key and timeout."""
        return Endpoint(
            base_url=self.base_url,
            azure_endpoint=self.azure_endpoint,
            azure_api_version=self.azure_api_version,
            key_env=self.api_key_env,
            timeout_seconds=self.timeout_seconds,
        )

    @property
    def served_by(self) -> str:
        """Name of the server: OpenAI, Azure OpenAI, or host and port."""
        return self.endpoint.label

    @property
    def pricing(self) -> Pricing:
        """Price of a call in dollars: the declared price, or the catalogue's."""
        entry = self._catalogue_entry
        return Pricing(
            declared_usd=self.price_usd_per_image,
            prices=entry.prices,
            output_tokens=entry.output_tokens.get(self.size, {}).get(self.quality),
            discount=load_catalogue().batch_discount if self.batch else 1.0,
        )

    @property
    def rate_limits(self) -> dict[str, float | None]:
        """Limits per minute of requests, images and tokens; None for no limit.

        Without `images_per_minute`, OpenAI's models have the lowest limit that the catalogue lists.
        """
        images_per_minute: float | None = self.images_per_minute
        if not images_per_minute and self.endpoint.is_openai:
            images_per_minute = self._catalogue_entry.images_per_minute
        return {
            "requests": self.requests_per_minute,
            "images": images_per_minute,
            "tokens": self.tokens_per_minute,
        }

    def body(self, request: Request) -> JsonObject:
        """Return the JSON body that is sent for a request, with only the parameters the model takes."""
        parameters = {
            "prompt": request.prompt,
            "model": self.azure_deployment or self.model,
            "n": 1,
            "size": self.size,
            "quality": self.quality,
            "moderation": self.moderation,
            "output_format": self.output_format,
            "response_format": "b64_json",
        }
        accepted = self._catalogue_entry.parameters
        body = {name: value for name, value in parameters.items() if name in accepted}
        body.update(fill_placeholders(self.extra_body, request))
        return {name: value for name, value in body.items() if value is not None}

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be obtained and controlled."""
        placeholders = list(map(str, self.extra_body.values()))
        has_negative_prompt = "{negative_prompt}" in placeholders
        is_local = self.endpoint.is_local
        price = f"catalogue of {load_catalogue().as_of}"
        if self.price_usd_per_image is not None:
            price = f"${self.price_usd_per_image:g} per image, as declared"
        return GeneratorCard(
            title=f"{self.model} served by {self.served_by}",
            access="local server" if is_local else "API",
            licence="the model's own" if is_local else "terms of the service",
            offline=is_local,
            seeds_reproducible=any(text.startswith("{seed") for text in placeholders),
            prompt_control="prompt, negative prompt" if has_negative_prompt else "prompt",
            fine_tunable="no",
            hardware="that of the server" if is_local else "none",
            set_up="start the server"
            if is_local
            else f"an account and a key in {self.api_key_env}",
            price=price,
        )

    @property
    def block_size(self) -> None:
        """None: images do not depend on each other, and each costs money."""

    def learning_record(self) -> None:
        """Return None, since the model was trained on no image of the study."""

    def model_ledger(self) -> Ledger:
        """Return the name of the server and of the model."""
        return Ledger(engine="images API", device=self.served_by, model=self.model)

    # Checks before any call

    def check(self) -> None:
        """Check, before any call, that calls can succeed and that their cost is known.

        Warns of a model that is not in the catalogue, or will be shut down.

        Raises:
            ConfigError: If the model was shut down or does not make such images, if its price is
                unknown, or if there is no key.
        """
        self._check_options()
        self.endpoint.require_key()

    def _check_options(self) -> None:
        prefix = self._option_prefix
        if self.endpoint.is_openai or not self._catalogue_entry.known:
            self._catalogue_entry.require_available(f"{prefix}.model", today=date.today())
        self._catalogue_entry.require_supported(
            prefix, size=self.size, quality=self.quality, output_format=self.output_format
        )
        if self.azure_endpoint and self.output_format == "webp":
            raise ConfigError(f"{prefix}.output_format=webp: Azure offers png and jpeg; choose one")
        if not self.pricing.has_price:
            raise ConfigError(
                f"{prefix}.price_usd_per_image must be given: the catalogue of "
                f"{load_catalogue().as_of} has no price of {self.model} at {self.size}, {self.quality}. "
                "Give the highest price of an image, or 0 for a server of your own"
            )

    # Money

    def with_spent_budget(
        self, spent_usd: float, *, folder: Path | None = None, limit_usd: float | None = None
    ) -> Self:
        """Return this generator with what earlier runs have spent, and the folder of their calls.

        Args:
            spent_usd: Dollars that earlier runs have spent, or may have spent.
            folder: Folder of calls that are under way; None keeps `state_folder`.
            limit_usd: Dollars that the pool may cost, if that is less than `budget_usd`.
        """
        state_folder = self.state_folder if folder is None else str(folder)
        limits = [usd for usd in (self.budget_usd, limit_usd) if usd is not None]
        return replace(
            self,
            spent_usd=spent_usd,
            state_folder=state_folder,
            budget_usd=min(limits, default=None),
        )

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """Estimate images, dollars and time of a run, and which requests would not be sent.

        It needs no key and calls no server.

        Raises:
            ConfigError: If `check` would refuse the options.
        """
        self._check_options()
        return estimate_cost(requests, self.pricing, per_minute=self.rate_limits, batch=self.batch)

    # The run

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yield results as they are received, in any order.

        Raises:
            ConfigError: If `check` refuses the options, or a service that costs money has no budget.
            BudgetError: After the last result, if the budget did not suffice for all requests.
            ApiError: After the last result, if the run stopped before all requests were made.
        """
        self.check()
        self._require_budget(requests)
        sendable = []
        for request in requests:
            if is_sendable(request):
                sendable.append(request)
                continue
            facts = {"cost_usd": 0.0, "cost_possible_usd": 0.0, "stage": "before sending"}
            yield GenerationResult(request, "refused", reason=PROMPT_TOO_LONG, facts=facts)
        if self.batch:
            yield from self._generate_in_batches(sendable)
        else:
            yield from self._generate_concurrently(sendable)

    def _require_budget(self, requests: Sequence[Request]) -> None:
        is_free = self.endpoint.is_local and self.price_usd_per_image == 0
        if self.budget_usd is None and not is_free:
            raise ConfigError(
                f"{self._option_prefix}.budget_usd must be given for a service that costs money: what this "
                "pool may cost (or generate.budget_usd: what all pools may cost together). "
                f"This run would cost:\n{self.estimate(requests)}"
            )

    @property
    def _state_path(self) -> str | None:
        """The folder of calls that are under way, without ~."""
        return None if self.state_folder is None else str(expand_path(self.state_folder))

    def _open_budget(self, requests: Sequence[Request]) -> Budget:
        """Return the budget, charged with what lost calls and open batches may have cost."""
        budget = Budget(self.budget_usd, self.spent_usd)
        if self.state_folder is not None:
            folder = expand_path(self.state_folder)
            budget.charge(unsettled_usd_before(folder, requests, self.pricing, batch=self.batch))
        return budget

    def _generate_concurrently(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        budget = self._open_budget(requests)
        rate_limiter = client.build_rate_limiter(self.concurrency, self.rate_limits)
        response_cache = ResponseCache(self._state_path)
        run = client.ApiRun(self.call_settings, rate_limiter, budget, response_cache)
        yield from background.stream_results(run, requests, in_flight=self.concurrency)
        if run.out_of_budget:
            raise budget_error(self._option_prefix, budget, run.not_sent)
        if run.stop_reason:
            raise stop_error(
                self._option_prefix,
                run.stop_reason,
                run.not_sent,
                api_key_env=self.api_key_env,
                served_by=self.served_by,
                model=self.model,
            )

    def _generate_in_batches(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        budget = self._open_budget(requests)
        runner = batch.BatchRunner(
            settings=self.call_settings,
            client=self.endpoint.build_client(asynchronous=False),
            budget=budget,
            folder=self._state_path,
            lines_per_batch=self.batch_lines,
            poll_seconds=self.poll_seconds,
        )
        yield from runner.stream_results(requests)
        if runner.not_sent:
            raise budget_error(self._option_prefix, budget, runner.not_sent)

    @property
    def call_settings(self) -> CallSettings:
        """Settings that all calls share."""
        endpoint = self.endpoint
        return CallSettings(
            make_client=lambda: endpoint.build_client(asynchronous=True),
            build_body=self.body,
            served_by=self.served_by,
            pricing=self.pricing,
            secret=endpoint.secret,
            attempts=self.attempts,
            give_up_after=self.give_up_after,
            deadline_seconds=self.timeout_seconds + CONNECT_SECONDS,
        )
