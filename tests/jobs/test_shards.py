"""Generation and features in parts: over jobs, launchers and torchrun's processes, as in one."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from threading import Event, Thread
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from command import torchrun
from safetensors.numpy import load_file
from small_study import overrides_for

from xraysynth import files, launch
from xraysynth.composition import compose, register_schema
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.encoders import embedded
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.features import FeatureCache, load_or_compute_features
from xraysynth.files import write_atomically
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.jobs import shards
from xraysynth.jobs.job import Job
from xraysynth.jobs.shards import Shard
from xraysynth.stages import Workspace, evaluate, features, generate

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()"]


def options(folder, model, *more):
    return overrides_for(folder, model, "generate.per_class=6", "tracking=none", *more)


def made(folder, model, *more):
    overrides = options(folder, model, *more)
    (line,) = generate.run(Workspace(compose(overrides), overrides))["pools"].values()
    return line


def images(folder):
    return {p.name: p.read_bytes() for p in folder.glob("outputs/pools/*/images/*.png")}


def manifests(folder):
    return list(folder.glob("outputs/pools/*/manifest.parquet"))


def lines(command, *words):
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_sd):
    """The folder of a pool that one process has made."""
    folder = tmp_path_factory.mktemp("whole")
    assert made(folder, tiny_sd)["images"] == 24
    return folder


def same_pool(folder, whole):
    assert images(folder) == images(whole)
    assert len(images(whole)) == 24
    (one,), (other,) = manifests(folder), manifests(whole)
    return one.read_bytes() == other.read_bytes()


def test_a_pool_in_three_shards_is_the_pool(tmp_path, tiny_sd, whole):
    for index in (2, 0):
        line = made(tmp_path, tiny_sd, f"shard.index={index}", "shard.count=3")
        assert line["shard"] == [index, 3]
        assert 0 < line["images"] < 24
        assert not manifests(tmp_path)
    line = made(tmp_path, tiny_sd, "shard.index=1", "shard.count=3")
    assert "shard" not in line
    assert line["images"] == line["ledger"]["images"] == 24
    assert same_pool(tmp_path, whole)
    assert made(tmp_path, tiny_sd)["skipped"]  # for all later stages it is a pool as any other


def test_a_shard_that_was_killed_goes_on_and_repeats_nothing(tmp_path, tiny_sd, whole, monkeypatch):
    generator = StableDiffusion.generate

    def dying(self, requests):
        for number, result in enumerate(generator(self, requests)):
            if number == 5:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patched:
        patched.setattr(StableDiffusion, "generate", dying)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, tiny_sd, "shard.index=0", "shard.count=2")
    assert len(images(tmp_path)) == 5
    assert "shard" in made(tmp_path, tiny_sd, "shard.index=1", "shard.count=2")
    made(tmp_path, tiny_sd, "shard.index=0", "shard.count=2")
    assert same_pool(tmp_path, whole)
    journals = tmp_path.glob("outputs/pools/*/journal/*.jsonl")
    assert sum(len(path.read_text().splitlines()) for path in journals) == 24


def test_all_shards_of_a_deleted_pool_are_made_again(tmp_path, tiny_sd, whole):
    for _ in range(2):
        shutil.rmtree(tmp_path / "outputs" / "pools", ignore_errors=True)
        for index in (0, 1):
            made(tmp_path, tiny_sd, f"shard.index={index}", "shard.count=2")
        assert same_pool(tmp_path, whole)


@pytest.mark.slow
def test_a_sweep_over_processes_makes_the_pool(tmp_path, tiny_sd, whole):
    pytest.importorskip("joblib")
    sweep = ["shard.index=range(0,2)", "shard.count=2", "hydra/launcher=joblib"]
    found = lines(COMMAND, "generate", "-m", *options(tmp_path, tiny_sd, *sweep))
    assert [line["state"] for line in found] == ["done", "done"]
    assert same_pool(tmp_path, whole)


def test_processes_of_torchrun_share_the_pool_and_one_of_them_reports(tmp_path, tiny_sd, whole):
    done = torchrun("generate", *options(tmp_path, tiny_sd), forked=True)
    assert done.returncode == 0, done.stderr
    (pool,) = json.loads(done.stdout)["pools"].values()
    assert pool["images"] == 24
    assert same_pool(tmp_path, whole)
    journals = [path.stem for path in tmp_path.glob("outputs/pools/*/journal/*.jsonl")]
    assert sorted(journals) == ["shard-0-of-1", "shard-0-of-2", "shard-1-of-2"]


def be(monkeypatch, rank, of):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(of))


def test_the_first_process_pools_nothing_that_misses_the_parts_of_others(
    tmp_path, tiny_sd, whole, monkeypatch
):
    monkeypatch.setattr(shards, "STALL_TIMEOUT_SECONDS", 0.1)
    be(monkeypatch, 0, 2)
    with pytest.raises(XraysynthError, match="a shard of this job and is not done"):
        made(tmp_path, tiny_sd)
    assert not manifests(tmp_path)
    be(monkeypatch, 1, 2)
    made(tmp_path, tiny_sd)
    assert not manifests(tmp_path)
    be(monkeypatch, 0, 2)
    assert made(tmp_path, tiny_sd)["images"] == 24
    assert same_pool(tmp_path, whole)


def test_processes_share_the_shard_of_their_job(tmp_path, tiny_sd, whole, monkeypatch):
    be(monkeypatch, 1, 2)
    assert shards.process_shard(Shard(index=2, count=3)) == (5, 6)
    for shard in (0, 1):
        for rank in (1, 0):
            be(monkeypatch, rank, 2)
            line = made(tmp_path, tiny_sd, f"shard.index={shard}", "shard.count=2")
        if not shard:
            ranks = tmp_path.glob("outputs/generate/*/run.json")
            results = [json.loads(path.read_text())["result"]["images"] for path in ranks]
            assert (line["shard"], line["images"]) == ([0, 2], sum(results))
    assert line["images"] == 24
    assert same_pool(tmp_path, whole)


def test_a_rank_outside_its_world_is_refused(monkeypatch):
    be(monkeypatch, 2, 2)
    with pytest.raises(ConfigError, match="RANK=2 must be below WORLD_SIZE=2"):
        shards.process_shard(Shard())
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a whole number, as torchrun"):
        shards.process_shard(Shard())


def test_processes_of_two_machines_do_not_write_the_same_partial_file(tmp_path, monkeypatch):
    names = []

    def replace(partial, _):
        names.append(partial.name)

    monkeypatch.setattr(files, "os", SimpleNamespace(getpid=lambda: 1, replace=replace))
    for machine in ("a", "b"):
        monkeypatch.setattr(files, "node", lambda machine=machine: machine)
        write_atomically(tmp_path / "store.json", b"")
    assert len(set(names)) == 2


def test_a_part_that_is_worked_on_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "STALL_TIMEOUT_SECONDS", 0.3)
    slow = Job("generate", {"part": 1}, tmp_path)

    started = Event()

    def work():
        started.set()
        time.sleep(1.5)
        return {}

    working = Thread(target=slow.run, args=(work,), kwargs={"config": {}, "overrides": []})
    working.start()
    started.wait()
    shards.wait_for_jobs([slow])
    assert slow.done
    working.join()


def test_other_stages_refuse_shards_and_processes_refuse_sweeps(monkeypatch, capsys):
    from hydra import compose as composed
    from hydra import initialize_config_module

    register_schema()
    with initialize_config_module("xraysynth.conf", version_base="1.3"):
        config = composed("config", overrides=["shard.count=2"])
    with pytest.raises(ConfigError, match=r"shard.count=2 is for xraysynth generate and features"):
        launch.Task("train")._run_stage(config, [])
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    be(monkeypatch, 0, 2)
    assert launch.launch("generate", ["-m", "shard.index=0,1", "shard.count=2"]) == 2
    assert "torchrun has started 2; give each job a torchrun of its own" in capsys.readouterr().err


# features

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8)  # four batches


@dataclass(frozen=True)
class Grey:
    """Mean and spread of the grey values, and what it was asked for."""

    name: str = "grey"
    identity: ClassVar = Identity("grey", "w", Preprocessing())
    calls: list[int] = field(default_factory=list)

    def features(self, images):
        self.calls.append(len(images))
        return np.stack([images.mean((1, 2)), images.std((1, 2))], 1)


def extract(folder, part, encoder=None, images=IMAGES):
    cache = FeatureCache(Grey.identity, "a", len(images), folder)
    for piece in cache.shards_to_read(part):
        cache.load_or_compute(piece, encoder or Grey(), images.__getitem__)
    return cache.path(part)


def joined(folder, encoder):
    return load_or_compute_features(encoder, IMAGES, digest="a", folder=folder).values


EXPECTED = Grey().features(IMAGES)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_features_in_parts_are_joined_in_order(tmp_path, count):
    asked = Grey()
    for index in reversed(range(count)):
        extract(tmp_path, (index, count), asked)
    assert sum(asked.calls) == 100
    assert all(calls % 32 in (0, 4) for calls in asked.calls)  # whole batches, and the last one
    reader = Grey()
    assert (joined(tmp_path, reader) == EXPECTED).all()
    assert reader.calls == []
    extract(tmp_path, (0, count), reader)
    assert reader.calls == []


def test_only_parts_that_are_missing_or_damaged_are_computed(tmp_path):
    paths = [extract(tmp_path, (index, 4)) for index in range(4)]
    paths[1].unlink()
    data = bytearray(paths[2].read_bytes())
    data[-1] ^= 1
    paths[2].write_bytes(data)
    reader = Grey()
    assert (joined(tmp_path, reader) == EXPECTED).all()
    assert reader.calls == [32, 32]
    assert (joined(tmp_path, reader) == EXPECTED).all()
    assert reader.calls == [32, 32]


def test_a_part_under_the_name_of_another_is_not_believed(tmp_path):
    paths = [extract(tmp_path, (index, 4)) for index in range(4)]
    shutil.copy(paths[0], paths[2])
    assert (joined(tmp_path, Grey()) == EXPECTED).all()


def test_parts_of_other_images_are_not_believed(tmp_path):
    fewer = IMAGES[:70]
    for index in range(2):
        extract(tmp_path, (index, 2), images=fewer)
    assert (joined(tmp_path, Grey()) == EXPECTED).all()


def test_of_two_cuts_the_more_complete_one_is_taken_and_the_whole_before_both(tmp_path):
    extract(tmp_path, (0, 2))
    for index in range(3):
        extract(tmp_path, (index, 4))
    reader = Grey()
    joined(tmp_path, reader)
    assert reader.calls == [4]
    extract(tmp_path / "whole", (0, 1))
    whole = extract(tmp_path / "whole", (1, 2), reader)
    assert reader.calls == [4]
    assert not whole.exists()


SAME = ("tracking=none", "generate.per_class=6")  # the pool of the study


def without_features(copied, *more):
    config, overrides = copied(*SAME, *more)
    folder = config.output / "cache" / "features"
    shutil.rmtree(folder)
    return config, overrides, folder


def values(folder):
    """Of every whole set, by its name; parts are put together."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.setdefault(path.name.split(".")[0], []).append(load_file(path)["features"])
    return {name: np.concatenate(some) for name, some in found.items()}


