from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from xraysynth.errors import PoolError
from xraysynth.files import read_json_lines
from xraysynth.generation import pool
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.prompts import PromptBank, iterate_requests
from xraysynth.jobs import store as store_module
from xraysynth.records import GenerationResult, LearningRecord, Request

BANK = PromptBank(
    templates=["{view} {age} {sex} {finding}"],
    views=["PA"],
    sexes=["man"],
    ages=[50],
    findings={"normal": ["clear"], "covid19": ["patchy"]},
)
CLASSES = ("normal", "covid19")


@dataclass
class Noise:
    """A generator whose images are noise from the request's seed; keeps count of its work."""

    name: str = "noise"
    block_size: int | None = field(default=4, metadata={"identity": False})
    stop_after: int | None = field(default=None, metadata={"identity": False})
    outcomes: dict[str, str] = field(default_factory=dict)
    record: LearningRecord | None = field(default=None, metadata={"identity": False})
    made: list[str] = field(default_factory=list, metadata={"identity": False})

    @property
    def card(self) -> GeneratorCard:
        return GeneratorCard(
            title="noise",
            access="open",
            licence="none",
            offline=True,
            seeds_reproducible=True,
            prompt_control="none",
            fine_tunable="no",
            hardware="none",
            set_up="none",
            price="none",
        )

    def learning_record(self) -> LearningRecord | None:
        return self.record

    def model_ledger(self) -> Ledger:
        return Ledger(engine="numpy")

    def generate(self, wanted: Sequence[Request]) -> Iterator[GenerationResult]:
        for request in wanted:
            if self.stop_after is not None and len(self.made) >= self.stop_after:
                raise KeyboardInterrupt
            self.made.append(request.image_id)
            outcome = self.outcomes.get(request.image_id, "image")
            rng = np.random.default_rng(request.seed)
            pixels = rng.integers(0, 255, (16, 16)).astype(np.uint8) if outcome == "image" else None
            yield GenerationResult(
                request,
                outcome,
                pixels,
                reason="" if pixels is not None else "why",
                facts={"seconds": 0.1},
                archive={"json": request.prompt.encode()} if self.block_size is None else {},
            )


def wanted(count):
    return list(iterate_requests(BANK, dict.fromkeys(CLASSES, count), seed=0))


def place(generator, folder):
    return pool.pool_store(generator, BANK, seed=0, parent=folder)


def fill(folder, count=10, shard=(0, 1), **options):
    generator = Noise(**options)
    store = place(generator, folder)
    pool.fill(store, generator, wanted(count), shard=shard)
    return store, generator


def images(store):
    return {p.name: p.read_bytes() for p in (store.folder / "images").glob("*.png")}


def read(store, count):
    return pool.read_images(
        store, CLASSES, per_class=dict.fromkeys(CLASSES, count), command="make it"
    )


def test_a_pool_holds_every_request_once(tmp_path):
    store, _ = fill(tmp_path)
    manifest = read(store, 10)
    assert manifest.class_counts() == {"normal": 10, "covid19": 10}
    assert set(manifest.table["split"]) == {"train"}
    assert manifest.table["is_synthetic"].all()
    assert manifest.table["pool"].unique().tolist() == [store.key]


def test_interrupted_and_continued_it_repeats_no_finished_block(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "a", stop_after=6)
    store, second = fill(tmp_path / "a")
    whole, _ = fill(tmp_path / "b")
    assert images(store) == images(whole)
    assert "normal-000000" not in second.made
    _, third = fill(tmp_path / "a")
    assert third.made == []


def test_asking_for_more_later_only_adds(tmp_path):
    few, _ = fill(tmp_path, count=6)
    before = images(few)
    more, generator = fill(tmp_path, count=10)
    assert more.folder == few.folder
    assert before.items() <= images(more).items()
    assert not {"normal-000000", "normal-000003"} & set(generator.made)


def test_shards_make_up_the_whole(tmp_path):
    for index in range(3):
        store, _ = fill(tmp_path / "shards", shard=(index, 3))
    assert not (store.folder / "manifest.parquet").exists()  # which is made once, of all of them
    _, last = fill(tmp_path / "shards")
    assert last.made == []
    whole, _ = fill(tmp_path / "whole")
    assert images(store) == images(whole)
    manifests = [(s.folder / "manifest.parquet").read_bytes() for s in (store, whole)]
    assert manifests[0] == manifests[1]


def test_outcomes_are_kept_apart_and_only_failures_are_tried_again(tmp_path):
    outcomes = {"normal-000000": "refused", "normal-000001": "empty", "normal-000002": "failed"}
    store, _ = fill(tmp_path, outcomes=outcomes)
    assert pool.count_outcomes(store)["normal"] == {
        "empty": 1,
        "failed": 1,
        "image": 7,
        "refused": 1,
    }
    generator = Noise(outcomes=outcomes)
    pool.fill(place(generator, tmp_path), generator, wanted(10))
    assert set(generator.made) == {f"normal-{n:06d}" for n in range(4)}  # the block of the failure
    with pytest.raises(PoolError, match="'normal': '7 of 10'"):
        read(store, 10)


def test_a_pool_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(PoolError, match="make it"):
        read(place(Noise(), tmp_path), 1)


def test_a_flipped_byte_is_found_on_reading(tmp_path):
    store, _ = fill(tmp_path)
    path = store.folder / "images" / "covid19-000003.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(PoolError, match=r"covid19-000003\.png \(changed\)"):
        read(store, 10)


