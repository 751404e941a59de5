"""Budget and rate limits hold whatever the concurrency, prices and failures."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_server import USAGE, ImagesServer

from xraysynth.generation import pool
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.images_api import background, client, limits
from xraysynth.generation.images_api.batch_notes import SubmittedBatch, save_batch
from xraysynth.generation.images_api.catalogue import find_model
from xraysynth.generation.images_api.limits import Budget, RateLimiter, TokenBucket
from xraysynth.generation.images_api.outcomes import BudgetError, parse_retry_after
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import CallSettings, Exchange
from xraysynth.generation.prompts import PromptBank
from xraysynth.records import Request

RATES = {"text_in": 5, "image_in": 8, "image_out": 30}


class VirtualClock(limits.Clock):
    """Time that passes only by sleeping."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds
        await asyncio.sleep(0)


class FakeService:
    """Stands in for the SDK's client; bills what it likes up to the highest price."""

    def __init__(self, plan, pricing, budget_usd):
        self.plan, self.pricing, self.budget_usd = list(plan), pricing, budget_usd
        self.billed, self.open, self.calls = 0.0, 0.0, 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def post(self, path, *, cast_to, body):
        assert path == "/images/generations"
        prompt = body["prompt"]
        kind, turns, share = self.plan[self.calls % len(self.plan)]
        self.calls += 1
        at_most = self.pricing.max_usd(prompt)
        self.open += at_most
        if share <= 1:
            assert self.billed + self.open <= self.budget_usd + 1e-9
        for _ in range(turns):
            await asyncio.sleep(0)
        self.open -= at_most
        return self._answer(kind, at_most, share)

    def _answer(self, kind, at_most, share):
        import httpx2
        import openai

        request = httpx2.Request("POST", "http://127.0.0.1")
        if isinstance(kind, int):
            response = httpx2.Response(kind, request=request)
            raise openai.APIStatusError("no", response=response, body=None)
        if kind == "refused":
            response = httpx2.Response(400, request=request)
            body = {"code": "moderation_blocked", "message": "no"}
            raise openai.APIStatusError("no", response=response, body=body)
        self.billed += share * at_most
        if kind == "lost":
            raise openai.APITimeoutError(request=request)
        tokens = int(share * at_most / 30 * 1e6)
        if self.pricing.declared_usd is not None:
            self.billed += (1 - share) * at_most
        else:
            self.billed += tokens * 30 / 1e6 - share * at_most
        usage = {"output_tokens": tokens} if kind != "no usage" else None
        content = json.dumps({"data": [], "usage": usage}).encode()
        return SimpleNamespace(
            content=b"{" if kind == "broken" else content, headers={}, status_code=200
        )


KINDS = ["paid", "paid", "paid", "lost", "refused", "broken", "no usage", 429, 500, 504]
PLANS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.floats(0, 1)), min_size=1, max_size=12
)


def run(service, pricing, *, count, concurrency, budget_usd, clock, cache=None):
    call = CallSettings(
        make_client=lambda: service,
        build_body=lambda r: {"prompt": r.prompt, "model": "m"},
        served_by="fake",
        pricing=pricing,
        secret=None,
        attempts=3,
        give_up_after=10**6,
    )
    gate = RateLimiter(concurrency, {"images": 1000.0}, clock=clock)
    this = client.ApiRun(call, gate, Budget(budget_usd), cache or ResponseCache(None))
    wanted = [Request("normal", n, f"{n}" * (n % 7), "", n) for n in range(count)]
    return list(background.stream_results(this, wanted, in_flight=concurrency)), this


@settings(max_examples=60)
@given(
    plan=PLANS,
    concurrency=st.integers(1, 64),
    count=st.integers(0, 60),
    budget_usd=st.floats(0, 2),
    declared=st.one_of(st.none(), st.floats(0, 0.3)),
)
def test_the_budget_is_never_exceeded(plan, concurrency, count, budget_usd, declared):
    pricing = Pricing(declared_usd=declared, prices=RATES, output_tokens=1756)
    service = FakeService(plan, pricing, budget_usd)
    results, this = run(
        service,
        pricing,
        count=count,
        concurrency=concurrency,
        budget_usd=budget_usd,
        clock=VirtualClock(),
    )
    counted = sum(r.facts["cost_usd"] + r.facts["cost_possible_usd"] for r in results)
    assert counted <= budget_usd + 1e-9
    assert service.billed <= counted + 1e-9
    assert this.budget.paid_usd == pytest.approx(counted, abs=1e-6)
    assert len(results) + this.not_sent == count
    if this.not_sent:
        assert budget_usd - counted < pricing.max_usd("6" * 12) + 1e-9


