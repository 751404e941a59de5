"""Limits of calls: the budget, the rates per minute, and pauses that the server asks for."""

import asyncio
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LONGEST_SLEEP_SECONDS = 5.0
"""Longest sleep before a waiting call looks whether the run was stopped."""

MAX_PAUSE_SECONDS = 600.0
"""Longest pause that a server is granted, whatever it asks for; then the call is tried again."""

SILENT_PAUSE_SECONDS = 60.0
"""Longest pause that is not announced."""

SPEED_UP = 0.02
"""By how much `RateLimiter.pace` grows with every answer."""


class Clock:
    """Monotonic time and sleep in seconds; tests replace it by a virtual clock."""

    def now(self) -> float:
        """Returns the seconds since an arbitrary moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits for a number of seconds."""
        await asyncio.sleep(seconds)


CLOCK = Clock()


class BudgetExhausted(Exception):
    """The next call could exceed the budget, and no call in flight can release any of it."""


@dataclass(frozen=True)
class Reservation:
    """Dollars that are held back for one call.

    Attributes:
        usd: Highest price of the call, as computed before any answer.
        nano_usd: What is held back, in billionths: more than `usd` once a call was dearer.
    """

    usd: float
    nano_usd: int


@dataclass
class Budget:
    """Dollars that may be spent, in whole billionths so that sums are exact.

    Before a call its highest price is reserved; afterwards the price paid replaces the reservation.
    A call that could exceed the limit waits for calls in flight, which may cost less than reserved.
    When a call costs more than its highest price, reservations grow by the same factor, also those
    of calls that still wait (`is_sufficient`). Only calls that are in flight when the first dear
    answer comes can exceed the limit: at most as many as `RateLimiter.concurrency` allows.

    Attributes:
        limit_usd: Dollars that may be spent, or None for no limit.
        spent_usd: Dollars that earlier runs have spent.
    """

    limit_usd: float | None
    spent_usd: float = 0.0
    _reserved_nano_usd: int = 0
    _price_factor: float = 1.0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._paid_nano_usd = _to_nano_usd(self.spent_usd)

    @property
    def paid_usd(self) -> float:
        """Dollars that were paid, or may have been, in this run and earlier ones."""
        return self._paid_nano_usd / 1e9

    def can_afford(self, usd: float) -> bool:
        """Whether a call of at most this price can be made now."""
        if self.limit_usd is None:
            return True
        limit_nano_usd = math.floor(self.limit_usd * 1e9)
        free_nano_usd = limit_nano_usd - self._paid_nano_usd - self._reserved_nano_usd
        return _to_nano_usd(usd * self._price_factor) <= free_nano_usd

    async def reserve(self, usd: float) -> Reservation:
        """Reserves the highest price of a call; waits for calls in flight where that is necessary.

        Args:
            usd: Highest price of the call in dollars.

        Raises:
            BudgetExhausted: If no call is in flight and the call could exceed the limit.
        """
        while not self.can_afford(usd):
            if not self._reserved_nano_usd:
                raise BudgetExhausted
            self._settled.clear()
            await self._settled.wait()
        return self.reserve_now(usd)

    def reserve_now(self, usd: float) -> Reservation:
        """Reserves the highest price of a call, even if that exceeds the limit; see `reserve`."""
        reservation = Reservation(usd, _to_nano_usd(usd * self._price_factor))
        self._reserved_nano_usd += reservation.nano_usd
        return reservation

    def is_sufficient(self, reservation: Reservation) -> bool:
        """Whether a reservation covers its call at the prices that answers have shown since."""
        return reservation.nano_usd >= _to_nano_usd(reservation.usd * self._price_factor)

    def settle(self, reservation: Reservation, usd: float) -> None:
        """Replaces a reservation by the price of the call after it has ended.

        Args:
            reservation: What `reserve` or `reserve_now` returned.
            usd: Dollars that the call cost.
        """
        self._reserved_nano_usd -= reservation.nano_usd
        if reservation.usd:
            self._price_factor = max(self._price_factor, usd / reservation.usd)
        self.charge(usd)

    def charge(self, usd: float) -> None:
        """Adds dollars for which nothing was reserved."""
        self._paid_nano_usd += _to_nano_usd(usd)
        self._settled.set()


def _to_nano_usd(usd: float) -> int:
    return math.ceil(round(usd * 1e9, 3))


