"""Two thousand answers that were altered at random: none ends a run or reaches beyond the pool."""

import json
import random
from dataclasses import replace

import pytest
from images_server import USAGE, Answer, ImagesServer, error_answer, image_answer, picture

from xraysynth.files import iter_json_lines
from xraysynth.generation import pool
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.images_api import limits
from xraysynth.generation.images_api.outcomes import ApiError
from xraysynth.generation.prompts import PromptBank
from xraysynth.records import Outcome, Request

KEY = "key-of-no-usual-form-42"
CALLS, BATCH_LINES, BATCHES = 900, 1080, 20
OUTCOMES = Outcome.__args__
IMAGE = picture(1, size_px=16)
GOOD = [
    image_answer(IMAGE),
    image_answer(picture(1, size_px=16, fmt="JPEG")),
    image_answer(picture(1, size_px=16, fmt="WEBP")),
    Answer(body=json.dumps({"data": [], "usage": USAGE, "model": "m"}).encode()),
    Answer(body=json.dumps({"data": [{"url": "http://127.0.0.1:9/x.png"}]}).encode()),
    error_answer(400, "moderation_blocked", "safety_violations=[violence, gore]"),
    error_answer(
        400,
        "contentFilter",
        extra={"innererror": {"content_filter_results": {"hate": {"filtered": True}}}},
    ),
    error_answer(429, "rate_limit_exceeded", headers={"retry-after": "2"}),
    error_answer(500, "server_error"),
    error_answer(504, "timeout"),
]
POISON = [
    *("1e999", "-1", "0", "9" * 4000, "9" * 5000, "true", "null", "NaN", "[]", "{}", '""'),
    *(
        r'"\ud800"',
        r'"\u0000\u001b[2J"',
        '"../../../precious"',
        '"/tmp/precious"',
        f'"Bearer {KEY}"',
    ),
    *(
        "[" * 900 + "]" * 900,
        '{"a":' * 900 + "1" + "}" * 900,
        "[" * 50_000,
        '"' + "x" * 100_000 + '"',
    ),
]
HEADERS = [
    {},
    {"retry-after": "99999999"},
    {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"},
    {"x-request-id": f"../../{KEY}"},
    {"openai-model": KEY},
    {"content-encoding": "gzip"},
    {"content-type": "text/event-stream"},
]


def places(value, path=()):
    """Every place in JSON values at which another value can be put."""
    yield path
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, name))


