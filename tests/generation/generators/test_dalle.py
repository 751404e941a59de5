"""The API generator against a loopback server: outcomes, requests that the server saw, and money."""

import asyncio
import json
import math
import os
import sys
import time

import numpy as np
import pytest
from images_server import USAGE, Answer, ImagesServer, error_answer, image_answer, picture

from xraysynth.errors import ConfigError
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.images_api import limits
from xraysynth.generation.images_api.background import RESULT_BUFFER_SIZE
from xraysynth.generation.images_api.outcomes import ApiError, BudgetError
from xraysynth.records import Request
from xraysynth.seeds import identity

KEY = "sk-test-0123456789abcdef"
PAID = (20 * 5 + 439 * 30) / 1e6
"""Dollars of one answer's usage at the catalogue's prices."""


def wanted(count=1, label="normal"):
    return [Request(label, n, f"chest radiograph {label} {n}", "text", n) for n in range(count)]


def at_most(generator):
    return generator.pricing.max_usd(wanted()[0].prompt)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/must-not-be-read")


class FakeClock(limits.Clock):
    """Skips what it is asked to sleep."""

    def __init__(self):
        self.skipped, self.slept = 0.0, []

    def now(self):
        return time.monotonic() + self.skipped

    async def sleep(self, seconds):
        self.skipped += seconds
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(limits, "CLOCK", clock)
    return clock


def run(answers, count=1, **options):
    """Results, server and generator of requests that get these answers in turn; the last one stays."""

    def respond(body, n):
        answer = answers[min(n, len(answers) - 1)]
        return answer(body) if callable(answer) else answer

    with ImagesServer(respond) as server:
        options = {"base_url": server.address, "budget_usd": 10.0, "attempts": 3} | options
        generator = Dalle(**options)
        results, error = [], None
        try:
            for result in generator.generate(wanted(count)):
                results.append(result)
        except ApiError as raised:
            error = raised
    return results, server, generator, error


GOOD = image_answer(picture(1))
BLOCKED = {"type": "image_generation_user_error"}
INPUT = "Your request was rejected by the safety system. safety_violations=[violence, self-harm]."
OUTPUT = "The generated image was rejected by the safety system."
AZURE = {
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_results": {
            "violence": {"filtered": True, "severity": "high"},
            "hate": {"filtered": False},
        },
    }
}
NO_IMAGE = json.dumps({"data": [{"b64_json": "QUJD"}], "usage": USAGE}).encode()
NO_BASE64 = json.dumps({"data": [{"b64_json": "%%%"}], "usage": USAGE}).encode()
EMPTY = json.dumps({"data": [], "usage": USAGE}).encode()
BARE = json.dumps({"data": json.loads(GOOD.body)["data"]}).encode()
NO_TOKENS = json.dumps(json.loads(GOOD.body) | {"usage": {"output_tokens": 0}}).encode()
LINK = json.dumps({"data": [{"url": "https://example.org/1.png"}], "usage": USAGE}).encode()
SERVER_ERROR = error_answer(500, "server_error")

