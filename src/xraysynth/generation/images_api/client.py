"""Many calls at once in an event loop: within the budget and the rate limits, with retries."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from xraysynth.errors import XraysynthError
from xraysynth.generation.images_api import limits
from xraysynth.generation.images_api.limits import Budget, BudgetExhausted, RateLimiter, Reservation
from xraysynth.generation.images_api.outcomes import (
    CallFailure,
    classify_exception,
    classify_status,
)
from xraysynth.generation.images_api.redaction import clean_text, redact_content, redact_values
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import (
    RECORDED_HEADERS,
    CallSettings,
    Exchange,
    billed_usd,
    misunderstood_answer,
    result_from_response,
    result_without_image,
)
from xraysynth.records import GenerationResult, Request
from xraysynth.threads import available_cores

IMAGES_PATH = "/images/generations"
MAX_RATE_LIMITED_ATTEMPTS = 50


class _RunStoppedError(Exception):
    """The run was stopped, so that no further call may be made."""


class _RetryableError(Exception):
    """A call failed, but may succeed when it is repeated."""

    def __init__(self, failure: CallFailure) -> None:
        self.failure = failure


@dataclass
class _PendingRequest:
    """A request that has no result yet.

    Attributes:
        request: The request.
        lost_usd: Dollars that calls of an earlier process may have cost.
        failed_attempts: Why each attempt failed so far.
    """

    request: Request
    lost_usd: float
    failed_attempts: list[str] = field(default_factory=list)


@dataclass
class ApiRun:
    """One run over a list of requests; everything but `stop` is called in the event loop's thread.

    Attributes:
        settings: Settings that all calls share.
        rate_limiter: Limits calls in flight and per minute.
        budget: Limits dollars.
        response_cache: Stores answers until their results are committed.
        stop_reason: Why no further call is made, or None.
        out_of_budget: Whether the budget stopped the run.
        not_sent: Requests without a result, because the run was stopped.
    """

    settings: CallSettings
    rate_limiter: RateLimiter
    budget: Budget
    response_cache: ResponseCache
    stop_reason: str | None = None
    out_of_budget: bool = False
    not_sent: int = 0
    _consecutive_failures: int = 0
    _cached_reservations: dict[str, Reservation] = field(default_factory=dict)
    _workers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(min(4, available_cores()), "decode")
    )

    def stop(self, reason: str) -> None:
        """Makes no further call; the first reason is kept."""
        self.stop_reason = self.stop_reason or reason

    async def process_all(
        self,
        requests: Sequence[Request],
        put: Callable[[GenerationResult], None],
        slots: asyncio.Semaphore,
    ) -> None:
        """Processes every request, until all have a result or the run is stopped.

        Args:
            requests: The images to request.
            put: Hands a result to the caller, in any order.
            slots: Limits the requests in flight and the results that wait; a slot is acquired before
                a call and released by the caller of `process_all` for each result.
        """
        self._charge_earlier_calls(requests)
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                clients = []
                # One client per call in flight: with each call, a client searches its connections.
                for _ in range(min(self.rate_limiter.concurrency, len(requests))):
                    clients.append(await stack.enter_async_context(self.settings.make_client()))
                for number, request in enumerate(requests):
                    await slots.acquire()
                    if self.stop_reason:
                        self.not_sent += 1
                        slots.release()
                        continue
                    client = clients[number % len(clients)]
                    tasks.create_task(self._process(client, request, put, slots))
        finally:
            self._workers.shutdown(wait=False, cancel_futures=True)

    async def _process(
        self,
        client: Any,
        request: Request,
        put: Callable[[GenerationResult], None],
        slots: asyncio.Semaphore,
    ) -> None:
        """Hands on the result of one request, or counts it as not sent if the run is stopped."""
        try:
            result = await self._replay_cached(request)
            if result is None:
                result = await self._send_with_retries(client, request)
        except (_RunStoppedError, BudgetExhausted) as error:
            if isinstance(error, BudgetExhausted):
                self.out_of_budget = True
                self.stop("the budget is used up")
            self.not_sent += 1
            slots.release()
            return
        self._stop_after_failures(result)
        put(result)

    def _charge_earlier_calls(self, requests: Sequence[Request]) -> None:
        """Charges earlier calls for these requests before any new one, with or without an answer."""
        for request in requests:
            self.budget.charge(self.response_cache.lost_usd(request.image_id))
            if self.response_cache.has_response(request.image_id):
                max_usd = self.settings.pricing.max_usd(request.prompt)
                self._cached_reservations[request.image_id] = self.budget.reserve_now(max_usd)

    def _stop_after_failures(self, result: GenerationResult) -> None:
        """Stops after many failures in a row, as each of them may cost money."""
        if result.outcome not in ("failed", "possibly_billed"):
            self._consecutive_failures = 0
            return
        self._consecutive_failures += 1
        if self._consecutive_failures >= self.settings.give_up_after:
            count = self._consecutive_failures
            self.stop(f"{count} calls in a row failed; the last: {result.reason}")

    async def _replay_cached(self, request: Request) -> GenerationResult | None:
        """Returns the result of a stored answer of an earlier process, or None if none is stored."""
        if request.image_id not in self._cached_reservations:
            return None
        result = await self._run_in_worker(self._replay, request)
        reservation = self._cached_reservations.pop(request.image_id)
        self.budget.settle(reservation, billed_usd(result))
        return result

    def _replay(self, request: Request) -> GenerationResult:
        """Builds the result of a stored answer; one that is damaged is possibly billed."""
        try:
            exchange, content = self.response_cache.load_response(request.image_id)
        except (ValueError, XraysynthError) as error:
            failure = misunderstood_answer(error)
            exchange = Exchange(served_by=self.settings.served_by)
            return result_without_image(self.settings, request, failure, exchange, None)
        return result_from_response(self.settings, request, content, exchange)

    async def _send_with_retries(self, client: Any, request: Request) -> GenerationResult:
        """Repeats a call as the failures allow; the SDK itself does not retry."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        pending = _PendingRequest(request, self.response_cache.lost_usd(request.image_id))
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RetryableError),
            stop=lambda state: self._retries_exhausted(state, pending),
            wait=_wait_seconds,
            sleep=self._sleep_until_stopped,
            reraise=True,
        )
        try:
            result: GenerationResult = await retrying(self._attempt, client, pending)
        except _RetryableError as error:
            del pending.failed_attempts[-1]  # it becomes the reason of the result
            exchange = self._build_exchange(None, 0.0, pending)
            return result_without_image(self.settings, request, error.failure, exchange, None)
        return result

    async def _sleep_until_stopped(self, seconds: float) -> None:
        """Waits for a number of seconds, or a little longer than until the run is stopped."""
        clock = self.rate_limiter.clock
        end = clock.now() + seconds
        while not self.stop_reason and clock.now() < end:
            await clock.sleep(min(end - clock.now(), limits.LONGEST_SLEEP_SECONDS))

    def _retries_exhausted(self, state: Any, pending: _PendingRequest) -> bool:
        failure = _last_failure(state)
        limit = MAX_RATE_LIMITED_ATTEMPTS if failure.rate_limited else self.settings.attempts
        return self.stop_reason is not None or len(pending.failed_attempts) >= limit

    async def _attempt(self, client: Any, pending: _PendingRequest) -> GenerationResult:
        """Makes one call within the budget: reserves its highest price, then settles its real one."""
        image_id = pending.request.image_id
        max_usd = self.settings.pricing.max_usd(pending.request.prompt)
        reservation, start = await self._reserve_turn(pending.request, max_usd)
        paid_usd = 0.0
        try:
            self.response_cache.mark_sent(image_id, pending.lost_usd + max_usd)
            paid_usd = max_usd  # until the answer says otherwise, also if this task is cancelled
            result = await self._send(client, pending, start)
            paid_usd = billed_usd(result) - pending.lost_usd
            return result
        except _RetryableError:
            paid_usd = 0.0
            self.response_cache.mark_sent(image_id, pending.lost_usd)
            raise
        finally:
            self.budget.settle(reservation, paid_usd)
            self.rate_limiter.release()  # only now, so that the next call knows this one's price

    async def _reserve_turn(self, request: Request, max_usd: float) -> tuple[Reservation, float]:
        """Waits until the budget and the rate limiter both allow a call; returns when it may start.

        The reservation is checked again at the last moment, as answers may have shown meanwhile that
        calls are dearer.
        """
        while True:
            if self.stop_reason:
                raise _RunStoppedError
            reservation = await self.budget.reserve(max_usd)
            try:
                start = await self._wait_for_turn(request)
            except BaseException:
                self.budget.settle(reservation, 0.0)
                raise
            if self.budget.is_sufficient(reservation):
                return reservation, start
            self.rate_limiter.release()
            self.budget.settle(reservation, 0.0)

    async def _wait_for_turn(self, request: Request) -> float:
        """Waits for the rate limiter; returns the time at which the call may start."""
        tokens = self.settings.pricing.count_tokens(request.prompt)
        amounts = {"requests": 1.0, "images": 1.0, "tokens": float(tokens)}
        start = await self.rate_limiter.acquire(amounts, lambda: self.stop_reason is not None)
        if self.stop_reason:
            self.rate_limiter.release()
            raise _RunStoppedError
        return start

    async def _send(self, client: Any, pending: _PendingRequest, start: float) -> GenerationResult:
        """Makes one call and returns its result; raises `_RetryableError` if it is to be repeated."""
        request = pending.request
        response, failure, error_body = await self._post(client, request)
        seconds = self.rate_limiter.clock.now() - start
        exchange = self._build_exchange(response, seconds, pending)
        if failure is not None:
            self._apply_failure(failure, pending, start)
            return result_without_image(self.settings, request, failure, exchange, error_body)
        self.rate_limiter.record_success()
        content = bytes(response.content)
        return await self._run_in_worker(self._save_and_decode, request, content, exchange)

    async def _post(self, client: Any, request: Request) -> tuple[Any, CallFailure | None, Any]:
        """Returns the HTTP response if one came, the failure, and the body of an error."""
        import httpx2
        import openai

        body = self.settings.build_body(request)
        try:
            async with asyncio.timeout(self.settings.deadline_seconds):
                response = await client.post(IMAGES_PATH, cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            failure = classify_status(error.status_code, headers, {"error": error.body})
            return error.response, failure, error.body
        except Exception as error:  # whatever breaks off a call: it may have been billed
            return None, classify_exception(error), None
        return response, None, None

    def _apply_failure(self, failure: CallFailure, pending: _PendingRequest, start: float) -> None:
        """Slows down, retries or stops, as the failure demands."""
        if failure.rate_limited:
            self.rate_limiter.record_rate_limit(start, failure.retry_after)
        reason = clean_text(failure.reason, self.settings.secret)
        if failure.retry:
            pending.failed_attempts.append(reason)
            raise _RetryableError(failure)
        if failure.stop:
            self.stop(reason)

    def _save_and_decode(
        self, request: Request, content: bytes, exchange: Exchange
    ) -> GenerationResult:
        # A server may repeat the key, which must not reach the disk.
        content = redact_content(content, self.settings.secret)
        self.response_cache.save_response(request.image_id, exchange, content)
        return result_from_response(self.settings, request, content, exchange)

    def _build_exchange(self, response: Any, seconds: float, pending: _PendingRequest) -> Exchange:
        headers = {} if response is None else redact_values(response.headers, self.settings.secret)
        return Exchange(
            served_by=self.settings.served_by,
            seconds=round(seconds, 4),
            retries=len(pending.failed_attempts),
            retry_reasons=list(pending.failed_attempts),
            request_id=headers.get("x-request-id"),
            status=None if response is None else response.status_code,
            headers={name: headers[name] for name in RECORDED_HEADERS if name in headers},
            lost_usd=pending.lost_usd,
        )

    async def _run_in_worker(
        self, function: Callable[..., GenerationResult], *arguments: Any
    ) -> GenerationResult:
        """Runs a function in a worker thread, as decoding would block the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, function, *arguments)


def _last_failure(state: Any) -> CallFailure:
    """Returns the failure of the last attempt from tenacity's state of a call."""
    failure: CallFailure = state.outcome.exception().failure
    return failure


def _wait_seconds(state: Any) -> float:
    """Returns the pause before the next attempt of one call: up to 60 s with jitter for an error.

    After a rate limit it is 0, as the rate limiter makes all calls wait.
    """
    from tenacity import wait_random_exponential

    failure = _last_failure(state)
    if failure.rate_limited:
        return 0.0
    if failure.retry_after is not None:
        return limits.grant_pause(failure.retry_after)
    return float(wait_random_exponential(multiplier=0.5, max=60)(state))


def build_rate_limiter(concurrency: int, per_minute: Mapping[str, float | None]) -> RateLimiter:
    """Builds a rate limiter with the rates per minute that are known, which are not None."""
    known_rates = {unit: rate for unit, rate in per_minute.items() if rate is not None}
    return RateLimiter(concurrency, known_rates, clock=limits.CLOCK)
