"""Multiruns through every launcher: the same results, failures apart, kills, nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from command import xraysynth
from omegaconf import OmegaConf
from slurm_stand_in import write_commands
from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.errors import ConfigError
from xraysynth.jobs import launchers
from xraysynth.jobs.sweeps import JobOutcome, SweepMonitor, format_summary, validation_score
from xraysynth.stages import Workspace, job_workspace, prepare, study

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()"]
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
GRID = ("seed=0,1", "data.real_fraction=1,0.01")  # too few images: every other job fails
NEEDS = {"joblib": "joblib", "submitit_local": "submitit", "slurm": "submitit", "ray": "ray"}


def start(stage, *arguments, **environment):
    return subprocess.Popen(
        [*COMMAND, stage, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT | environment,
    )


def call(stage, *arguments, **environment):
    """Exit code, the JSON lines on stdout, and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | environment).items():
            patch.setenv(name, value)
        code, out, err = xraysynth(stage, *arguments)
    return code, [json.loads(line) for line in out.splitlines()], err


def base(folder, *more):
    """Training on real images alone needs no generator."""
    chosen = overrides_for(folder, folder, "tracking=none", *more)
    return [text for text in chosen if not text.startswith("generator.")]


def prepared(folder):
    write_cohort(folder / "cohort")
    return base(folder)


def by_job(lines):
    """What must not depend on the launcher."""
    names = ("job", "overrides", "state", "macro_f1", "accuracy", "error")
    kept = [{name: line.get(name) for name in names} for line in lines]
    return sorted(kept, key=lambda line: line["job"])


def records(folder, stage="train"):
    paths = (folder / "outputs" / stage).glob("*/run.json")
    return {path.parent.name: (path, json.loads(path.read_text())) for path in paths}


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The sweep by Hydra's basic launcher."""
    folder = tmp_path_factory.mktemp("basic")
    overrides = prepared(folder)
    return folder, overrides, call("train", "-m", *overrides, *GRID)


def test_a_failed_job_does_not_stop_the_others_and_is_listed_in_the_end(one_by_one):
    _, _, (code, lines, err) = one_by_one
    assert code == 1
    assert [line["state"] for line in by_job(lines)] == ["done", "failed", "done", "failed"]
    assert "4 jobs ended, 2 failed" in err
    *_, first, second = err.strip().splitlines()
    assert first.startswith(
        "failed: job 1 (seed=0 data.real_fraction=0.01): ConfigError: data.real"
    )
    assert second.startswith("failed: job 3 (seed=1 data.real_fraction=0.01)")
    assert "Traceback" not in err


def test_a_sweep_that_is_started_again_does_nothing_twice(one_by_one):
    folder, overrides, (_, first, _) = one_by_one
    before = {path: path.stat().st_mtime_ns for path, _ in records(folder).values()}
    code, lines, err = call("train", "-m", *overrides, "seed=0,1")
    assert code == 0
    assert all(line["skipped"] for line in lines)
    assert "2 were done before" in err
    assert {path: path.stat().st_mtime_ns for path, _ in records(folder).values()} == before
    assert len(first) == 4


@pytest.mark.parametrize(
    "launcher",
    [
        "joblib",
        pytest.param("submitit_local", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.slow),
    ],
)
def test_a_launcher_gives_the_results_of_the_basic_one(one_by_one, tmp_path, launcher):
    pytest.importorskip(NEEDS[launcher])
    code, lines, err = call("train", "-m", *prepared(tmp_path), *GRID, f"hydra/launcher={launcher}")
    assert by_job(lines) == by_job(one_by_one[2][1]), err
    assert code == 1
    assert "4 jobs ended, 2 failed" in err
    warnings = [line for line in err.splitlines() if "UserWarning" in line]
    assert all("A worker stopped" in line for line in warnings)  # joblib on a busy machine


