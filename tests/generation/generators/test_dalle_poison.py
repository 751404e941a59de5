"""Answers that nobody foresaw: each is one outcome, is stored without the key, and ends no run."""

import gzip
import json
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from images_server import USAGE, Answer, ImagesServer, error_answer, image_answer, picture

from xraysynth.generation import pool
from xraysynth.generation.generators import dalle as dalle_module
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.images_api import answer_limits
from xraysynth.generation.images_api.outcomes import ApiError, classify_status
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.generation.images_api.results import Exchange
from xraysynth.generation.prompts import PromptBank
from xraysynth.records import Request

KEY = "no-usual/form-0123456789"
"""A key that no pattern knows, with a character that JSON may escape in two ways."""

ESCAPED_KEY = "".join(f"\\u{ord(character):04x}" for character in KEY)
HALF_ESCAPED_KEY = KEY.replace("/", "\\/")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def wanted(count=1):
    return [Request("normal", n, f"radiograph {n}", "", n) for n in range(count)]


def body(**fields):
    """A good answer with other fields."""
    return json.loads(image_answer(picture(1)).body) | fields


def nested(depth, open_with="[", close_with="]"):
    return open_with * depth + close_with * depth


def with_raw(name, value):
    """A good answer with a field whose value is raw JSON."""
    return json.dumps(body(**{name: "HERE"})).replace('"HERE"', value).encode()


POISON = {
    # body of the answer: outcome, and whether the price is known
    "huge integer": (with_raw("usage", f'{{"output_tokens": {"9" * 4000}}}'), "image", False),
    "more tokens than any image": (with_raw("usage", '{"output_tokens": 900000}'), "image", False),
    "infinite tokens": (with_raw("usage", '{"output_tokens": 1e999}'), "image", False),
    "half a character": (with_raw("model", r'"\ud800"'), "image", True),
    "deep nesting": (nested(100_000).encode(), "possibly_billed", False),
    "nesting that only the parser bears": (with_raw("x", nested(700)), "image", True),
    "deep objects": (
        with_raw("usage", nested(700, '{"a":', "}").replace("}", "1}", 1)),
        "possibly_billed",
        False,
    ),
    "data that is no list": (with_raw("data", '"QUJD"'), "empty", True),
    "an integer that is no number": (with_raw("created", "1" * 5000), "possibly_billed", False),
    "a number for an image": (with_raw("data", '[{"b64_json": 7}]'), "failed", True),
}


def fill(server, folder, count=1, **options):
    """Fills a pool from the server; returns the pool and its journal entries."""
    options = {"budget_usd": 10.0, "attempts": 1} | options
    generator = Dalle(base_url=server.address, **options)
    store = pool.pool_store(generator, PromptBank(), seed=0, parent=folder)
    pool.fill(store, replace(generator, state_folder=str(store.folder)), wanted(count))
    return store, list(store.attempts())


def require_readable(store):
    """Whatever was stored can be read and written as UTF-8."""
    for entry in store.attempts():
        json.dumps(entry.facts).encode()
        str(entry.facts).encode()
    for path in (store.folder / "archive").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", POISON)
def test_a_poisonous_answer_is_one_outcome(case, tmp_path):
    content, outcome, is_priced = POISON[case]
    with ImagesServer(lambda *_: Answer(body=content)) as server:
        store, (entry,) = fill(server, tmp_path)
        assert len(server.images) == 1
    assert entry.outcome == outcome
    assert bool(entry.facts["cost_usd"]) == is_priced
    assert bool(entry.facts["cost_possible_usd"]) == (not is_priced)
    require_readable(store)
    assert list((store.folder / "api").iterdir()) == []


