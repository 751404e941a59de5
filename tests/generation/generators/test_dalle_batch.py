"""The Batch API: submitted once, resumed after a restart, joined on custom_id, half the price."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from images_server import USAGE, ImagesServer, by_prompt, error_answer

from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.images_api import answer_limits
from xraysynth.generation.images_api import batch as batch_module
from xraysynth.generation.images_api.batch_files import download_answers
from xraysynth.generation.images_api.outcomes import ApiError, BudgetError
from xraysynth.records import Request

KEY = "sk-batch-0123456789"
PAID = (20 * 5 + 439 * 30) / 2e6


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def wanted(count=6):
    return [Request("covid19", n, f"radiograph {n}", "", n) for n in range(count)]


def line(asked, status=200, body=None):
    body = body or json.loads(by_prompt(asked["body"], 0).body)
    response = {"status_code": status, "request_id": "req-b", "body": body}
    return {"id": "x", "custom_id": asked["custom_id"], "response": response, "error": None}


def error_line(asked, code):
    error = {"code": code, "message": "This request could not be executed before it expired."}
    return {"id": "x", "custom_id": asked["custom_id"], "response": None, "error": error}


class Ends:
    """How a batch ends: reversed lines, so that order cannot stand in for custom_id."""

    def __init__(self, server):
        self.server = server

    def completed(self, batch, lines):
        self.write(batch, "completed", [line(asked) for asked in reversed(lines)], [])

    def expired(self, batch, lines):
        good = [line(asked) for asked in lines[:2]]
        self.write(batch, "expired", good, [error_line(a, "batch_expired") for a in lines[2:]])

    def partly_failed(self, batch, lines):
        blocked = {"error": {"code": "moderation_blocked", "message": "safety_violations=[gore]"}}
        empty = {"data": [], "usage": USAGE}
        failed = {"error": {"code": "server_error", "message": "oops"}}
        lines = [line(lines[0]), line(lines[1], 200, empty), *lines[2:]]
        errors = [line(lines[2], 400, blocked), line(lines[3], 500, failed)]  # 4 and 5: no line
        self.write(batch, "completed", [*lines[:2], {"custom_id": "unknown"}], errors)

    def refused(self, batch, lines):
        batch["status"] = "failed"
        batch["errors"] = {"data": [{"code": "billing", "message": f"limit reached, {KEY}"}]}

    def write(self, batch, status, good, bad):
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                text = "\n".join(json.dumps(item) for item in lines) + "\n"
                batch[name] = self.server.keep(text.encode())
        batch["status"] = status


@pytest.fixture
def server():
    with ImagesServer() as server:
        server.finish = Ends(server).completed
        yield server


def dalle(server, folder, **options):
    options = {"budget_usd": 1.0, "poll_seconds": 0.01} | options
    return Dalle(base_url=server.address, batch=True, state_folder=str(folder), **options)


def test_a_batch_is_joined_on_custom_id_at_half_the_price(server, tmp_path, capsys):
    generator = dalle(server, tmp_path)
    results = {r.request.index: r for r in generator.generate(wanted())}
    alone = {
        r.request.index: r
        for r in Dalle(base_url=server.address, budget_usd=1.0).generate(wanted())
    }
    assert len(results) == 6
    for index, result in results.items():
        assert result.outcome == "image"
        assert (result.pixels == alone[index].pixels).all()
        assert result.facts["cost_usd"] == pytest.approx(PAID)
    assert len(server.batches) == 1
    (asked,) = server.batches.values()
    assert (asked["endpoint"], asked["completion_window"]) == ("/v1/images/generations", "24h")
    assert "completed" in capsys.readouterr().err
    assert list((tmp_path / "api").iterdir()) == []


def test_large_runs_are_cut_into_batches(server, tmp_path):
    assert len(list(dalle(server, tmp_path, batch_lines=4).generate(wanted(10)))) == 10
    sizes = [server.files[b["input_file_id"]].count(b"\n") for b in server.batches.values()]
    assert sizes == [4, 4, 2]


def test_an_expired_batch_gives_what_it_has_and_the_rest_can_be_asked_again(server, tmp_path):
    server.finish = Ends(server).expired
    results = list(dalle(server, tmp_path).generate(wanted()))
    assert [r.outcome for r in results] == ["image"] * 2 + ["failed"] * 4
    assert "batch_expired" in results[2].reason
    assert sum(r.facts["cost_usd"] for r in results) == pytest.approx(2 * PAID)
    assert sum(r.facts["cost_possible_usd"] for r in results) == 0
    server.finish = Ends(server).completed
    again = list(dalle(server, tmp_path).generate([r.request for r in results[2:]]))
    assert {r.outcome for r in again} == {"image"}
    assert len(server.batches) == 2


def test_every_line_of_a_partly_failed_batch_has_its_outcome(server, tmp_path):
    server.finish = Ends(server).partly_failed
    results = {r.request.index: r for r in dalle(server, tmp_path).generate(wanted())}
    outcomes = [results[n].outcome for n in range(6)]
    assert outcomes == ["image", "empty", "refused", "failed", "failed", "failed"]
    assert results[2].facts["categories"] == ["gore"]
    assert "without an answer" in results[5].reason


def test_a_restart_finds_its_batch_and_submits_none(server, tmp_path):
    polls = server.finish
    server.finish = lambda batch, lines: error_answer(403, "no_access")
    generator = dalle(server, tmp_path)
    results = generator.generate(wanted())
    with pytest.raises(ApiError, match="start again to continue"):
        next(results)
    assert len(server.batches) == 1
    server.finish = polls
    assert len(list(dalle(server, tmp_path).generate(wanted()))) == 6
    assert len(server.batches) == 1


def test_a_restart_in_the_middle_of_handing_on_pays_nothing_twice(server, tmp_path):
    results = dalle(server, tmp_path).generate(wanted())
    first = next(results).request.image_id
    results.close()
    rest = [request for request in wanted() if request.image_id != first]
    again = list(dalle(server, tmp_path).generate(rest))
    assert sorted(r.request.image_id for r in again) == [r.image_id for r in rest]
    assert len(server.batches) == 1


def test_a_batch_whose_submission_broke_off_is_found_by_its_mark(server, tmp_path):
    list(dalle(server, tmp_path).generate(wanted()))
    (batch,) = server.batches.values()
    state = {"mark": batch["metadata"]["mark"], "ids": [r.image_id for r in wanted()]}
    (tmp_path / "api" / f"{state['mark']}.batch").write_text(json.dumps(state))
    assert len(list(dalle(server, tmp_path).generate(wanted()))) == 6
    assert len(server.batches) == 1
    state["mark"] = "never-arrived"
    (tmp_path / "api" / "never-arrived.batch").write_text(json.dumps(state))
    assert len(list(dalle(server, tmp_path).generate(wanted()))) == 6
    assert len(server.batches) == 2


def test_a_refused_batch_is_a_clear_error_without_the_key(server, tmp_path):
    server.finish = Ends(server).refused
    with pytest.raises(ApiError, match=r"was refused: limit reached, \*\*\*"):
        list(dalle(server, tmp_path).generate(wanted()))
    server.finish = Ends(server).completed
    assert len(list(dalle(server, tmp_path).generate(wanted()))) == 6


def test_the_budget_limits_what_is_submitted(server, tmp_path):
    generator = dalle(server, tmp_path, budget_usd=0.03)
    results = []
    with pytest.raises(BudgetError, match="2 requests were not made"):
        results.extend(generator.generate(wanted()))
    (batch,) = server.batches.values()
    assert server.files[batch["input_file_id"]].count(b"\n") == 4


def test_batches_of_another_shard_are_left_alone(server, tmp_path):
    shards = wanted()[::2], wanted()[1::2]
    other = dalle(server, tmp_path).generate(shards[0])
    next(other)
    assert len(list(dalle(server, tmp_path).generate(shards[1]))) == 3
    assert len(list((tmp_path / "api").glob("*.batch"))) == 1
    assert len(list(other)) == 2
    assert len(server.batches) == 2


# Remote text is never a path


@pytest.mark.parametrize("outside", ["absolute", "relative"])
def test_no_file_is_named_by_what_the_service_says(server, tmp_path, outside):
    precious = tmp_path / "precious.jsonl"
    precious.write_text("kept")
    state = tmp_path / "state"
    name = str(precious.with_suffix("")) if outside == "absolute" else "../../precious"

    def finish(batch, lines):
        Ends(server).completed(batch, lines)
        server.files[name] = server.files[batch["output_file_id"]]
        batch["output_file_id"] = name

    server.finish = finish
    assert {r.outcome for r in dalle(server, state).generate(wanted())} == {"image"}
    assert precious.read_text() == "kept"
    assert list((state / "api").iterdir()) == []


def test_a_note_names_no_other_file(server, tmp_path):
    precious = tmp_path / "precious.batch"
    precious.write_text("kept")
    (tmp_path / "state" / "api").mkdir(parents=True)
    note = {"mark": "../../precious", "ids": [wanted()[0].image_id]}
    (tmp_path / "state" / "api" / "a.batch").write_text(json.dumps(note))
    assert len(list(dalle(server, tmp_path / "state").generate(wanted()))) == 6
    assert precious.read_text() == "kept"
    assert list((tmp_path / "state" / "api").iterdir()) == []


# Sizes are limited


def with_padding(server, padding):
    """Ends a batch with two answers, so many bytes of nothing, and the other answers."""

    def finish(batch, lines):
        Ends(server).completed(batch, lines)
        first, second, *others = server.files[batch["output_file_id"]].splitlines(keepends=True)
        server.files[batch["output_file_id"]] = b"".join(
            [first, second, b" " * padding, b"\n", *others]
        )

    return finish


def test_no_more_of_a_file_of_answers_is_read_than_its_images_can_have(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(answer_limits, "MAX_ANSWER_BYTES", 10_000)
    server.finish = with_padding(server, 10**6)
    results = list(dalle(server, tmp_path).generate(wanted()))
    assert [r.outcome for r in results] == ["image"] * 2 + ["possibly_billed"] * 4
    assert all(r.facts["cost_possible_usd"] > 0 for r in results[2:])
    assert "longer than 6 images can be" in results[2].reason
    assert list((tmp_path / "api").iterdir()) == []
    server.finish = with_padding(server, 1000)
    again = list(dalle(server, tmp_path).generate([r.request for r in results[2:]]))
    assert {r.outcome for r in again} == {"image"}


@pytest.mark.parametrize("excess", [0, 1])
def test_a_download_ends_at_its_limit(tmp_path, excess):
    pieces = [b'{"custom_id": "a"}\n', b"[]\n", b"{" * (5 + excess), b"never reached"][: 3 + excess]
    answer = SimpleNamespace(iter_bytes=lambda: iter(pieces))
    streaming = SimpleNamespace(content=lambda file_id: nullcontext(answer))
    client = SimpleNamespace(files=SimpleNamespace(with_streaming_response=streaming))
    with download_answers(client, "f", folder=tmp_path, max_bytes=27) as answers:
        assert answers.is_whole == (not excess)
        assert answers.file.seek(0, 2) == 27
        assert list(answers.lines()) == [{"custom_id": "a"}, {}, {}]


def test_a_long_answer_about_a_batch_is_not_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(answer_limits, "MAX_ANSWER_BYTES", 5000)
    make, padding = server._new_batch, ["x" * 6000]
    server._new_batch = lambda asked: make(asked) | {"note": "".join(padding)}
    with pytest.raises(ApiError, match="longer than any image"):
        list(dalle(server, tmp_path).generate(wanted()))
    padding.clear()
    assert len(list(dalle(server, tmp_path).generate(wanted()))) == 6
    assert len(server.batches) == 1


def test_a_list_of_batches_without_end_is_not_read_to_its_end(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_module, "MAX_LISTED_BATCHES", 3)
    (tmp_path / "api").mkdir()
    note = {"mark": "lost", "ids": [wanted()[0].image_id]}
    (tmp_path / "api" / "lost.batch").write_text(json.dumps(note))
    list(dalle(server, tmp_path / "other", batch_lines=2).generate(wanted(8)))
    with pytest.raises(ApiError, match="lists more than 3 batches"):
        list(dalle(server, tmp_path).generate(wanted()))
    assert (tmp_path / "api" / "lost.batch").exists()