CASES = {
    # answers in turn: outcome, requests seen, dollars paid, dollars perhaps paid, part of the reason
    "success": ([GOOD], "image", 1, PAID, 0, ""),
    "429 without retry-after": ([error_answer(429, "rate"), GOOD], "image", 2, PAID, 0, ""),
    "500 once": ([SERVER_ERROR, GOOD], "image", 2, PAID, 0, ""),
    "500 for ever": ([SERVER_ERROR], "failed", 3, 0, 0, "HTTP 500"),
    "502": ([error_answer(502, "x"), GOOD], "image", 2, PAID, 0, ""),
    "gateway timeout": ([error_answer(504, "x")], "possibly_billed", 1, 0, "most", "HTTP 504"),
    "timeout": ([Answer(delay=60)], "possibly_billed", 1, 0, "most", "Timeout"),
    "dropped": ([Answer(drop="at once")], "possibly_billed", 1, 0, "most", "no answer"),
    "cut off": ([image_answer(picture(1), drop="halfway")], "possibly_billed", 1, 0, "most", ""),
    "truncated JSON": ([Answer(body=NO_IMAGE[:20])], "possibly_billed", 1, 0, "most", "JSON"),
    "not JSON": ([Answer(body=b"<html>")], "possibly_billed", 1, 0, "most", "JSON"),
    "a list": ([Answer(body=b"[1]")], "possibly_billed", 1, 0, "most", "JSON"),
    "invalid base64": ([Answer(body=NO_BASE64)], "failed", 1, PAID, 0, "base64"),
    "not an image": ([Answer(body=NO_IMAGE)], "failed", 1, PAID, 0, "not an image"),
    "cut image": ([image_answer(picture(1)[:-300])], "failed", 1, PAID, 0, "not an image"),
    "empty": ([Answer(body=EMPTY)], "empty", 1, PAID, 0, "no image"),
    "no usage, no image": ([Answer(body=b'{"data": []}')], "empty", 1, 0, "most", ""),
    "image, no usage": ([Answer(body=BARE)], "image", 1, 0, "most", ""),
    "image, empty usage": ([Answer(body=NO_TOKENS)], "image", 1, 0, "most", ""),
    "blocked behind a proxy": (
        [error_answer(400, "400", "BadRequestError: OpenAIException - safety_violations=[gore]")],
        *("refused", 1, 0, 0, "safety_violations"),
    ),
    "a link": ([Answer(body=LINK)], "failed", 1, PAID, 0, "link"),
    "blocked prompt": (
        [error_answer(400, "moderation_blocked", INPUT, extra=BLOCKED)],
        *("refused", 1, 0, 0, "moderation_blocked"),
    ),
    "blocked image": (
        [error_answer(400, "moderation_blocked", OUTPUT)],
        *("refused", 1, 0, "most", "generated image"),
    ),
    "policy": ([error_answer(400, "content_policy_violation")], "refused", 1, 0, 0, "policy"),
    "azure": ([error_answer(400, "contentFilter", extra=AZURE)], "refused", 1, 0, 0, ""),
    "other 400": ([error_answer(400, "invalid_value")], "failed", 1, 0, 0, "invalid_value"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_answer_has_its_outcome_its_requests_and_its_cost(case, clock):
    answers, outcome, seen, paid, possible, reason = CASES[case]
    timeout = 1.5 if case == "timeout" else 30.0
    (result,), server, generator, error = run(answers, timeout_seconds=timeout)
    assert error is None
    assert result.outcome == outcome
    assert reason in result.reason
    assert len(server.images) == seen
    assert result.facts["retries"] == seen - 1
    assert result.facts["cost_usd"] == pytest.approx(paid)
    most = at_most(generator) if possible == "most" else possible
    assert result.facts["cost_possible_usd"] == pytest.approx(most)
    assert (result.pixels is not None) == (outcome == "image")


def test_refusals_keep_stage_and_categories():
    (result,), *_ = run(CASES["blocked prompt"][0])
    assert result.facts["categories"] == ["violence", "self-harm"]
    (result,), *_ = run(CASES["blocked image"][0])
    assert result.facts["stage"] == "output"
    (result,), *_ = run(CASES["azure"][0])
    assert result.facts["categories"] == ["violence"]
    details = {"moderation_stage": "input", "categories": ["violence"]}
    answer = error_answer(400, "moderation_blocked", extra={"moderation_details": details})
    (result,), *_ = run([answer])
    assert (result.facts["stage"], result.facts["categories"]) == ("input", ["violence"])


@pytest.mark.parametrize(("header", "seconds"), [("1", 1.0), ("300", 300.0)])
def test_retry_after_is_waited_for_however_long(header, seconds, clock):
    limited = error_answer(429, "rate_limit_exceeded", headers={"retry-after": header})
    (result,), server, *_ = run([limited, GOOD])
    assert (result.outcome, len(server.images)) == ("image", 2)
    assert sum(clock.slept) == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "header", ["99999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "601.5"]
)
def test_a_pause_without_end_is_cut_and_announced(status, header, clock, capsys):
    limited = error_answer(status, "x", headers={"retry-after": header})
    (result,), server, *_ = run([limited, GOOD])
    assert (result.outcome, len(server.images)) == ("image", 2)
    assert sum(clock.slept) == pytest.approx(limits.MAX_PAUSE_SECONDS, abs=0.5)
    assert "the server asks to wait for" in capsys.readouterr().err


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_pause_ends_when_the_run_is_stopped(status, clock, monkeypatch):
    fatal = error_answer(401, "invalid_api_key")
    limited = error_answer(status, "x", headers={"retry-after": "500"})
    first, second = (request.prompt for request in wanted(2))
    answers = {first: limited, second: fatal}
    with ImagesServer(lambda body, n: answers[body["prompt"]]) as server:
        generator = Dalle(base_url=server.address, budget_usd=1.0, concurrency=2)
        sleep = clock.sleep

        async def sleep_until_both_are_answered(seconds):
            await sleep(seconds)
            while server.answered < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)

        monkeypatch.setattr(clock, "sleep", sleep_until_both_are_answered)
        with pytest.raises(ApiError, match="401"):
            list(generator.generate(wanted(2)))
    assert sum(clock.slept) < 250  # in slices: how many depends on the machine


def test_one_second_is_really_waited_for(monkeypatch):
    slept = []

    class Noted(limits.Clock):
        async def sleep(self, seconds):
            slept.append(seconds)
            await super().sleep(seconds)

    monkeypatch.setattr(limits, "CLOCK", Noted())
    limited = error_answer(429, "rate_limit_exceeded", headers={"retry-after": "1"})
    _, server, *_ = run([limited, GOOD])
    first, second = (r["time"] for r in server.images)
    assert second - first > 0.95
    assert sum(slept) < 3


def test_a_rate_limit_holds_back_all_and_halves_the_pace(clock):
    limited = error_answer(429, "rate_limit_exceeded", headers={"retry-after": "60"})
    results, server, *_ = run([limited, GOOD], count=12, concurrency=4)
    assert {r.outcome for r in results} == {"image"}
    assert len(server.images) == 24
    assert sum(r.facts["cost_usd"] for r in results) == pytest.approx(12 * PAID)


FATAL = {
    "insufficient_quota": (error_answer(429, "insufficient_quota"), "no money left"),
    "model_not_found": (error_answer(404, "model_not_found"), "generator=archive"),
    "401": (error_answer(401, "invalid_api_key", f"bad key {KEY}"), "OPENAI_API_KEY"),
}


@pytest.mark.parametrize("case", FATAL)
def test_what_no_request_can_pass_stops_the_run_and_keeps_what_came(case):
    fatal, remedy = FATAL[case]
    last = wanted(40)[2].prompt
    results, server, _, error = run(
        [lambda body: fatal if body["prompt"] >= last else GOOD], count=40, concurrency=1
    )
    outcomes = sorted(r.outcome for r in results)  # the refusal may be told before a decoded image
    assert outcomes == ["failed", "image", "image"]
    assert len(server.images) == 3
    assert case in str(error)
    assert remedy in str(error)
    assert "37 requests were not made" in str(error)
    assert KEY not in str(error)
    assert sum(r.facts["cost_usd"] for r in results) == pytest.approx(2 * PAID)


def test_a_row_of_failures_stops_the_run():
    results, server, _, error = run(
        [Answer(body=NO_IMAGE)], count=30, concurrency=1, give_up_after=5
    )
    assert 5 <= len(results) == len(server.images) < 30  # some are sent while others are decoded
    assert "5 calls in a row failed" in str(error)


def test_a_server_that_is_not_there_costs_nothing(clock):
    generator = Dalle(base_url="http://127.0.0.1:9/v1", budget_usd=1.0, attempts=2)
    (result,) = generator.generate(wanted())
    assert (result.outcome, result.facts["cost_possible_usd"]) == ("failed", 0)
    assert "not reached" in result.reason


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_images_become_grey_and_are_archived_as_they_came(mode, fmt):
    data = picture(1, mode=mode, fmt=fmt)
    (result,), server, *_ = run([image_answer(data)])
    assert result.pixels.shape == (32, 32)
    assert result.pixels.dtype == np.uint8
    suffix = fmt.lower()
    assert result.archive[suffix] == data
    record = json.loads(result.archive["json"])
    assert record["request"] == server.images[0]["body"]
    assert "b64_json" not in record["response"]["data"][0]
    assert record["facts"]["request_id"] == result.facts["request_id"] == "req-1"
    assert result.facts["wrong_size"]
    assert (result.facts["width_px"], result.facts["height_px"]) == (32, 32)


def test_transparency_becomes_black_and_a_black_image_is_none():
    clear = np.zeros((32, 32, 4), np.uint8)
    clear[..., :3] = 255
    from io import BytesIO

    from PIL import Image

    def png(pixels):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    (result,), *_ = run([image_answer(png(clear))])
    assert (result.outcome, result.reason) == ("failed", "the image is black")
    clear[8:16, :, 3] = 255
    (result,), *_ = run([image_answer(png(clear))])
    assert result.pixels[8:16].min() == 255
    assert result.pixels[:8].max() == 0


def test_provenance_marks_are_seen():
    from xraysynth.generation.images_api.pixels import has_c2pa

    plain = picture(1)
    box = b"\x00\x00\x00\x04caBXjumb"
    marked = plain[:33] + box + b"\x00\x00\x00\x00" + plain[33:]
    assert not has_c2pa(plain)
    assert has_c2pa(marked)
    jpeg = picture(1, fmt="JPEG")
    assert not has_c2pa(jpeg)
    assert has_c2pa(jpeg[:20] + b"jumb...c2pa" + jpeg[20:])


# Money


def test_a_paid_service_needs_a_budget_and_the_error_shows_the_estimate():
    with pytest.raises(
        ConfigError, match=r"generator.dalle.budget_usd(?s:.*)total: 7 images, \$0.0"
    ):
        list(Dalle().generate(wanted(7)))


def test_a_free_server_of_ones_own_needs_none():
    results, *_ = run([GOOD], budget_usd=None, price_usd_per_image=0.0, model="local")
    assert results[0].outcome == "image"
    generator = Dalle(base_url="https://10.0.0.1/v1", price_usd_per_image=0.0, model="local")
    with pytest.raises(ConfigError, match="budget_usd"):
        list(generator.generate(wanted()))


def test_the_budget_stops_before_the_call_that_could_exceed_it():
    results, server, _, error = run([GOOD], count=20, budget_usd=0.1, concurrency=10)
    spent = sum(r.facts["cost_usd"] for r in results)
    assert isinstance(error, BudgetError)
    assert len(server.images) == len(results) == 7  # 0.1 / 0.0133
    assert spent <= 0.1
    assert "13 requests were not made" in str(error)


def test_earlier_runs_count(tmp_path):
    with ImagesServer() as server:
        generator = Dalle(base_url=server.address, budget_usd=0.1)
        with pytest.raises(BudgetError, match="20 requests"):
            list(generator.with_spent_budget(0.095).generate(wanted(20)))
        assert server.images == []
    there = generator.with_spent_budget(1.0, folder=tmp_path)
    assert (there.spent_usd, there.state_folder) == (1.0, str(tmp_path))
    assert identity(there) == identity(generator)


def test_an_estimate_is_per_class_and_in_total_with_time_and_what_is_not_sent(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    long = Request("covid19", 0, "x" * 33000, "", 0)
    generator = Dalle(images_per_minute=5)
    estimate = generator.estimate([*wanted(10), *wanted(5, "covid19"), long])
    assert estimate.per_class["normal"]["images"] == 10
    assert estimate.images == 15
    assert estimate.usd == pytest.approx(15 * 0.0133, rel=0.02)
    assert estimate.usd <= estimate.usd_at_most < 1.2 * estimate.usd
    assert estimate.seconds == 180
    assert sum(estimate.refused.values()) == 1
    assert "0:03:00 at the given limits" in str(estimate)
    with pytest.raises(ConfigError, match="shut down"):
        Dalle(model="dall-e-3").estimate(wanted())
    half = Dalle(batch=True).estimate(wanted(10))
    assert half.usd == pytest.approx(estimate.per_class["normal"]["usd"] / 2)


def test_a_prompt_that_is_too_long_is_refused_without_a_call():
    with ImagesServer() as server:
        long = Request("covid19", 0, "x" * 33000, "", 0)
        (result,) = Dalle(base_url=server.address, budget_usd=1.0).generate([long])
        assert server.images == []
    assert (result.outcome, result.facts["stage"]) == ("refused", "before sending")


# Models and parameters


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_a_retired_model_is_refused_with_date_successor_and_the_way_to_archived_images(model):
    with pytest.raises(ConfigError, match=r"shut down on 2026-\d\d-\d\d; .*gpt-image-2.*archive"):
        Dalle(model=model, budget_usd=1.0).check()


def test_an_unknown_model_warns_and_goes_through(capsys):
    results, server, *_ = run([GOOD], model="qwen-image", price_usd_per_image=0.01)
    assert "qwen-image is not in the catalogue" in capsys.readouterr().err
    assert results[0].facts["cost_usd"] == 0.01
    assert set(server.images[0]["body"]) == {"prompt", "model", "n", "size", "response_format"}


def test_parameters_that_a_model_refuses_are_not_sent_and_extras_are():
    extra = {"seed": "{seed}", "steps": 4, "negative_prompt": "{negative_prompt}", "quality": None}
    _, server, generator, _ = run([GOOD], count=2, extra_body=extra)
    body = next(r["body"] for r in server.images if r["body"]["prompt"] == wanted(2)[1].prompt)
    assert not {"response_format", "style", "guidance", "quality"} & set(body)
    assert (body["seed"], body["steps"], body["negative_prompt"]) == (1, 4, "text")
    assert generator.card.seeds_reproducible


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": "ultra"}, "quality must be one of low, medium"),
        ({"size": "1000x1000"}, "divisible by 16"),
        ({"size": "4096x1024"}, "is not available"),
        ({"output_format": "gif"}, "output_format must be one of"),
        ({"quality": "auto"}, "price_usd_per_image must be given"),
        ({"model": "gpt-image-2"}, "price_usd_per_image must be given"),
        ({"model": "something-new"}, "price_usd_per_image must be given"),
    ],
)
def test_what_a_model_does_not_take_is_refused_before_any_call(options, message):
    with pytest.raises(ConfigError, match=message):
        Dalle(budget_usd=1.0, **options).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "big"}, "size must be"),
        ({"api_key_env": KEY}, "never a key itself"),
        ({"base_url": "https://me:secret@example.org/v1"}, "without user and password"),
        ({"base_url": "file:///x"}, "http"),
        ({"base_url": "https://example.org/v1?key=secret"}, r"end before its '\?'"),
        ({"base_url": "http://127.0.0.1:8000/v1#secret"}, "end before its"),
        (
            {"azure_endpoint": "https://example.org?key=secret", "azure_deployment": "a"},
            "end before its",
        ),
        ({"azure_endpoint": "https://a.example.org"}, "azure_deployment must be given"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"budget_usd": -1.0}, "budget_usd must be at least 0; got -1.0"),
        ({"images_per_minute": -1.0}, "images_per_minute must be above 0"),
        ({"budget_usd": math.inf}, "budget_usd must be at most 1,000,000 dollars; got inf"),
        ({"budget_usd": math.nan}, "budget_usd must be at least 0; got nan"),
        (
            {"price_usd_per_image": math.inf},
            "price_usd_per_image must be at most 1,000,000 dollars",
        ),
        ({"price_usd_per_image": 1e300}, "price_usd_per_image must be at most 1,000,000 dollars"),
        ({"spent_usd": math.inf}, "spent_usd must be at most 1,000,000 dollars"),
        ({"requests_per_minute": math.inf}, "requests_per_minute must be a finite number; got inf"),
        ({"timeout_seconds": math.inf}, "timeout_seconds must be a finite number"),
        ({"poll_seconds": math.nan}, "poll_seconds must be above 0"),
        ({"extra_body": {"steps": math.inf}}, "extra_body must hold JSON values"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(ConfigError, match=message) as raised:
        Dalle(**options)
    assert KEY not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "address"),
    [
        ("base_url", "http://10.0.0.1:9000/v1"),
        ("base_url", "http://localhost.example.org/v1"),
        ("base_url", "http://127.0.0.1.example.org/v1"),
        ("azure_endpoint", "http://example.org"),
    ],
)
def test_a_key_is_not_sent_by_plain_http(option, address, monkeypatch):
    azure = {"azure_deployment": "a"} if option == "azure_endpoint" else {}
    generator = Dalle(**{option: address}, **azure, budget_usd=1.0, price_usd_per_image=0.0)
    assert generator.card.title  # pools of earlier versions can be reported
    for call in (generator.check, lambda: generator.endpoint.build_client(asynchronous=True)):
        with pytest.raises(ConfigError, match=rf"{option} calls .* by plain http.*ssh -N -L"):
            call()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "[::1]"])