def test_without_the_reservation_of_calls_in_flight_the_property_would_fail(monkeypatch):
    monkeypatch.setattr(Budget, "can_afford", lambda self, usd: self.spent_usd < self.limit_usd)
    pricing = Pricing(declared_usd=0.1, prices={}, output_tokens=None)
    service = FakeService([("paid", 5, 1.0)], pricing, 0.25)
    results, _ = run(
        service, pricing, count=20, concurrency=10, budget_usd=0.25, clock=VirtualClock()
    )
    counted = sum(r.facts["cost_usd"] + r.facts["cost_possible_usd"] for r in results)
    assert counted > 0.25


def test_a_call_dearer_than_its_highest_price_makes_later_reservations_larger():
    budget = Budget(1.0)
    budget.settle(budget.reserve_now(0.1), 0.3)
    assert budget.paid_usd == 0.3
    assert budget.can_afford(0.23)
    assert not budget.can_afford(0.24)


@pytest.mark.parametrize("budget_usd", [1.0, 20.0])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_answers_that_are_dearer_than_computed_exceed_the_budget_by_one_call_per_slot(
    budget_usd, concurrency
):
    pricing = Pricing(declared_usd=None, prices=RATES, output_tokens=1000)
    service = FakeService([("paid", 3, 10.0)], pricing, budget_usd)
    results, this = run(
        *(service, pricing),
        count=300,
        concurrency=concurrency,
        budget_usd=budget_usd,
        clock=VirtualClock(),
    )
    dear_usd = 10 * pricing.max_usd("")
    assert len(results) < 300
    assert service.billed <= budget_usd + concurrency * dear_usd
    assert budget_usd - this.budget.paid_usd < 1.1 * dear_usd  # and nothing else is left unused


def test_stored_answers_that_are_dearer_than_computed_hold_back_new_calls(tmp_path):
    pricing = Pricing(declared_usd=None, prices=RATES, output_tokens=1000)
    cache = ResponseCache(str(tmp_path))
    usage = {"output_tokens": 20_000}
    content = json.dumps({"data": [], "usage": usage}).encode()
    for number in range(4):
        cache.save_response(f"normal-{number:06d}", Exchange(served_by="fake"), content)
    service = FakeService([("paid", 3, 20.0)], pricing, 1.0)
    results, this = run(
        *(service, pricing),
        count=100,
        concurrency=4,
        budget_usd=1.0,
        clock=VirtualClock(),
        cache=cache,
    )
    assert len(results) - service.calls == 4
    assert service.calls <= 4
    assert this.budget.paid_usd == pytest.approx(len(results) * 0.6, rel=0.1)


def test_sums_are_exact():
    budget = Budget(1.0)
    for _ in range(10):
        assert budget.can_afford(0.1)
        budget.settle(budget.reserve_now(0.1), 0.1)
    assert not budget.can_afford(1e-9)


def passed(per_minute, amounts, count, *, concurrency=1000):
    """When each of `count` calls came through."""

    async def main():
        clock = VirtualClock()
        gate = RateLimiter(concurrency, per_minute, clock=clock)
        return [await gate.acquire(amounts, lambda: False) for _ in range(count)]

    return asyncio.run(main())


@pytest.mark.parametrize("what", ["requests", "images", "tokens"])
def test_no_minute_sees_more_than_its_limit_and_a_burst(what):
    amount = 1756.0 if what == "tokens" else 1.0
    amounts = {"requests": 1.0, "images": 1.0, "tokens": 1756.0}
    limit = 60 * amount
    times = passed({what: limit}, amounts, 300)
    assert times[-1] == pytest.approx(298, abs=2)
    for start in times:
        within = sum(start <= t < start + 60 for t in times)
        assert within * amount <= limit * 1.02 + amount


def test_a_call_larger_than_the_burst_makes_debts():
    times = passed({"tokens": 600.0}, {"tokens": 1200.0}, 3)
    assert times == pytest.approx([0, 120, 240], abs=2)


def test_a_bucket_refills_at_its_pace():
    bucket = TokenBucket(60.0)
    bucket.level = 0.0
    assert bucket.wait_seconds(1.0, 0.0, 1.0) == pytest.approx(1.0)
    assert bucket.wait_seconds(1.0, 0.0, 0.5) == pytest.approx(2.0)


def test_the_gate_slows_down_once_for_calls_that_were_out_together_and_recovers():
    async def main():
        clock = VirtualClock()
        gate = RateLimiter(8, {}, clock=clock)
        began = [await gate.acquire({}, lambda: False) for _ in range(8)]
        clock.time = 1.0
        for start in began:
            gate.record_rate_limit(start, None)
            gate.release()
        assert gate.pace == 0.5
        first = await gate.acquire({}, lambda: False)
        assert first == pytest.approx(2.0)  # a second of rest
        gate.record_rate_limit(first, None)
        gate.release()
        assert gate.pace == 0.25
        assert await gate.acquire({}, lambda: False) == pytest.approx(4.0)  # then two
        for _ in range(50):
            gate.record_success()
        assert gate.pace == 1.0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "300"}, 300.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert parse_retry_after(headers) == seconds


