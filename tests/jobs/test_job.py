import json
import threading

import pytest

from xraysynth.errors import XraysynthError
from xraysynth.jobs.job import Job


def run(job, work):
    return job.run(work, config={"seed": 0}, overrides=["seed=0"])


def test_done_work_is_not_done_again(tmp_path):
    job = Job("train", {"seed": 0}, tmp_path)
    first = run(job, lambda: {"accuracy": 0.5})
    again = run(job, lambda: pytest.fail("done twice"))
    assert not first["skipped"]
    assert again["skipped"]
    assert again["accuracy"] == first["accuracy"] == 0.5


def test_the_identity_names_the_folder(tmp_path):
    keys = {Job(s, {"seed": n}, tmp_path).key for s in ("train", "evaluate") for n in (0, 1)}
    assert len(keys) == 4


def test_a_failure_is_recorded_and_tried_again(tmp_path):
    job = Job("train", {}, tmp_path)

    def fail():
        raise XraysynthError("no luck")

    with pytest.raises(XraysynthError, match="no luck"):
        run(job, fail)
    assert job.record().state == "failed"
    assert "no luck" in job.record().error
    with pytest.raises(XraysynthError, match=r"was failed; run: xraysynth train"):
        job.require_done("xraysynth train")
    assert run(job, lambda: {"ok": 1})["state"] == "done"


def test_an_interrupted_job_is_not_taken_for_done(tmp_path):
    job = Job("train", {}, tmp_path)

    def interrupt():
        assert json.loads((job.folder / "run.json").read_text())["state"] == "running"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, interrupt)
    assert not job.done


def test_two_at_once_do_the_work_once(tmp_path):
    done = []
    jobs = [Job("train", {}, tmp_path) for _ in range(4)]
    work = [threading.Thread(target=run, args=(job, lambda: done.append(1) or {})) for job in jobs]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(done) == 1


def test_a_job_whose_files_are_gone_is_done_again(tmp_path):
    job = Job("train", {}, tmp_path, outputs=("weights", tmp_path / "elsewhere"))

    def work():
        for path in (job.folder / "weights", tmp_path / "elsewhere"):
            path.write_text("x")
        return {}

    assert not run(job, work)["skipped"]
    assert run(job, lambda: pytest.fail("done twice"))["skipped"]
    for path in (job.folder / "weights", tmp_path / "elsewhere"):
        path.unlink()
        with pytest.raises(XraysynthError, match="its files are gone; run: again"):
            job.require_done("again")
        assert not run(job, work)["skipped"]
