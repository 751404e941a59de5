import json
import threading

import pytest

from xraysynth.errors import DamageError, XraysynthError
from xraysynth.files import write_atomically
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


def with_outputs(folder, **options):
    """A job with an output in its folder and one elsewhere, and the work that writes both."""
    elsewhere = folder / "cohorts" / "table.parquet"
    job = Job("train", {}, folder, outputs=("weights", elsewhere), **options)

    def work():
        elsewhere.parent.mkdir(exist_ok=True)
        write_atomically(job.folder / "weights", b"w" * 1000)
        write_atomically(elsewhere, b"t" * 1000)
        return {"accuracy": 0.5}

    return job, work


@pytest.mark.parametrize("name", ["weights", "../../cohorts/table.parquet", "run.json"])
@pytest.mark.parametrize("change", ["flip", "cut", "empty", "folder"])
def test_an_altered_output_is_refused_where_it_is_used_and_made_again_by_the_job(
    tmp_path, name, change, capsys
):
    job, work = with_outputs(tmp_path)
    run(job, work)
    assert job.intact
    path = job.folder / name
    data = path.read_bytes()
    path.unlink()
    if change == "folder":
        path.mkdir()
    else:
        half = len(data) // 2
        flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        path.write_bytes({"flip": flipped, "cut": data[:half], "empty": b""}[change])
    assert not job.intact
    with pytest.raises(DamageError, match=rf"{path.name} .*xraysynth train"):
        job.require_done("xraysynth train")
    assert not run(job, work)["skipped"]
    assert f"{path.name} " in capsys.readouterr().err
    assert job.intact
    assert name == "run.json" or path.read_bytes() == data


def test_further_outputs_may_be_deleted_and_come_back_when_the_job_is_run(tmp_path):
    job = Job("finetune", {}, tmp_path, further_outputs=("*/*.safetensors",))

    def work():
        (job.folder / "normal").mkdir(exist_ok=True)
        write_atomically(job.folder / "normal" / "lora.safetensors", b"w" * 1000)
        return {"steps": 2}

    run(job, work)
    weights = job.folder / "normal" / "lora.safetensors"
    weights.unlink()
    assert job.intact
    assert not run(job, work)["skipped"]
    weights.write_bytes(b"others")
    assert not job.intact


def test_outputs_of_earlier_versions_are_taken_as_they_are(tmp_path):
    job, work = with_outputs(tmp_path)
    run(job, work)
    path = job.folder / "run.json"
    record = json.loads(path.read_text())
    del record["checksum"], record["output_digests"]
    path.write_text(json.dumps(record))
    (job.folder / "weights").write_bytes(b"others")
    assert job.intact
    assert run(job, work)["skipped"]
    assert json.loads(path.read_text()) == record  # none is invented


def test_an_output_that_grows_may_be_appended_to_and_not_cut(tmp_path):
    job, work = with_outputs(tmp_path, outputs_grow=True)
    run(job, work)
    path = job.folder / "weights"
    with path.open("ab") as file:
        file.write(b"more")
    assert job.intact
    path.write_bytes(path.read_bytes()[:900])
    assert not job.intact


def test_paths_in_a_result_follow_a_folder_that_was_moved(tmp_path):
    job = Job("train", {}, tmp_path / "outputs")
    config = {"paths": {"output": "outputs"}}
    result = {"weights": "outputs/train/w", "rows": [{"file": "outputs/a"}], "text": "outputs of x"}
    job.run(lambda: result, config=config, overrides=[])
    found = job.record().result
    assert found["weights"] == str(tmp_path / "outputs" / "train" / "w")
    assert found["rows"] == [{"file": str(tmp_path / "outputs" / "a")}]
    assert found["text"] == "outputs of x"