@dataclass
class TokenBucket:
    """A rate per minute that allows a burst of one second.

    The level becomes negative when one call needs more than the bucket holds.

    Attributes:
        per_minute: Requests, images or tokens per minute.
        level: Amount that can be taken now.
        filled_at: Time of the last filling in seconds, or None.
    """

    per_minute: float
    level: float = field(init=False)
    filled_at: float | None = None

    def __post_init__(self) -> None:
        self.capacity = max(1.0, self.per_minute / 60)
        self.level = self.capacity

    def wait_seconds(self, amount: float, now: float, pace: float) -> float:
        """Fills the bucket up and returns the seconds until `amount` can be taken; 0 for now.

        Args:
            amount: Requests, images or tokens of the next call.
            now: The time in seconds.
            pace: Factor of the rate, in (0, 1].
        """
        previous = now if self.filled_at is None else self.filled_at
        per_second = self.per_minute / 60 * pace
        self.level = min(self.capacity, self.level + (now - previous) * per_second)
        self.filled_at = now
        shortfall = min(amount, self.capacity) - self.level
        return shortfall / per_second if shortfall > 1e-9 else 0.0


def grant_pause(requested_seconds: float) -> float:
    """Returns the seconds to wait for a server that asks for a pause; a long one is announced.

    Args:
        requested_seconds: The pause that the server asks for.
    """
    seconds = min(requested_seconds, MAX_PAUSE_SECONDS)
    if requested_seconds > SILENT_PAUSE_SECONDS:
        print(
            f"the server asks to wait for {requested_seconds:.9g} s; waiting for {seconds:g} s",
            file=sys.stderr,
            flush=True,
        )
    return seconds


@dataclass
class RateLimiter:
    """Starts calls one by one, at the rate and concurrency that the server has shown to accept.

    `pace` scales the number of calls in flight and all rates. It halves when the server answers 429
    (too many requests) to a call that began after the last halving, and recovers by 1/50 with every
    answer. After a 429 all calls wait: as long as its `retry-after` says, but at most `MAX_PAUSE_SECONDS`,
    else 1, 2, 4 … 60 seconds.

    Attributes:
        concurrency: Most calls in flight.
        per_minute: "requests", "images", "tokens" -> rate per minute, for the rates that are known.
        clock: Measures time and sleeps.
        pace: Factor in (0, 1].
        waits: Seconds of every pause after a 429.
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
        self._queue = asyncio.Lock()  # in the order in which calls arrive
        self._released = asyncio.Event()
        self._buckets = {unit: TokenBucket(rate) for unit, rate in self.per_minute.items()}

    async def acquire(self, amounts: Mapping[str, float], is_stopped: Callable[[], bool]) -> float:
        """Waits until a call may start, or until the run is stopped.

        The caller must `release` afterwards in both cases.

        Args:
            amounts: "requests", "images", "tokens" -> amount that the call takes.
            is_stopped: Returns whether the run was stopped meanwhile.

        Returns:
            The time at which the call starts, in seconds of the clock.
        """
        async with self._queue:
            while not is_stopped():
                if self._in_flight >= self._allowed_in_flight:
                    self._released.clear()
                    await self._released.wait()
                    continue
                seconds = self._seconds_to_wait(amounts)
                if seconds <= 0:
                    break
                await self.clock.sleep(min(seconds, LONGEST_SLEEP_SECONDS))
            for unit, bucket in self._buckets.items():
                bucket.level -= amounts[unit]
            self._in_flight += 1
            return self.clock.now()

    @property
    def _allowed_in_flight(self) -> int:
        return max(1, round(self.concurrency * self.pace))

    def _seconds_to_wait(self, amounts: Mapping[str, float]) -> float:
        """Returns the seconds until the pause has ended and every rate allows the call."""
        now = self.clock.now()
        seconds = max(self._resume_at - now, 0.0)
        for unit, bucket in self._buckets.items():
            seconds = max(seconds, bucket.wait_seconds(amounts[unit], now, self.pace))
        return seconds

    def release(self) -> None:
        """Notes that a call has ended."""
        self._in_flight -= 1
        self._released.set()

    def record_success(self) -> None:
        """Notes that the server accepted a call: later calls are a little faster."""
        self.pace = min(1.0, self.pace + SPEED_UP)
        self._consecutive_429 = 0

    def record_rate_limit(self, start: float, retry_after: float | None) -> None:
        """Notes that the server answered 429: all calls pause, and later ones are slower.

        Args:
            start: When the refused call started, in seconds of the clock.
            retry_after: Seconds that the server asks to wait, or None.
        """
        now = self.clock.now()
        if start >= self._slowed_at:
            self._slowed_at = now
            self.pace = max(self.pace / 2, 1 / (4 * self.concurrency))
            self._consecutive_429 += 1
        if retry_after is None:
            wait = min(60.0, 2.0 ** min(self._consecutive_429 - 1, 6))
        elif now + min(retry_after, MAX_PAUSE_SECONDS) <= self._resume_at:
            return  # calls that were in flight together get the same answer, which counts once
        else:
            wait = grant_pause(retry_after)
        self.waits.append(wait)
        self._resume_at = max(self._resume_at, now + wait)