def test_plain_http_on_this_machine_is_fine(host):
    generator = Dalle(base_url=f"http://{host}:8000/v1", model="local", price_usd_per_image=0.0)
    generator.check()
    assert generator.endpoint.is_local


def test_azure_is_asked_at_its_own_address():
    with ImagesServer() as server:
        generator = Dalle(
            azure_endpoint=server.address.removesuffix("/v1"),
            azure_deployment="my-images",
            budget_usd=1.0,
        )
        (result,) = generator.generate(wanted())
    (seen,) = server.images
    assert result.outcome == "image"
    assert seen["path"] == "/openai/deployments/my-images/images/generations"
    assert seen["headers"]["api-key"] == KEY


def test_the_card_says_who_really_answers():
    assert Dalle().card.title.endswith("served by OpenAI")
    local = Dalle(base_url="http://127.0.0.1:8000/v1", model="local")
    assert local.card.title == "local served by 127.0.0.1:8000"
    assert (local.card.access, local.card.offline) == ("local server", True)


# The key


def test_without_a_key_the_error_names_the_variable(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Dalle(budget_usd=1.0).check()
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(ConfigError) as caught:
        Dalle(budget_usd=1.0).check()
    assert "two" not in str(caught.value)


def test_the_key_is_sent_and_appears_nowhere_else(capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "no-usual-form-77")
    caplog.set_level(0)
    told = error_answer(400, "x", "the key no-usual-form-77 and sk-abcdefgh are wrong")
    echoed = json.loads(GOOD.body) | {"you_sent": "no-usual-form-77"}
    answers = [
        lambda body: (
            told if body["prompt"].endswith("0") else Answer(body=json.dumps(echoed).encode())
        )
    ]
    results, server, generator, _ = run(
        answers, count=2, api_key_env="MY_KEY", state_folder=str(tmp_path)
    )
    assert server.images[0]["headers"]["authorization"] == "Bearer no-usual-form-77"
    out, err = capfd.readouterr()
    everything = [out, err, caplog.text, repr(generator), repr(generator.call_settings)]
    everything += [repr(identity(generator)), repr(generator.card), str(generator.model_ledger())]
    everything += [repr(r.facts) + r.reason + repr(r.archive) for r in results]
    everything += [p.read_bytes().decode("latin1") for p in tmp_path.rglob("*") if p.is_file()]
    assert not [text for text in everything if "usual-form" in text or "abcdefgh" in text]
    assert results[0].archive["json"]


@pytest.mark.parametrize("placeholder", ["a", "1", "EMPTY", "none"])
def test_a_placeholder_for_a_key_changes_no_answer(placeholder, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", placeholder)
    told = error_answer(400, "invalid_value", f"an {placeholder} image cannot be made")
    (refused,), *_ = run([told], state_folder=str(tmp_path))
    assert f"an {placeholder} image cannot be made" in refused.reason
    (result,), server, *_ = run([GOOD], state_folder=str(tmp_path))
    assert server.images[0]["headers"]["authorization"] == f"Bearer {placeholder}"
    assert (result.outcome, result.archive["png"]) == ("image", picture(1))
    assert json.loads(result.archive["json"])["request"] == server.images[0]["body"]


@pytest.mark.parametrize("options", [{}, {"azure_deployment": "x"}])
def test_a_placeholder_is_no_key_of_a_service(options, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a")
    if options:
        options["azure_endpoint"] = "https://a.example.org"
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY must have at least 8 .* it has 1: copy"):
        Dalle(budget_usd=1.0, **options).check()


def test_nothing_is_kept_in_the_state_folder_once_results_are_taken(tmp_path):
    run([GOOD], count=5, state_folder=str(tmp_path))
    assert list((tmp_path / "api").iterdir()) == []


def test_an_answer_that_came_is_not_asked_for_again_and_a_lost_one_is_counted(tmp_path):
    with ImagesServer() as server:
        generator = Dalle(
            base_url=server.address, budget_usd=1.0, state_folder=str(tmp_path), concurrency=1
        )
        results = generator.generate(wanted(6))
        next(results)
        while len(list(tmp_path.glob("api/*.answer"))) < 6:
            time.sleep(0.01)
        results.close()  # as when the taker dies: nothing was committed
        asked = len(server.images)
        (tmp_path / "api" / "normal-000005.answer").unlink()  # this one was lost on the way
        again = list(generator.generate(wanted(6)))
        assert sorted(r.request.index for r in again) == list(range(6))
        assert len(server.images) == asked + 1
    lost = next(r for r in again if r.request.index == 5)
    assert lost.facts["cost_possible_usd"] == pytest.approx(at_most(generator))
    assert sum(r.facts["cost_usd"] for r in again) == pytest.approx(6 * PAID)
    assert list((tmp_path / "api").iterdir()) == []


def test_an_interrupt_waits_for_what_is_paid_for(request):
    import signal

    # Background jobs of a shell ignore the signal unless they ask for it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupting(body, n):
        if len(server.images) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return image_answer(picture(1), delay=0.5)

    with ImagesServer(interrupting) as server:
        generator = Dalle(base_url=server.address, budget_usd=1.0, concurrency=3)
        taken = []
        with pytest.raises(KeyboardInterrupt):
            taken.extend(generator.generate(wanted(20)))
        assert len(server.images) == len(taken)
    assert 1 <= len(taken) <= 8


def test_no_more_is_asked_for_than_is_taken():
    """Memory stays flat when the images are taken slowly."""
    with ImagesServer() as server:
        generator = Dalle(base_url=server.address, budget_usd=10.0, concurrency=4)
        results = generator.generate(wanted(100))
        for taken in range(1, 4):
            next(results)
            time.sleep(0.2)
            assert len(server.images) <= taken + 4 + RESULT_BUFFER_SIZE
        results.close()


def test_the_sdk_is_not_needed_to_configure():
    import subprocess

    code = "import sys; from xraysynth.generation.generators.dalle import Dalle; Dalle(); "
    code += "print({'openai', 'httpx2', 'tenacity', 'PIL.Image'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