@pytest.mark.parametrize("case", POISON)
def test_a_stored_poisonous_answer_is_not_met_again(case, tmp_path):
    content, outcome, _ = POISON[case]
    with ImagesServer() as server:
        generator = Dalle(base_url=server.address)
        store = pool.pool_store(generator, PromptBank(), seed=0, parent=tmp_path)
        cache = ResponseCache(str(store.folder))
        cache.mark_sent("normal-000000", 0.05)
        cache.save_response("normal-000000", Exchange(served_by="before"), content)
        _, entries = fill(server, tmp_path, count=2)
        assert len(server.images) == 1
    assert {entry.image_id: entry.outcome for entry in entries} == {
        "normal-000000": outcome,
        "normal-000001": "image",
    }
    assert list((store.folder / "api").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n", b'{"served_by": 3}\n{}', b"\xff\xfe\n{}"])
def test_a_damaged_stored_answer_is_possibly_billed(tmp_path, damage):
    with ImagesServer() as server:
        generator = Dalle(base_url=server.address)
        store = pool.pool_store(generator, PromptBank(), seed=0, parent=tmp_path)
        ResponseCache(str(store.folder)).mark_sent("normal-000000", 0.05)
        (store.folder / "api" / "normal-000000.answer").write_bytes(damage)
        _, (entry,) = fill(server, tmp_path)
        assert (entry.outcome, server.images) == ("possibly_billed", [])
        assert entry.facts["cost_possible_usd"] > 0
        _, entries = fill(server, tmp_path)
        assert [entry.outcome for entry in entries] == ["possibly_billed", "image"]


@pytest.mark.parametrize("damage", ["", "many", "nan", "-1", "1e999"])
def test_a_damaged_mark_is_named(tmp_path, damage):
    with ImagesServer() as server:
        store = pool.pool_store(
            Dalle(base_url=server.address), PromptBank(), seed=0, parent=tmp_path
        )
        ResponseCache(str(store.folder)).mark_sent("normal-000000", 0.05)
        mark = store.folder / "api" / "normal-000000.sent"
        mark.write_text(damage)
        with pytest.raises(ApiError, match=f"{mark} is damaged(?s:.*)echo"):
            fill(server, tmp_path)
        assert server.images == []
        mark.write_text("0.25")
        _, (entry,) = fill(server, tmp_path)
        assert entry.facts["cost_possible_usd"] == 0.25


@pytest.mark.parametrize("damage", ["", "[]", '{"mark": 1}', "\x00" * 9])
@pytest.mark.parametrize("batch", [False, True])
def test_a_damaged_note_of_a_batch_is_named(tmp_path, damage, batch):
    with ImagesServer() as server:
        generator = Dalle(base_url=server.address)
        store = pool.pool_store(generator, PromptBank(), seed=0, parent=tmp_path)
        note = store.folder / "api" / "m.batch"
        note.parent.mkdir(parents=True)
        note.write_text(damage)
        with pytest.raises(ApiError, match=f"{note} is damaged(?s:.*)delete it"):
            fill(server, tmp_path, batch=batch)
        assert server.seen == []
        note.unlink()
        _, (entry,) = fill(server, tmp_path)
        assert entry.outcome == "image"


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize(
    "error",
    [
        {"code": ["x"], "message": {"a": 1}},
        {"message": "safety_violations=[" * 60_000},
        {"message": "\ud800\x1b[2J", "moderation_details": {"stage": {"a": 1}}},
        [[[[]]]] * 3,
    ],
)
def test_an_error_of_any_form_keeps_what_its_status_says(status, error):
    failure = classify_status(status, {}, {"error": error})
    assert failure.reason.startswith(f"HTTP {status}")
    assert failure.retry == (status != 400) or failure.outcome == "refused"
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    failure = classify_status(status, {}, {"error": {"code": deep, "message": "x"}})
    assert failure.retry == (status != 400)
    assert "cannot be understood" in failure.reason


# Size and time


@pytest.mark.parametrize("status", [200, 500])
def test_a_small_answer_that_becomes_a_large_one_is_not_read(status, tmp_path):
    bomb = gzip.compress(b" " * 10**9, 1)
    answer = Answer(status=status, body=bomb, headers={"content-encoding": "gzip"})
    tracemalloc.start()
    with ImagesServer(lambda *_: answer) as server:
        _, (entry,) = fill(server, tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert entry.outcome == "possibly_billed"
    assert "UnacceptableAnswerError" in entry.facts["reason"]
    assert peak_bytes < 5 * answer_limits.MAX_ANSWER_BYTES


def test_a_long_answer_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_limits, "MAX_ANSWER_BYTES", 1000)
    with ImagesServer(lambda *_: Answer(body=b" " * 1001)) as server:
        _, (entry,) = fill(server, tmp_path)
    assert "UnacceptableAnswerError" in entry.facts["reason"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "identity", ""])