@pytest.mark.parametrize("left", ["folder", "journal", "manifest", "refusals"])
def test_a_pool_without_an_image_has_too_few_and_can_be_filled(tmp_path, left):
    generator = Noise(outcomes={request.image_id: "failed" for request in wanted(2)})
    store = place(generator, tmp_path)
    store.folder.mkdir()
    if left in ("journal", "manifest"):
        with store.writer("shard-0-of-1"):
            pass
    if left == "manifest":
        store.write_manifest()
    if left == "refusals":
        pool.fill(store, generator, wanted(2))
    with pytest.raises(PoolError, match=r"too few images: .*0 of 2.*make it"):
        read(store, 2)
    assert list(store.table().columns) == ["image_id", "path", "sha256"]
    pool.fill(store, Noise(), wanted(2))
    assert len(read(store, 2)) == 2 * len(CLASSES)


def test_the_recipe_names_the_pool(tmp_path):
    one, other = place(Noise(), tmp_path), place(Noise(outcomes={"a": "b"}), tmp_path)
    assert one.key != other.key
    assert place(Noise(block_size=8), tmp_path).key == one.key
    assert pool.pool_store(Noise(), BANK, seed=1, parent=tmp_path).key != one.key


def test_of_independent_images_only_the_missing_are_asked_for(tmp_path):
    outcomes = {"normal-000000": "possibly_billed", "normal-000002": "failed"}
    fill(tmp_path, outcomes=outcomes, block_size=None)
    generator = Noise(outcomes=outcomes, block_size=None)
    store = place(generator, tmp_path)
    pool.fill(store, generator, wanted(11))
    assert set(generator.made) == {*outcomes, "normal-000010", "covid19-000010"}
    kept = store.folder / "archive" / "normal-000001.json"
    assert kept.read_text() == wanted(2)[1].prompt
    assert pool.compute_ledger(store).attempts == 24  # both tries of the two are remembered


def test_the_ledger_adds_up_sessions_also_one_that_was_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, stop_after=6)
    store, _ = fill(tmp_path)
    found = pool.compute_ledger(store)
    assert found.images == 20
    assert found.engine == "numpy"
    assert found.seconds_p50 == pytest.approx(0.1)
    assert found.images_per_hour > 0
    sessions = (store.folder / pool.SESSIONS_FILE).read_text().splitlines()
    assert len(sessions) == 2
    fill(tmp_path)  # nothing to do: no session
    assert (store.folder / pool.SESSIONS_FILE).read_text().splitlines() == sessions


def test_what_the_generator_has_learned_from_stays_with_the_pool(tmp_path):
    record = LearningRecord(patients=["a/1"], sha256=["00"])
    store, _ = fill(tmp_path / "one", record=record)
    assert pool.read_learning_record(store) == record
    store, _ = fill(tmp_path / "two")
    assert pool.read_learning_record(store) is None
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "three", record=record, stop_after=6)
    assert pool.read_learning_record(place(Noise(), tmp_path / "three")) == record


def test_refusals_are_counted_by_class_and_prompt(tmp_path):
    outcomes = {"normal-000000": "refused", "normal-000001": "failed"}
    store, _ = fill(tmp_path, outcomes=outcomes)
    found = pool.count_refusals(store)
    assert found.label == {"normal": (1, 9)}  # what failed was no answer
    ((prompt, (refused, asked)),) = found.prompt.items()
    assert prompt == wanted(1)[0].prompt
    assert refused == 1 <= asked


def test_refusals_come_most_refused_first_and_a_mended_failure_counts_once(tmp_path):
    outcomes = dict.fromkeys(("covid19-000001", "normal-000002", "normal-000005"), "refused")
    store, _ = fill(tmp_path, outcomes=outcomes | {"normal-000000": "failed"})
    pool.fill(store, Noise(outcomes=outcomes), wanted(10))
    assert pool.count_outcomes(store)["normal"] == {"image": 8, "refused": 2}
    assert list(pool.count_refusals(store).label.items()) == [
        ("normal", (2, 10)),
        ("covid19", (1, 10)),
    ]
    assert pool.compute_ledger(store).attempts == 21
    assert len(pool.image_facts(store)) == 20


def test_a_model_that_is_loaded_already_costs_a_second_session_no_loading(tmp_path):
    class Loading(Noise):
        def model_ledger(self):
            return Ledger(load_seconds=5.0) if self.made else Ledger()

    generator = Loading()
    store = place(generator, tmp_path)
    pool.fill(store, generator, wanted(10))
    pool.fill(store, generator, wanted(12))
    lines = read_json_lines(store.folder / pool.SESSIONS_FILE)
    assert [line["load_seconds"] for line in lines] == [5.0, 0.0]


def test_a_pool_reads_its_journal_twice_to_be_filled_and_never_to_be_used(tmp_path, monkeypatch):
    read_paths = []
    stream = store_module.iter_json_lines

    def counting(path):
        read_paths.append(path.name)
        return stream(path)

    monkeypatch.setattr(store_module, "iter_json_lines", counting)
    store, _ = fill(tmp_path)
    assert read_paths == ["shard-0-of-1.jsonl"] * 2  # what is there; the manifest
    read(store, 10)
    read(store, 5)
    assert len(read_paths) == 2
    fill(tmp_path)
    assert len(read_paths) == 3


@pytest.mark.parametrize("label", ["../../x", "a/b", "/etc/x", ".."])
def test_a_class_that_cannot_be_a_file_name_gets_a_name_that_stays_in_the_pool(tmp_path, label):
    generator = Noise()
    request = Request(label, 0, "a chest radiograph", "", 0)
    store = pool.pool_store(generator, BANK, seed=0, parent=tmp_path / "pools")
    pool.fill(store, generator, [request])
    (image,) = tmp_path.rglob("*.png")
    assert image.parent == store.folder / "images"
    assert list(tmp_path.iterdir()) == [tmp_path / "pools"]
