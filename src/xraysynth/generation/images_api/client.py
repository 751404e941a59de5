"""Many calls at once from one background event loop: retries, money, and results as they come."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from xraysynth.generation.images_api import limits
from xraysynth.generation.images_api.limits import Budget, BudgetExhausted, Gate
from xraysynth.generation.images_api.outcomes import (
    Verdict,
    judge_exception,
    judge_status,
    scrubbed,
)
from xraysynth.generation.images_api.response_cache import Spool
from xraysynth.generation.images_api.results import Call, Exchange, understood, without_image
from xraysynth.records import Generated, Request

KEPT_HEADERS = ("date", "openai-model", "openai-processing-ms", "openai-version", "x-request-id")
PATH = "/images/generations"
RATE_LIMITED_ATTEMPTS = 50


class _Stopped(Exception):
    """No further call is to be made."""


class _Again(Exception):
    """An attempt that another may mend."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


@dataclass
class _Question:
    """A request, what calls of an earlier process may have cost, and which attempts failed."""

    request: Request
    lost_usd: float
    tried: list[str] = field(default_factory=list)


@dataclass
class Run:
    """One run over a list of requests. Lives in the loop's thread but for `finished`."""

    call: Call
    gate: Gate
    budget: Budget
    spool: Spool
    stopped: str | None = None
    out_of_budget: bool = False
    not_asked: int = 0
    _bad_in_a_row: int = 0
    _replays: dict[str, int] = field(default_factory=dict)
    _workers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decode")
    )

    async def all(
        self,
        requests: Sequence[Request],
        put: Callable[[Generated], None],
        slots: asyncio.Semaphore,
    ) -> None:
        """Every request to a result; a slot is taken before a call and given back by the taker."""
        self._count_earlier(requests)
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                # One for each call in flight: for every call a client looks at all its connections.
                count = self.gate.concurrency
                clients = [
                    await stack.enter_async_context(self.call.client()) for _ in range(count)
                ]
                for number, request in enumerate(requests):
                    await slots.acquire()
                    if self.stopped:
                        self.not_asked += 1
                        slots.release()
                        continue
                    client = clients[number % count]
                    tasks.create_task(self._one(client, request, put, slots))
        finally:
            self._workers.shutdown(wait=False, cancel_futures=True)

    async def _one(
        self,
        client: Any,
        request: Request,
        put: Callable[[Generated], None],
        slots: asyncio.Semaphore,
    ) -> None:
        try:
            result = await self._replayed(request) or await self._asked(client, request)
        except (_Stopped, BudgetExhausted) as error:
            if isinstance(error, BudgetExhausted):
                self.out_of_budget, self.stopped = True, self.stopped or "the budget is used up"
            self.not_asked += 1
            slots.release()
            return
        self._watch(result)
        put(result)

    def _count_earlier(self, requests: Sequence[Request]) -> None:
        """Calls of an earlier process count before any new one, whether their answer is here or not."""
        for request in requests:
            self.budget.settle(0, self.spool.lost_usd(request.image_id))
            if self.spool.has_answer(request.image_id):
                at_most = self.call.pricing.at_most_usd(request.prompt)
                self._replays[request.image_id] = self.budget.set_aside(at_most)

    def _watch(self, result: Generated) -> None:
        """Stop when nothing works any more: each failure may cost money."""
        bad = result.outcome in ("failed", "possibly_billed")
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        if self._bad_in_a_row >= self.call.give_up_after and not self.stopped:
            self.stopped = f"{self._bad_in_a_row} calls in a row failed; the last: {result.reason}"

    async def _replayed(self, request: Request) -> Generated | None:
        """The result of an answer that an earlier process received but did not hand on."""
        if request.image_id not in self._replays:
            return None
        exchange, content = self.spool.answer(request.image_id)
        result = await self._in_worker(understood, self.call, request, content, exchange)
        reservation = self._replays.pop(request.image_id)
        self.budget.settle(
            reservation, result.facts["cost_usd"] + result.facts["cost_possible_usd"]
        )
        return result

    async def _asked(self, client: Any, request: Request) -> Generated:
        """Attempts under our own rules; the SDK makes none of its own."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        question = _Question(request, self.spool.lost_usd(request.image_id))
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            stop=lambda state: self._enough(state, question),
            wait=_wait_seconds,
            sleep=self.gate.clock.sleep,
            reraise=True,
        )
        try:
            result: Generated = await retrying(self._attempt, client, question)
        except _Again as error:
            del question.tried[-1]
            exchange = self._exchange(None, 0.0, question)
            return without_image(self.call, request, error.verdict, exchange, None)
        return result

    def _enough(self, state: Any, question: _Question) -> bool:
        limited = state.outcome.exception().verdict.limited
        most = RATE_LIMITED_ATTEMPTS if limited else self.call.attempts
        return self.stopped is not None or len(question.tried) >= most

    async def _attempt(self, client: Any, question: _Question) -> Generated:
        """One call within the budget; what it cost takes the place of what it could have cost."""
        if self.stopped:
            raise _Stopped
        name = question.request.image_id
        at_most = self.call.pricing.at_most_usd(question.request.prompt)
        reservation, paid = await self.budget.reserve(at_most), 0.0
        try:
            began = await self._turn(question.request)
            self.spool.sent(name, question.lost_usd + at_most)
            paid = at_most  # until the answer says otherwise, also when this task is cancelled
            result = await self._sent(client, question, began)
            paid = result.facts["cost_usd"] + result.facts["cost_possible_usd"] - question.lost_usd
            return result
        except _Again:
            paid = 0.0
            self.spool.sent(name, question.lost_usd)
            raise
        finally:
            self.budget.settle(reservation, paid)

    async def _turn(self, request: Request) -> float:
        """Wait at the gate; the time when the call may be made."""
        tokens = self.call.pricing.tokens(request.prompt)
        amounts = {"requests": 1.0, "images": 1.0, "tokens": float(tokens)}
        began = await self.gate.enter(amounts, lambda: self.stopped is not None)
        if self.stopped:
            self.gate.leave()
            raise _Stopped
        return began

    async def _sent(self, client: Any, question: _Question, began: float) -> Generated:
        """One call and what it means; raises `_Again` where another attempt is due."""
        import httpx2
        import openai

        raw: Any = None
        said: Any = None
        verdict: Verdict | None = None
        try:
            raw = await client.post(
                PATH, cast_to=httpx2.Response, body=self.call.body(question.request)
            )
        except openai.APIStatusError as error:
            raw, said = error.response, error.body
            headers = {k.lower(): v for k, v in raw.headers.items()}
            verdict = judge_status(error.status_code, headers, {"error": said})
        except Exception as error:  # whatever breaks off an exchange: it may have been billed
            verdict = judge_exception(error)
        finally:
            self.gate.leave()
        exchange = self._exchange(raw, self.gate.clock.now() - began, question)
        if verdict is None:
            self.gate.succeeded()
            arguments = (question.request, bytes(raw.content), exchange)
            return await self._in_worker(self._received, *arguments)
        self._heed(verdict, question, began)
        return without_image(self.call, question.request, verdict, exchange, said)

    def _heed(self, verdict: Verdict, question: _Question, began: float) -> None:
        """Slow down, try again or stop, as the verdict asks."""
        if verdict.limited:
            self.gate.refused(began, verdict.retry_after)
        if verdict.retry:
            question.tried.append(scrubbed(verdict.reason, self.call.secret))
            raise _Again(verdict)
        if verdict.stop:
            self.stopped = self.stopped or scrubbed(verdict.reason, self.call.secret)

    def _received(self, request: Request, content: bytes, exchange: Exchange) -> Generated:
        if self.call.secret:  # a server that repeats what it was sent must not put it on disk
            content = content.replace(self.call.secret.encode(), b"***")
        self.spool.received(request.image_id, exchange, content)
        return understood(self.call, request, content, exchange)

    def _exchange(self, raw: Any, seconds: float, question: _Question) -> Exchange:
        headers = {} if raw is None else raw.headers
        return Exchange(
            served_by=self.call.served_by,
            seconds=round(seconds, 4),
            retries=len(question.tried),
            retry_reasons=list(question.tried),
            request_id=headers.get("x-request-id"),
            status=None if raw is None else raw.status_code,
            headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
            lost_usd=question.lost_usd,
        )

    async def _in_worker(self, function: Callable[..., Generated], *arguments: Any) -> Generated:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, function, *arguments)


def _wait_seconds(state: Any) -> float:
    """A rate limit is waited for at the gate, by all; a server error here, 1 to 60 s with jitter."""
    from tenacity import wait_random_exponential

    verdict = state.outcome.exception().verdict
    if verdict.limited:
        return 0.0
    if verdict.retry_after is not None:
        return float(verdict.retry_after)
    return float(wait_random_exponential(multiplier=0.5, max=60)(state))


def gate(concurrency: int, per_minute: Mapping[str, float | None]) -> Gate:
    """A gate with those rates that are known."""
    known = {what: rate for what, rate in per_minute.items() if rate is not None}
    return Gate(concurrency, known, clock=limits.CLOCK)