def test_answers_are_decompressed_as_asked_for(encoding, tmp_path):
    content = image_answer(picture(1)).body
    compress = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding.lower(), bytes)
    answer = Answer(body=compress(content), headers={"content-encoding": encoding})
    with ImagesServer(lambda *_: answer) as server:
        _, (entry,) = fill(server, tmp_path)
        assert server.images[0]["headers"]["accept-encoding"] == "gzip, deflate"
    assert entry.outcome == "image"


def test_an_encoding_that_was_not_asked_for_is_possibly_billed(tmp_path):
    answer = Answer(body=b"x", headers={"content-encoding": "br"})
    with ImagesServer(lambda *_: answer) as server:
        _, (entry,) = fill(server, tmp_path)
    assert entry.outcome == "possibly_billed"


def test_an_answer_that_comes_drop_by_drop_ends_with_the_time_of_a_call(tmp_path, monkeypatch):
    monkeypatch.setattr(dalle_module, "CONNECT_SECONDS", 0.0)
    with ImagesServer(lambda *_: image_answer(picture(1), drip_seconds=0.2)) as server:
        _, (entry,) = fill(server, tmp_path, timeout_seconds=1.0)
    assert entry.outcome == "possibly_billed"
    assert "Timeout" in entry.facts["reason"]


# The key


def bodies_with_the_key():
    image = picture(1)
    png = image[:33] + png_text(KEY) + image[33:]
    return {
        "model": (with_raw("model", f'"{KEY}"'), {}),
        "escaped model": (with_raw("model", f'"{ESCAPED_KEY}"'), {}),
        "half escaped": (with_raw("model", f'"x {HALF_ESCAPED_KEY}"'), {}),
        "name of a field": (json.dumps(body(usage=USAGE | {KEY: 1})).encode(), {}),
        "usage": (json.dumps(body(usage=USAGE | {"for": [f"Bearer {KEY}"]})).encode(), {}),
        "escaped usage": (with_raw("usage", f'{{"output_tokens": 5, "a": "{ESCAPED_KEY}"}}'), {}),
        "request id": (json.dumps(body()).encode(), {"x-request-id": f"Bearer {KEY}"}),
        "headers": (json.dumps(body()).encode(), {"openai-model": KEY, "openai-version": KEY}),
        "text of the image": (image_answer(png).body, {}),
        "no JSON": (f'{{"model": "{ESCAPED_KEY}'.encode(), {}),
    }


def png_text(text):
    chunk = b"tEXt" + b"key\0" + text.encode()
    return (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")


def keys_below(folder):
    """Files that hold the key, in any form that JSON can give it."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="latin-1")
            forms = (KEY, ESCAPED_KEY, HALF_ESCAPED_KEY)
            found += [path for form in forms if form in text]
    return found


@pytest.mark.parametrize("case", bodies_with_the_key())
def test_a_key_that_comes_back_is_stored_nowhere(case, tmp_path, monkeypatch, capfd):
    content, headers = bodies_with_the_key()[case]
    in_between = []
    save = ResponseCache.save_response

    def save_and_look(cache, *arguments):
        save(cache, *arguments)
        in_between.extend(keys_below(tmp_path))

    monkeypatch.setattr(ResponseCache, "save_response", save_and_look)
    with ImagesServer(lambda *_: Answer(body=content, headers=headers)) as server:
        store, (entry,) = fill(server, tmp_path)
    assert entry.outcome == ("possibly_billed" if case == "no JSON" else "image")
    assert in_between == []
    assert keys_below(tmp_path) == []
    assert KEY not in "".join(capfd.readouterr())
    require_readable(store)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_in_an_error_is_stored_nowhere(status, tmp_path, capfd):
    details = {"moderation_details": {"stage": KEY, "categories": [KEY, f"a {ESCAPED_KEY}"]}}
    answer = error_answer(status, KEY, f"Bearer {KEY} {HALF_ESCAPED_KEY}", extra=details)
    shown = ""
    with ImagesServer(lambda *_: answer) as server:
        try:
            fill(server, tmp_path)
        except ApiError as error:
            shown = str(error)
    assert keys_below(tmp_path) == []
    assert KEY not in shown + "".join(capfd.readouterr())