def with_value(value, path, new):
    """The same JSON values with another one at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


def mutated_values(rng, body):
    """JSON text in which one to three values are poison."""
    values = json.loads(body)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(places(values)))
        values = with_value(values, path, f"POISON{rng.randrange(len(POISON))}.")
    text = json.dumps(values)
    for number, poison in enumerate(POISON):
        text = text.replace(f'"POISON{number}."', poison)
    return text.encode()


def mutated_bytes(rng, body):
    """Bytes that are cut, changed, repeated or left out at one to four places."""
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([1, 1, 4, 50]))
        data[start:end] = rng.choice(
            [
                b"",
                rng.randbytes(end - start),
                bytes(data[start:end]) * 3,
                b'"',
                b"\xff\xfe",
                b"\x00",
            ]
        )
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)


def mutated_answer(seed):
    rng = random.Random(seed)
    good = rng.choice(GOOD)
    mutate = rng.choice([mutated_values, mutated_bytes])
    headers = good.headers | (rng.choice(HEADERS) if rng.random() < 0.2 else {})
    return replace(good, body=mutate(rng, good.body), headers=headers)


def tree(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class FastClock(limits.Clock):
    """Skips what it is asked to sleep."""

    skipped = 0.0

    def now(self):
        return super().now() + self.skipped

    async def sleep(self, seconds):
        self.skipped += seconds


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for pools, beside files that must stay as they are."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(limits, "CLOCK", FastClock())
    (tmp_path / "precious").mkdir()
    for name in ("precious", "precious.jsonl", "precious.batch", "precious/precious.png"):
        path = tmp_path / name
        if not path.exists():
            path.write_text("kept")
    before = tree(tmp_path)
    yield tmp_path / "pools"
    after = tree(tmp_path)
    assert {p: data for p, data in after.items() if tmp_path / "pools" not in p.parents} == before
    assert [path for path, data in after.items() if KEY.encode() in data] == []


def fill(server, parent, count, **options):
    """Fills a pool and returns it with its journal entries."""
    generator = Dalle(
        base_url=server.address,
        budget_usd=10_000.0,
        attempts=2,
        give_up_after=10**6,
        **options,
    )
    store = pool.pool_store(generator, PromptBank(), seed=0, parent=parent)
    wanted = [Request("normal", n, f"radiograph {n}", "", n) for n in range(count)]
    pool.fill(store, replace(generator, state_folder=str(store.folder)), wanted)
    return store, list(store.attempts())


def require_sound(store, entries, count):
    """Every request has one outcome, its money is counted, and everything can be read."""
    assert len(entries) == len({entry.image_id for entry in entries}) == count
    assert {entry.outcome for entry in entries} <= set(OUTCOMES)
    costs = [entry.facts["cost_usd"] + entry.facts["cost_possible_usd"] for entry in entries]
    assert 0 <= min(costs) <= max(costs) < 5
    for path in (store.folder / "journal").glob("*.jsonl"):
        for line in iter_json_lines(path):
            json.dumps(line, ensure_ascii=False).encode()
    for path in (store.folder / "archive").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    assert list((store.folder / "api").iterdir()) == []


def test_altered_answers_end_no_run(place):
    def respond(body, n):
        return mutated_answer(f"{body['prompt']} {n}")

    with ImagesServer(respond) as server:
        store, entries = fill(server, place, CALLS, concurrency=16)
    require_sound(store, entries, CALLS)
    assert {entry.outcome for entry in entries} == set(OUTCOMES)
    assert not [entry for entry in entries if "Timeout" in entry.facts["reason"]]


def test_altered_lines_of_a_batch_end_no_run(place):
    def finish(batch, lines):
        rng = random.Random(0)
        texts = []
        for asked in lines:
            good = rng.choice(GOOD)
            response = {"status_code": good.status, "body": json.loads(good.body)}
            line = {"custom_id": asked["custom_id"], "response": response, "error": None}
            mutate = rng.choice([mutated_values, mutated_bytes])
            texts.append(mutate(rng, json.dumps(line).encode()).replace(b"\n", b" "))
        batch["output_file_id"] = server.keep(b"\n".join(texts) + b"\n")
        batch["status"] = "completed"

    with ImagesServer() as server:
        server.finish = finish
        store, entries = fill(server, place, BATCH_LINES, batch=True, poll_seconds=0.001)
    require_sound(store, entries, BATCH_LINES)


@pytest.mark.parametrize("number", range(BATCHES))
def test_an_altered_batch_ends_with_a_clear_error(place, number, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of the SDK, between its retries
    rng = random.Random(number)
    name = rng.choice(
        ["id", "output_file_id", "error_file_id", "status", "request_counts", "errors"]
    )
    value = json.loads(rng.choice([poison for poison in POISON if len(poison) < 100][4:]))
    value = rng.choice([value, {"data": value}, [value], {"total": value}])

    def finish(batch, lines):
        good = json.loads(image_answer(IMAGE).body)
        texts = []
        for asked in lines:
            response = {"status_code": 200, "body": good}
            texts.append(json.dumps({"custom_id": asked["custom_id"], "response": response}))
        batch["output_file_id"] = server.keep("\n".join(texts).encode())
        batch["status"] = "completed"
        altered = dict(batch) | {name: value}
        return Answer(body=json.dumps(altered).encode())

    shown = ""
    with ImagesServer() as server:
        server.finish = finish
        try:
            fill(server, place, 2, batch=True)
        except ApiError as error:
            shown = str(error)
    assert KEY not in shown