def test_a_study_measures_the_same_by_features_in_parts(copied, finished, monkeypatch):
    for index in (1, 2, 0):
        shard = [f"shard.index={index}", "shard.count=3"]
        if index == 1:
            config, overrides, folder = without_features(copied, *shard)
        else:
            config, overrides = copied(*SAME, *shard)
        line = features.run(Workspace(config, overrides))
        assert line["shard"] == [index, 3]
        assert not list(config.output.glob("features/*/pixels"))
    before = values(finished[0] / "outputs" / "cache" / "features")
    after = values(folder)
    assert len(before) == 6  # three sets, two encoders
    assert list(after) == list(before)
    assert all((after[name] == before[name]).all() for name in before)
    config, overrides = copied(*SAME)
    shutil.rmtree(config.output / "evaluate")
    monkeypatch.setattr(embedded, "encode_in_batches", None)
    monkeypatch.setattr("xraysynth.evaluation.encoders.classifier.encode_in_batches", None)
    (again,) = evaluate.run(Workspace(config, overrides))["pools"].values()
    (path,) = finished[0].glob("outputs/evaluate/*/run.json")
    measures = json.loads(path.read_text())["result"]["measures"]
    assert json.dumps(again["measures"]) == json.dumps(measures)  # as text: NaN is not NaN


