"""Images as a service sent them: checked against the digests that the pool's journal has of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from xraysynth.errors import DamagedPoolError
from xraysynth.files import encode_json_line, read_json_lines
from xraysynth.generation import pool
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.originals import original_files
from xraysynth.generation.prompts import PromptBank, iterate_requests
from xraysynth.images import encode_png
from xraysynth.records import GenerationResult

BANK = PromptBank(
    templates=["{view} {age} {sex} {finding}"],
    views=["PA"],
    sexes=["man"],
    ages=[50],
    findings={"normal": ["clear"]},
)


class Service:
    """A generator whose images come with the bytes of a service, and with its answer."""

    name = "service"
    block_size = None

    def learning_record(self) -> None:
        return None

    def model_ledger(self) -> Ledger:
        return Ledger()

    def generate(self, requests):
        for request in requests:
            pixels = np.random.default_rng(request.seed).integers(0, 256, (8, 8), np.uint8)
            sent = encode_png(np.stack([pixels] * 3, axis=-1))
            archive = {"png": sent, "json": b"{}"}
            yield GenerationResult(
                request, "image", pixels, facts={"seconds": 1.0}, archive=archive
            )


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "identity", lambda generator: {"name": generator.name})
    store = pool.pool_store(Service(), BANK, seed=0, parent=tmp_path)
    pool.fill(store, Service(), list(iterate_requests(BANK, {"normal": 3}, seed=0)))
    return store


def original(store, number: int) -> Path:
    return store.folder / "archive" / f"normal-00000{number}.png"


def test_the_journal_records_what_is_archived_and_the_manifest_does_not(filled):
    digests = [entry.facts["archive_sha256"] for entry in filled.attempts()]
    assert [set(found) for found in digests] == [{"png", "json"}] * 3
    assert "archive_sha256" not in filled.manifest().table


def test_the_files_of_the_service_stand_for_the_images(filled):
    manifest = filled.manifest()
    assert original_files(manifest) == [original(filled, number) for number in range(3)]
    some = manifest.where([False, True, False])
    assert original_files(some) == [original(filled, 1)]


@pytest.mark.parametrize(("damage", "word"), [("alter", "altered"), ("delete", "missing")])
def test_an_altered_original_is_refused_by_name(filled, damage, word):
    path = original(filled, 1)
    if damage == "alter":
        path.write_bytes(original(filled, 2).read_bytes())
    else:
        path.unlink()
    manifest = filled.manifest()
    with pytest.raises(DamagedPoolError, match=rf"1 of 3 originals .* {path.name} \({word}\)"):
        original_files(manifest)
    assert original_files(manifest.where([True, False, True])) == [
        original(filled, 0),
        original(filled, 2),
    ]


def test_what_the_message_offers_helps(filled):
    original(filled, 1).unlink()
    manifest = filled.manifest()
    with pytest.raises(
        DamagedPoolError, match=r"or delete ([^:]*archive): then the images of the pool"
    ):
        original_files(manifest)
    shutil.rmtree(filled.folder / "archive")
    assert original_files(manifest) == manifest.files


def test_a_pool_of_an_earlier_version_keeps_its_originals(filled):
    (journal,) = (filled.folder / "journal").glob("*.jsonl")
    lines = list(read_json_lines(journal))
    for line in lines:
        del line["facts"]["archive_sha256"]
    journal.write_bytes(b"".join(map(encode_json_line, lines)))
    original(filled, 1).write_bytes(original(filled, 2).read_bytes())
    original(filled, 0).unlink()
    manifest = filled.manifest()
    assert original_files(manifest) == [
        manifest.files[0],
        original(filled, 1),
        original(filled, 2),
    ]