@pytest.mark.slow
def test_slurm_is_given_a_job_array_with_what_was_asked_for(one_by_one, tmp_path):
    pytest.importorskip("submitit")
    write_commands(tmp_path / "bin")
    chosen = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    chosen += ["hydra.launcher.gpus_per_node=2", "hydra.launcher.array_parallelism=3"]
    paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    paths["STAND_IN"] = str(tmp_path / "bin")
    allocation = {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    allocation |= {"SLURM_MEM_PER_CPU": "4000", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1"}
    paths |= allocation  # from inside another job, whose limits are not those of the new ones
    _, lines, err = call("train", "-m", *prepared(tmp_path), *GRID, *chosen, **paths)
    assert by_job(lines) == by_job(one_by_one[2][1]), err
    script = (tmp_path / "bin" / "submitted.sh").read_text()
    for option in ("partition=gpu", "gpus-per-node=2", "array=0-3%3", "time=240"):
        assert f"#SBATCH --{option}\n" in script


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_is_used(one_by_one, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, resources={"second": 2})
        chosen = ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]
        chosen += ["+hydra.launcher.remote.resources={second: 1}"]  # which the head has not
        _, lines, err = call("train", "-m", *prepared(tmp_path), *GRID, *chosen)
        again = call("train", "-m", *base(tmp_path), "seed=0,1", *chosen[:2])
    finally:
        cluster.shutdown()
    assert by_job(lines) == by_job(one_by_one[2][1]), err
    assert [line["skipped"] for line in again[1]] == [True, True]


def worker_of(folder):
    """The process that holds the lock of a training that runs, and its job's key."""
    running = {key for key, (_, r) in records(folder).items() if r["state"] == "running"}
    locks = {str(folder / "outputs" / "train" / key / ".lock"): key for key in running}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target in locks:
            return int(link.parts[2]), locks[target]
    return None


@pytest.mark.slow
def test_the_jobs_of_a_multirun_read_the_cohort_once(tmp_path, monkeypatch):
    options = [*prepared(tmp_path), "trainer.max_steps=2", "trainer.val_every_steps=2"]
    reads, read = [], prepare.prepare_cohort

    def read_and_count(workspace):
        reads.append(workspace.config.seed)
        return read(workspace)

    monkeypatch.setattr(prepare, "prepare_cohort", read_and_count)
    for seeds in ("0,1", "2,3"):  # another run reads it anew: its files may have changed
        code, lines, err = call("train", "-m", *options, f"seed={seeds}")
        assert (code, len(lines)) == (0, 2), err
    call("train", *options, "seed=4")
    assert reads == [0, 2, 4]


def test_a_job_gets_what_the_one_before_has_resolved_of_the_same_real_images_alone(tmp_path):
    options = prepared(tmp_path)
    first, same, other = (
        Workspace(compose([*options, extra]), options)
        for extra in ("seed=0", "seed=1", "splits.seed=7")
    )
    with job_workspace(first, "a run") as workspace:
        cohort, generators = workspace.cohort, workspace.generators
    with job_workspace(same, "a run") as workspace:
        assert workspace.cohort is cohort
        assert workspace.config.seed == 1
        assert workspace.generators is not generators
    with job_workspace(other, "a run") as workspace:
        assert workspace.cohort is not cohort
    with job_workspace(same, "another run") as workspace:
        assert "cohort" not in vars(workspace)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_after_a_kill_only_what_was_not_done_is_repeated(tmp_path, launcher):
    pytest.importorskip(NEEDS[launcher])
    short = prepared(tmp_path)
    long = [text.replace("max_steps=12", "max_steps=100") for text in short]
    chosen = [*long, f"hydra/launcher={launcher}", "data.synthetic_fraction=0"]
    assert call("train", *long, "data.synthetic_fraction=0", "seed=0")[0] == 0
    (done,) = records(tmp_path)
    before = records(tmp_path)[done][0].stat().st_mtime_ns
    sweep = start("train", "-m", *chosen, "seed=0,1")
    while (found := worker_of(tmp_path)) is None:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
    process, killed = found
    os.kill(process, signal.SIGKILL)
    out, err = sweep.communicate()
    assert sweep.returncode == 1, out + err
    assert "Traceback" not in err.splitlines()[-1]
    assert records(tmp_path)[killed][1]["state"] == "running"
    code, lines, err = call("train", "-m", *chosen, "seed=0,1")
    assert code == 0, err
    assert {line["key"]: line["skipped"] for line in lines} == {done: True, killed: False}
    assert records(tmp_path)[done][0].stat().st_mtime_ns == before


def test_two_processes_that_start_the_same_preparation_do_it_once(tmp_path):
    overrides = prepared(tmp_path)
    both = [start("prepare", *overrides) for _ in range(2)]
    results = [json.loads(process.communicate()[0]) for process in both]
    assert sorted(result["skipped"] for result in results) == [False, True]
    assert len({result["digest"] for result in results}) == 1
    journals = list((tmp_path / "outputs" / "cohorts").rglob("*.jsonl"))
    assert sum(len(path.read_text().splitlines()) for path in journals) == 96


@pytest.mark.parametrize(
    "option", ["hydra/launcher=joblib", pytest.param("study.workers=2", marks=pytest.mark.slow)]
)
def test_a_study_on_a_launcher_ends_like_one_in_one_process(finished, tmp_path, tiny_sd, option):
    pytest.importorskip("joblib")
    _, _, expected = finished
    write_cohort(tmp_path / "cohort")
    overrides = [*overrides_for(tmp_path, tiny_sd), option]
    code, (result,), err = call("study", *overrides)
    assert code == 0, err
    assert result["macro_f1"] == expected["macro_f1"]
    code, (again,), err = call("study", *overrides)
    assert again["skipped"]
    assert "[1/" not in err


@pytest.mark.slow
def test_a_study_on_a_launcher_goes_on_when_a_job_fails(tmp_path, tiny_sd):
    pytest.importorskip("joblib")
    write_cohort(tmp_path / "cohort")
    overrides = overrides_for(tmp_path, tiny_sd, "tracking=none", "study.seeds=[0]")
    chosen = ["study.real_fractions=[1,0.01]", "generate.per_class=12"]
    code, (result,), err = call("study", *overrides, *chosen, "hydra/launcher=joblib")
    assert code == 1, err
    assert result["state"] == "failed"
    assert all("0.01 of the real images" in failure for failure in result["failures"])
    assert Path(result["report"]).exists()


def test_a_plan_says_what_is_done_and_makes_nothing(copied, tmp_path, capsys):
    config, overrides = copied("plan=true", "study.seeds=[0,1,2]")
    before = {path for path in tmp_path.rglob("*") if path.name != ".lock"}
    result = study.run(Workspace(config, overrides))
    assert {path for path in tmp_path.rglob("*") if path.name != ".lock"} == before
    assert result == {"stage": "study", "state": "planned"} | {
        name: result[name] for name in ("steps", "missing", "seconds", "cost_usd", "power")
    }
    shown = capsys.readouterr().err
    # a copied study is read anew, so that its pool is there, but its cohort is not
    assert "done     generate stable_diffusion" in shown
    assert "missing  train stable_diffusion 0.5 replace, seed 2: about" in shown
    assert result["missing"] < result["steps"]


def test_a_plan_of_a_finished_study_misses_nothing(finished, capsys):
    _, overrides, _ = finished
    result = study.run(Workspace(compose([*overrides, "plan=true"]), overrides))
    assert (result["missing"], result["seconds"], result["cost_usd"]) == (0, 0, 0.0)
    assert "missing  " not in capsys.readouterr().err


def test_a_plan_before_anything_is_made_counts_dollars_and_knows_no_time(tmp_path, capsys):
    write_cohort(tmp_path / "cohort")
    overrides = base(tmp_path, "generator=dalle", "generate.per_class=3", "plan=true")
    config = compose(overrides)
    result = study.run(Workspace(config, overrides))
    assert not (tmp_path / "outputs").exists()
    assert result["missing"] == result["steps"]
    assert result["seconds"] is None
    (generator,) = config.generators().values()
    assert result["cost_usd"] > 0
    assert f"generate {generator.name}: unknown time, $" in capsys.readouterr().err


@pytest.mark.slow
def test_optuna_looks_for_the_highest_macro_f1_on_validation(tmp_path):
    pytest.importorskip("optuna")
    overrides = prepared(tmp_path)
    rates = "classifier.learning_rate=interval(0.0001,0.01)"
    chosen = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"]
    code, lines, err = call("train", "-m", *overrides, *chosen, rates)
    assert code == 0, err
    best = lines[-1]
    histories = [record["result"]["history"] for _, record in records(tmp_path).values()]
    values = [max(entry["val/macro_f1"] for entry in history) for history in histories]
    assert best["best_value"] == pytest.approx(max(values))
    assert list(best["best_params"]) == ["classifier.learning_rate"]
    results = Path(best["sweep"]) / "optimization_results.yaml"
    assert yaml.safe_load(results.read_text())["best_value"] == best["best_value"]
    _, again, err = call("train", "-m", *overrides, *chosen, rates)
    assert again[-1]["best_params"] == best["best_params"]
    assert "3 were done before" in err


def test_optuna_is_refused_where_nothing_is_validated(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, lines, err = call("prepare", "-m", *base(tmp_path), "hydra/sweeper=optuna")
    assert code == 2
    assert lines == []
    assert "which only xraysynth train has" in err


def test_a_launcher_without_a_multirun_is_refused(tmp_path):
    code, _, err = call("train", *base(tmp_path), "hydra/launcher=joblib")
    assert code == 2
    assert "add -m after xraysynth train" in err


def test_a_plan_of_another_stage_is_refused(tmp_path):
    code, _, err = call("train", *base(tmp_path), "plan=true")
    assert code == 2
    assert "xraysynth study" in err


@pytest.mark.parametrize("choice", launchers.PLUGIN_PACKAGES)
def test_a_missing_package_names_its_extra(monkeypatch, choice):
    choices = {"hydra/launcher": "basic", "hydra/sweeper": "basic"}
    choices |= [choice.split("=")]
    launchers.require_packages(choices)
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    extra = launchers.PLUGIN_PACKAGES[choice][1]
    with pytest.raises(ConfigError, match=rf"{choice} .*pip install 'xraysynth\[{extra}\]'"):
        launchers.require_packages(choices)


def test_the_score_is_that_of_the_kept_step_on_validation():
    history = [{"step": 6, "val/macro_f1": 0.5}, {"step": 12, "val/macro_f1": 0.4}]
    assert validation_score({"history": history, "kept_step": 6, "macro_f1": 0.9}) == 0.5
    assert validation_score({"pools": {}}) is None
    assert float(JobOutcome({}, 0.5)) == 0.5
    with pytest.raises(ValueError, match="out of luck"):
        float(JobOutcome({"error": "out of luck"}))


def test_a_follower_prints_what_is_new_without_what_all_jobs_share(tmp_path, capsys):
    line = {"state": "done", "job": 0, "overrides": ["a=1", "b=2"]}
    JobOutcome(line | {"job": 7}).write(tmp_path / "7")  # of an earlier sweep
    follower = SweepMonitor(tmp_path, ["a=1", "b=2,3"])
    JobOutcome(line).write(tmp_path / "0")
    failed = line | {"job": 1, "state": "failed", "error": "out of luck"}
    JobOutcome(failed).write(tmp_path / "deep" / "1")
    found = follower.stop()
    assert found == [line | {"overrides": ["b=2"]}, failed | {"overrides": ["b=2"]}]
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == found
    assert format_summary(tmp_path, found).endswith("failed: job 1 (b=2): out of luck")


def test_a_sweep_may_interpolate_what_it_sweeps_over(tmp_path):
    choices = {"hydra/launcher": "basic", "hydra/sweeper": "basic"}
    given = ["seed=0,1", "study.name=${nowhere.name}"]
    hydra = {"runtime": {"choices": choices}, "sweep": {"dir": str(tmp_path)}}
    config = OmegaConf.create({"hydra": hydra | {"overrides": {"task": given}}})
    launchers.MultirunCallback().on_multirun_start(config)
    follower = launchers.MultirunCallback.stop_monitor()
    assert follower is not None
    assert follower.lines == []