def test_features_of_a_killed_shard_that_are_there_are_not_computed_again(copied, monkeypatch):
    config, overrides, folder = without_features(copied, "evaluate.encoders=[embedded]")
    run, calls = embedded.encode_in_batches, []

    def counted(*arguments):
        calls.append(len(arguments[-1]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(embedded, "encode_in_batches", counted)
    with pytest.raises(KeyboardInterrupt):
        features.run(Workspace(config, overrides))
    assert features.run(Workspace(config, overrides))["skipped"] is False
    assert len(calls) == 4  # three sets, one of them twice
    assert features.run(Workspace(config, overrides))["skipped"]
    assert len(list(folder.iterdir())) == 3
    next(folder.iterdir()).unlink()
    assert features.run(Workspace(config, overrides))["skipped"] is False
    assert len(calls) == 5


def test_features_of_a_classifier_that_is_not_trained_say_what_to_run(copied):
    config, overrides, _ = without_features(copied, "seed=7")
    with pytest.raises(XraysynthError, match=r"run: xraysynth train .*data.synthetic_fraction=0"):
        features.run(Workspace(config, overrides))


@pytest.mark.slow
def test_processes_of_torchrun_share_the_features(copied, finished):
    _, overrides, folder = without_features(copied)
    done = torchrun("features", *overrides)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 48 + 48 + 24
    before = values(finished[0] / "outputs" / "cache" / "features")
    assert all((values(folder)[name] == before[name]).all() for name in before)