def test_cost_is_usage_times_the_dated_price():
    pricing = Pricing(declared_usd=None, prices=RATES, output_tokens=1756)
    assert pricing.cost_usd(USAGE, has_image=True) == pytest.approx((20 * 5 + 439 * 30) / 1e6)
    half = Pricing(declared_usd=None, prices=RATES, output_tokens=1756, discount=0.5)
    assert half.cost_usd(USAGE, has_image=True) == pytest.approx((20 * 5 + 439 * 30) / 2e6)
    edits = {"input_tokens": 30, "input_tokens_details": {"image_tokens": 10}, "output_tokens": 0}
    assert pricing.cost_usd(edits, has_image=False) == pytest.approx((20 * 5 + 10 * 8) / 1e6)
    for silent in ({"output_tokens": "many"}, {"output_tokens": 0}, {}, None):
        assert pricing.cost_usd(silent, has_image=True) is None
    declared = Pricing(declared_usd=0.04, prices=RATES, output_tokens=1756)
    assert declared.cost_usd(None, has_image=True) == 0.04
    assert declared.cost_usd(None, has_image=False) is None


@pytest.mark.parametrize(
    ("quality", "usd"),
    [("low", 0.0059), ("medium", 0.0132), ("high", 0.0527), ("xhigh", 0.0937), ("max", 0.2107)],
)
def test_the_catalogue_gives_the_published_prices(quality, usd):
    entry = find_model("gpt-image-2.5-flare-2026-09-08")
    tokens = entry.output_tokens["1024x1024"][quality]
    assert tokens * entry.prices["image_out"] / 1e6 == pytest.approx(usd, abs=1e-4)


# Calls of a process that was killed


def other_calls(folder, usd, count):
    """Notes calls without an answer, for images that will not be requested."""
    cache = ResponseCache(str(folder))
    for number in range(count):
        cache.mark_sent(f"covid19-{number:06d}", usd)
    return cache


def dalle(server, folder, **options):
    return Dalle(base_url=server.address, state_folder=str(folder), poll_seconds=0.01, **options)


def requests(count):
    return [Request("normal", number, f"radiograph {number}", "", 0) for number in range(count)]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-limits-0123456789")
    with ImagesServer() as server:
        yield server


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("has_answer", [False, True])
def test_calls_in_flight_at_a_kill_count_when_other_images_are_requested(
    server, tmp_path, batch, has_answer
):
    cache = other_calls(tmp_path, 0.025, 4)
    if has_answer:
        cache.save_response("covid19-000000", Exchange(served_by="x"), b"{}")
    generator = dalle(server, tmp_path, budget_usd=0.1, batch=batch)
    with pytest.raises(BudgetError, match=r"\$0.1000 of it are spent or may be; 3 requests"):
        list(generator.generate(requests(3)))
    assert server.seen == []


@pytest.mark.parametrize("batch", [False, True])
def test_batches_in_flight_at_a_kill_count_when_other_images_are_requested(server, tmp_path, batch):
    note = SubmittedBatch("m", [f"covid19-{n:06d}" for n in range(4)], "batch-x", max_usd=0.025)
    (tmp_path / "api").mkdir()
    save_batch(tmp_path, note)
    generator = dalle(server, tmp_path, budget_usd=0.1, batch=batch)
    with pytest.raises(BudgetError, match=r"\$0.1000 of it are spent or may be; 3 requests"):
        list(generator.generate(requests(3)))
    assert server.seen == []


def test_a_batch_counts_when_its_images_are_requested_in_calls(server, tmp_path, capsys):
    note = {"mark": "m", "ids": [request.image_id for request in requests(3)], "id": "batch-x"}
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "m.batch").write_text(json.dumps(note))  # as earlier versions wrote it
    generator = dalle(server, tmp_path, price_usd_per_image=0.025, budget_usd=0.1)
    results = []
    with pytest.raises(BudgetError, match="2 requests"):
        results.extend(generator.generate(requests(3)))
    assert len(results) == len(server.images) == 1
    assert "warning: 3 of the images are in a batch" in capsys.readouterr().err


def test_a_call_whose_result_was_committed_before_the_kill_is_not_counted_twice(server, tmp_path):
    generator = dalle(server, tmp_path, price_usd_per_image=0.02, budget_usd=0.08)
    store = pool.pool_store(generator, PromptBank(), seed=0, parent=tmp_path)
    folder = store.folder
    pool.fill(store, replace(generator, state_folder=str(folder)), requests(2))
    ResponseCache(str(folder)).mark_sent("normal-000000", 0.02)
    ids = ["normal-000000", "normal-000001"]
    save_batch(folder, SubmittedBatch("m", ids, "batch-x", max_usd=0.02))
    generator = generator.with_spent_budget(pool.spent_usd(store), folder=folder)
    pool.fill(store, generator, requests(4))
    assert len(server.images) == 4
    assert list((folder / "api").iterdir()) == []
