"""What holds calls back: the budget, the rates per minute, and the server's wish to be left alone."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Clock:
    """Monotonic time and sleep in seconds; tests put another in its place."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


CLOCK = Clock()


class BudgetExhausted(Exception):
    """The next call could exceed the budget, and no call in flight can free any of it."""


@dataclass
class Budget:
    """Dollars that may be spent, kept in whole billionths so that sums are exact.

    Before a call its highest price is reserved; afterwards the price paid takes its place. A call
    that could exceed the limit waits for those in flight, which may cost less than was reserved.
    When a call costs more than its highest price, later reservations grow by the same factor.
    """

    limit_usd: float | None
    spent_usd: float = 0.0
    _reserved: int = 0
    _price_factor: float = 1.0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._spent = _to_nano_usd(self.spent_usd)

    @property
    def paid_usd(self) -> float:
        """Dollars paid or possibly paid."""
        return self._spent / 1e9

    def can_afford(self, usd: float) -> bool:
        """Whether a call of at most this price can be made now."""
        if self.limit_usd is None:
            return True
        free = math.floor(self.limit_usd * 1e9) - self._spent - self._reserved
        return _to_nano_usd(usd * self._price_factor) <= free

    async def reserve(self, usd: float) -> int:
        """Set the highest price of a call aside; the reservation is given back to `settle`."""
        while not self.can_afford(usd):
            if not self._reserved:
                raise BudgetExhausted
            self._settled.clear()
            await self._settled.wait()
        return self.reserve_now(usd)

    def reserve_now(self, usd: float) -> int:
        """Reserve without asking."""
        reservation = _to_nano_usd(usd * self._price_factor)
        self._reserved += reservation
        return reservation

    def settle(self, reservation: int, usd: float) -> None:
        """A call has ended and cost this much."""
        paid = _to_nano_usd(usd)
        self._reserved -= reservation
        self._spent += paid
        if reservation and paid > reservation:
            self._price_factor *= paid / reservation
        self._settled.set()


def _to_nano_usd(usd: float) -> int:
    return math.ceil(round(usd * 1e9, 3))


@dataclass
class TokenBucket:
    """A rate per minute with a burst of a second, and debts where one call needs more."""

    per_minute: float
    level: float = field(init=False)
    filled_at: float | None = None

    def __post_init__(self) -> None:
        self.capacity = max(1.0, self.per_minute / 60)
        self.level = self.capacity

    def wait_seconds(self, amount: float, now: float, pace: float) -> float:
        """Seconds until `amount` can be taken, 0 if now."""
        before = now if self.filled_at is None else self.filled_at
        rate = self.per_minute / 60 * pace
        self.level = min(self.capacity, self.level + (now - before) * rate)
        self.filled_at = now
        short = min(amount, self.capacity) - self.level
        return short / rate if short > 1e-9 else 0.0


@dataclass
class RateLimiter:
    """Lets calls pass one by one, as many at once and per minute as the server has shown to take.

    `pace` in (0, 1] scales the calls in flight and all rates. It halves when the server says 429 to a
    call that began after the last halving, and recovers by 1/50 with every answer. After a 429 all
    calls wait: as long as `retry-after` says, else 1, 2, 4 … 60 seconds.
    """

    concurrency: int
    per_minute: Mapping[str, float]
    clock: Clock = field(default_factory=lambda: CLOCK)
    pace: float = 1.0
    waits: list[float] = field(default_factory=list)
    _in_flight: int = 0
    _resume_at: float = -math.inf
    _slowed_at: float = -math.inf
    _consecutive_429: int = 0

    def __post_init__(self) -> None:
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()
        self._buckets = {what: TokenBucket(rate) for what, rate in self.per_minute.items()}

    async def acquire(self, amounts: Mapping[str, float], is_stopped: Callable[[], bool]) -> float:
        """Wait for a turn, and say when it came."""
        async with self._turn:
            while not is_stopped():
                if self._in_flight >= max(1, round(self.concurrency * self.pace)):
                    self._left.clear()
                    await self._left.wait()
                    continue
                now = self.clock.now()
                seconds = max(self._resume_at - now, self._bucket_seconds(amounts, now))
                if seconds <= 0:
                    break
                await self.clock.sleep(min(seconds, 5.0) if seconds < math.inf else 5.0)
            for what, bucket in self._buckets.items():
                bucket.level -= amounts[what]
            self._in_flight += 1
            return self.clock.now()

    def _bucket_seconds(self, amounts: Mapping[str, float], now: float) -> float:
        waits = (b.wait_seconds(amounts[w], now, self.pace) for w, b in self._buckets.items())
        return max(waits, default=0.0)

    def release(self) -> None:
        """A call has ended."""
        self._in_flight -= 1
        self._left.set()

    def record_success(self) -> None:
        """The server took a call: a little faster."""
        self.pace = min(1.0, self.pace + 0.02)
        self._consecutive_429 = 0

    def record_rate_limit(self, began: float, retry_after: float | None) -> None:
        """The server said 429 to a call that began then: everybody waits, and then goes slower."""
        now = self.clock.now()
        if began >= self._slowed_at:
            self._slowed_at = now
            self.pace = max(self.pace / 2, 1 / (4 * self.concurrency))
            self._consecutive_429 += 1
        wait = (
            retry_after
            if retry_after is not None
            else min(60.0, 2.0 ** min(self._consecutive_429 - 1, 6))
        )
        self.waits.append(wait)
        self._resume_at = max(self._resume_at, now + wait)
