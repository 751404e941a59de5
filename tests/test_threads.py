"""How many threads a job uses, and that tables do not depend on it."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from xraysynth import threads
from xraysynth.stages.report import FILES
from xraysynth.training import callbacks, classifier
from xraysynth.training.classifier import XrayClassifier, threads_for_batch

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "XRAYSYNTH_DEFAULT_THREADS")
SHARES = ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE", "XRAYSYNTH_WORKERS")


@pytest.fixture
def unset(monkeypatch):
    for name in (*VARIABLES, *SHARES):
        monkeypatch.setenv(name, "")  # so that it is put back in the end
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({"OMP_NUM_THREADS": "0"}, None),
    ],
)
def test_what_the_user_has_set_is_respected(unset, given, count):
    for name, value in given.items():
        unset.setenv(name, value)
    threads.use_one_thread_by_default()
    assert threads.threads_asked_for() == count
    for is_large in (False, True):
        cores = threads.available_cores() if is_large else 1
        assert threads.choose_threads(is_large=is_large) == (count or cores)
    assert (os.environ.get("OMP_NUM_THREADS") == "1") is (count in (None, 1))


def test_cores_are_those_that_scheduler_container_and_neighbours_leave(unset):
    import joblib

    unset.setattr(joblib, "cpu_count", lambda: 16)  # knows affinity and cgroups
    assert threads.available_cores() == 16
    unset.setenv("SLURM_CPUS_PER_TASK", "8")
    assert threads.available_cores() == 8
    unset.setenv("SLURM_CPUS_PER_TASK", "64")
    assert threads.available_cores() == 16
    unset.setenv("LOCAL_WORLD_SIZE", "4")
    assert threads.available_cores() == 4
    threads.share_cores(3)
    assert threads.available_cores() == 1
    threads.share_cores(100)
    assert threads.available_cores() == 1


def test_a_large_network_gets_all_cores_and_a_small_one_a_single_thread(unset):
    unset.setattr(threads, "available_cores", lambda: 7)
    recipe = {"backbone": "test_resnet"}
    module = XrayClassifier(classes=["a", "b"], recipe=recipe, max_steps=1, class_counts=[1, 1])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    images = torch.rand(8, 1, 32, 32)
    assert threads_for_batch(module, images) == 1
    unset.setattr(classifier, "LARGE_FLOPS", 1e6)
    assert threads_for_batch(module, images) == 7
    unset.setenv("OMP_NUM_THREADS", "2")
    assert threads_for_batch(module, images) == 2
    assert module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_threads_are_as_before_in_the_end(unset):
    unset.setattr(callbacks, "threads_for_batch", lambda *_: 3)
    before = torch.get_num_threads()
    with threads.torch_threads(before):
        callbacks.ThreadChooser().on_train_batch_start(None, None, {"image": None}, 0)
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_one_thread_is_one_thread_for_linear_algebra_too():
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(2), threads.one_thread():
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert torch.get_num_threads() == 1


def test_the_tables_of_a_report_do_not_depend_on_threads(finished, copied, tmp_path):
    folder, _, _ = finished
    _, overrides = copied()
    shutil.rmtree(tmp_path / "study" / "outputs" / "report")
    shutil.rmtree(tmp_path / "study" / "outputs" / "studies")
    command = [sys.executable, "-c", "from xraysynth.cli import main; main()", "report"]
    env = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([*command, *overrides], env=env, check=True)
    for name in FILES[1:]:
        made = (tmp_path / "study" / "outputs" / "studies" / "study" / name).read_bytes()
        assert made == (folder / "outputs" / "studies" / "study" / name).read_bytes(), name
