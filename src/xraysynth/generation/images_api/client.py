"""Many calls at once from one background event loop: retries, money, and results as they come."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from xraysynth.generation.images_api import limits
from xraysynth.generation.images_api.limits import Budget, BudgetExhausted, RateLimiter
from xraysynth.generation.images_api.outcomes import (
    Verdict,
    classify_exception,
    classify_status,
    redact_secrets,
)
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import (
    CallSettings,
    Exchange,
    result_from_response,
    result_without_image,
)
from xraysynth.records import GenerationResult, Request

RECORDED_HEADERS = (
    "date",
    "openai-model",
    "openai-processing-ms",
    "openai-version",
    "x-request-id",
)
IMAGES_PATH = "/images/generations"
MAX_RATE_LIMITED_ATTEMPTS = 50


class _RunStoppedError(Exception):
    """No further call is to be made."""


class _RetryableError(Exception):
    """An attempt that another may mend."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


@dataclass
class _PendingRequest:
    """A request, what calls of an earlier process may have cost, and which attempts failed."""

    request: Request
    lost_usd: float
    failed_attempts: list[str] = field(default_factory=list)


@dataclass
class ApiRun:
    """One run over a list of requests. Lives in the loop's thread but for `finished`."""

    call: CallSettings
    rate_limiter: RateLimiter
    budget: Budget
    response_cache: ResponseCache
    stop_reason: str | None = None
    out_of_budget: bool = False
    not_sent: int = 0
    _consecutive_failures: int = 0
    _cached_reservations: dict[str, int] = field(default_factory=dict)
    _workers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decode")
    )

    async def process_all(
        self,
        requests: Sequence[Request],
        put: Callable[[GenerationResult], None],
        slots: asyncio.Semaphore,
    ) -> None:
        """Every request to a result; a slot is taken before a call and given back by the taker."""
        self._charge_earlier_calls(requests)
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                # One for each call in flight: for every call a client looks at all its connections.
                count = self.rate_limiter.concurrency
                clients = [
                    await stack.enter_async_context(self.call.make_client()) for _ in range(count)
                ]
                for number, request in enumerate(requests):
                    await slots.acquire()
                    if self.stop_reason:
                        self.not_sent += 1
                        slots.release()
                        continue
                    client = clients[number % count]
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
        try:
            result = await self._replay_cached(request) or await self._send_with_retries(
                client, request
            )
        except (_RunStoppedError, BudgetExhausted) as error:
            if isinstance(error, BudgetExhausted):
                self.out_of_budget, self.stop_reason = (
                    True,
                    self.stop_reason or "the budget is used up",
                )
            self.not_sent += 1
            slots.release()
            return
        self._stop_after_failures(result)
        put(result)

    def _charge_earlier_calls(self, requests: Sequence[Request]) -> None:
        """Calls of an earlier process count before any new one, whether their answer is here or not."""
        for request in requests:
            self.budget.settle(0, self.response_cache.lost_usd(request.image_id))
            if self.response_cache.has_response(request.image_id):
                at_most = self.call.pricing.max_usd(request.prompt)
                self._cached_reservations[request.image_id] = self.budget.reserve_now(at_most)

    def _stop_after_failures(self, result: GenerationResult) -> None:
        """Stop when nothing works any more: each failure may cost money."""
        bad = result.outcome in ("failed", "possibly_billed")
        self._consecutive_failures = self._consecutive_failures + 1 if bad else 0
        if self._consecutive_failures >= self.call.give_up_after and not self.stop_reason:
            self.stop_reason = (
                f"{self._consecutive_failures} calls in a row failed; the last: {result.reason}"
            )

    async def _replay_cached(self, request: Request) -> GenerationResult | None:
        """The result of an answer that an earlier process received but did not hand on."""
        if request.image_id not in self._cached_reservations:
            return None
        exchange, content = self.response_cache.load_response(request.image_id)
        result = await self._run_in_worker(
            result_from_response, self.call, request, content, exchange
        )
        reservation = self._cached_reservations.pop(request.image_id)
        self.budget.settle(
            reservation, result.facts["cost_usd"] + result.facts["cost_possible_usd"]
        )
        return result

    async def _send_with_retries(self, client: Any, request: Request) -> GenerationResult:
        """Attempts under our own rules; the SDK makes none of its own."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        question = _PendingRequest(request, self.response_cache.lost_usd(request.image_id))
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RetryableError),
            stop=lambda state: self._retries_exhausted(state, question),
            wait=_wait_seconds,
            sleep=self.rate_limiter.clock.sleep,
            reraise=True,
        )
        try:
            result: GenerationResult = await retrying(self._attempt, client, question)
        except _RetryableError as error:
            del question.failed_attempts[-1]
            exchange = self._build_exchange(None, 0.0, question)
            return result_without_image(self.call, request, error.verdict, exchange, None)
        return result

    def _retries_exhausted(self, state: Any, question: _PendingRequest) -> bool:
        limited = state.outcome.exception().verdict.rate_limited
        most = MAX_RATE_LIMITED_ATTEMPTS if limited else self.call.attempts
        return self.stop_reason is not None or len(question.failed_attempts) >= most

    async def _attempt(self, client: Any, question: _PendingRequest) -> GenerationResult:
        """One call within the budget; what it cost takes the place of what it could have cost."""
        if self.stop_reason:
            raise _RunStoppedError
        name = question.request.image_id
        at_most = self.call.pricing.max_usd(question.request.prompt)
        reservation, paid = await self.budget.reserve(at_most), 0.0
        try:
            began = await self._wait_for_turn(question.request)
            self.response_cache.mark_sent(name, question.lost_usd + at_most)
            paid = at_most  # until the answer says otherwise, also when this task is cancelled
            result = await self._send(client, question, began)
            paid = result.facts["cost_usd"] + result.facts["cost_possible_usd"] - question.lost_usd
            return result
        except _RetryableError:
            paid = 0.0
            self.response_cache.mark_sent(name, question.lost_usd)
            raise
        finally:
            self.budget.settle(reservation, paid)

    async def _wait_for_turn(self, request: Request) -> float:
        """Wait at the gate; the time when the call may be made."""
        tokens = self.call.pricing.count_tokens(request.prompt)
        amounts = {"requests": 1.0, "images": 1.0, "tokens": float(tokens)}
        began = await self.rate_limiter.acquire(amounts, lambda: self.stop_reason is not None)
        if self.stop_reason:
            self.rate_limiter.release()
            raise _RunStoppedError
        return began

    async def _send(self, client: Any, question: _PendingRequest, began: float) -> GenerationResult:
        """One call and what it means; raises `_RetryableError` where another attempt is due."""
        import httpx2
        import openai

        raw: Any = None
        said: Any = None
        verdict: Verdict | None = None
        try:
            raw = await client.post(
                IMAGES_PATH, cast_to=httpx2.Response, body=self.call.build_body(question.request)
            )
        except openai.APIStatusError as error:
            raw, said = error.response, error.body
            headers = {k.lower(): v for k, v in raw.headers.items()}
            verdict = classify_status(error.status_code, headers, {"error": said})
        except Exception as error:  # whatever breaks off an exchange: it may have been billed
            verdict = classify_exception(error)
        finally:
            self.rate_limiter.release()
        exchange = self._build_exchange(raw, self.rate_limiter.clock.now() - began, question)
        if verdict is None:
            self.rate_limiter.record_success()
            arguments = (question.request, bytes(raw.content), exchange)
            return await self._run_in_worker(self._save_and_decode, *arguments)
        self._apply_verdict(verdict, question, began)
        return result_without_image(self.call, question.request, verdict, exchange, said)

    def _apply_verdict(self, verdict: Verdict, question: _PendingRequest, began: float) -> None:
        """Slow down, try again or stop, as the verdict asks."""
        if verdict.rate_limited:
            self.rate_limiter.record_rate_limit(began, verdict.retry_after)
        if verdict.retry:
            question.failed_attempts.append(redact_secrets(verdict.reason, self.call.secret))
            raise _RetryableError(verdict)
        if verdict.stop:
            self.stop_reason = self.stop_reason or redact_secrets(verdict.reason, self.call.secret)

    def _save_and_decode(
        self, request: Request, content: bytes, exchange: Exchange
    ) -> GenerationResult:
        if self.call.secret:  # a server that repeats what it was sent must not put it on disk
            content = content.replace(self.call.secret.encode(), b"***")
        self.response_cache.save_response(request.image_id, exchange, content)
        return result_from_response(self.call, request, content, exchange)

    def _build_exchange(self, raw: Any, seconds: float, question: _PendingRequest) -> Exchange:
        headers = {} if raw is None else raw.headers
        return Exchange(
            served_by=self.call.served_by,
            seconds=round(seconds, 4),
            retries=len(question.failed_attempts),
            retry_reasons=list(question.failed_attempts),
            request_id=headers.get("x-request-id"),
            status=None if raw is None else raw.status_code,
            headers={name: headers[name] for name in RECORDED_HEADERS if name in headers},
            lost_usd=question.lost_usd,
        )

    async def _run_in_worker(
        self, function: Callable[..., GenerationResult], *arguments: Any
    ) -> GenerationResult:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, function, *arguments)


def _wait_seconds(state: Any) -> float:
    """A rate limit is waited for at the gate, by all; a server error here, 1 to 60 s with jitter."""
    from tenacity import wait_random_exponential

    verdict = state.outcome.exception().verdict
    if verdict.rate_limited:
        return 0.0
    if verdict.retry_after is not None:
        return float(verdict.retry_after)
    return float(wait_random_exponential(multiplier=0.5, max=60)(state))


def build_rate_limiter(concurrency: int, per_minute: Mapping[str, float | None]) -> RateLimiter:
    """A gate with those rates that are known."""
    known = {what: rate for what, rate in per_minute.items() if rate is not None}
    return RateLimiter(concurrency, known, clock=limits.CLOCK)
