"""Other people's variables: each job does what it would do without them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from command import xraysynth
from small_study import overrides_for, write_cohort

from xraysynth import environment
from xraysynth.config import TrackingMode
from xraysynth.errors import ConfigError
from xraysynth.jobs import distributed
from xraysynth.tracking.runs import open_run, resolve_mode

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()"]

ALLOCATION = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "study",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_NNODES": "2",
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_CPUS_PER_TASK": "2",
}
SOMEBODYS_RUN = {
    "WANDB_RUN_ID": "theirs",
    "WANDB_RESUME": "must",
    "WANDB_PROJECT": "theirs",
    "WANDB_SWEEP_ID": "sweep",
    "WANDB_RUN_GROUP": "theirs",
    "WANDB_TAGS": "theirs",
    "WANDB_DIR": "/nowhere",
    "WANDB_MODE": "disabled",
    "WANDB_SERVICE": "3-1-tcp-localhost-9",
}
LIBRARIES = {
    "PL_TRAINER_FAST_DEV_RUN": "1",
    "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1",
    "PL_GLOBAL_SEED": "9",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "192.0.2.1",
    "MASTER_PORT": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HYDRA_FULL_ERROR": "0",
}
TERMINAL = {
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "5",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "COLUMNS": "9",
    "NO_COLOR": "1",
    "TMPDIR": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
EVERYTHING = ALLOCATION | SOMEBODYS_RUN | LIBRARIES | TERMINAL


def results(output: Path) -> dict[str, bytes]:
    """What jobs have left below a folder: weights, predictions and manifests by name."""
    found = {}
    for pattern in ("*.safetensors", "predictions.parquet", "manifest.csv", "*.png"):
        for path in output.rglob(pattern):
            name = path.relative_to(output)
            if not {"cache", "wandb"} & set(name.parts):
                found[str(name)] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_sd):
    """The options of a small training, and what it leaves without any of the variables."""
    folder = tmp_path_factory.mktemp("alone")
    write_cohort(folder / "cohort")
    overrides = overrides_for(folder, tiny_sd, "data.synthetic_fraction=0")
    assert xraysynth("train", *overrides).returncode == 0
    return overrides, results(folder / "outputs")


def test_a_training_under_everybodys_variables_is_the_same(alone, tmp_path):
    overrides, expected = alone
    bare = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [*COMMAND, "train", *overrides, f"paths.output={tmp_path}"],
        env=bare | EVERYTHING,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"] == 1
    assert len(expected) > 2
    assert results(tmp_path) == expected
    (run,) = (tmp_path / "train").glob("*/wandb/offline-run-*/*.wandb")
    assert "theirs" not in run.name


@pytest.mark.slow
def test_a_study_with_workers_under_everybodys_variables_is_the_same(finished, tmp_path, tiny_sd):
    folder, _, _ = finished
    overrides = overrides_for(folder, tiny_sd, f"paths.output={tmp_path}", "study.workers=2")
    env = os.environ | EVERYTHING
    done = subprocess.run([*COMMAND, "study", *overrides], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == results(folder / "outputs")


def test_a_training_in_an_event_loop_as_notebooks_have_it_is_the_same(alone, tmp_path):
    overrides, expected = alone

    async def cell() -> int:
        return xraysynth("train", *overrides, f"paths.output={tmp_path}").returncode

    assert asyncio.run(cell()) == 0
    assert results(tmp_path) == expected


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_a_command_that_is_started_several_times_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "3")
    ended = xraysynth("study", "experiment=quickstart")
    command = "srun --ntasks=1" if "SLURM" in variable else "mpirun -n 1"
    assert ended.returncode == 2
    assert f"start it once: {command} xraysynth study experiment=quickstart" in ended.stderr
    assert f"env -u {variable} xraysynth study" in ended.stderr


def test_the_command_that_the_refusal_names_is_not_refused(alone, monkeypatch):
    overrides, _ = alone
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    refusal = xraysynth("train", *overrides).stderr
    env, option, variable, program, *words = refusal.split("say so by: ")[1].split()
    assert (env, option, program) == ("env", "-u", "xraysynth")
    monkeypatch.delenv(variable)
    assert '"skipped": true' in xraysynth(*[word.strip("'") for word in words]).stdout


def test_tasks_with_shards_of_their_own_are_not_refused(alone, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    overrides, _ = alone
    words = ["generate", *overrides, f"paths.output={tmp_path}", "generate.per_class=4"]
    for number in range(2):
        assert xraysynth(*words, f"shard.index={number}", "shard.count=2").returncode == 0
    assert xraysynth(*words, "shard.index=0", "shard.count=1").returncode == 2


def test_one_task_of_one_and_torchrun_inside_a_task_are_not_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    distributed.require_one_copy()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ConfigError, match="srun has started this command 2 times"):
        distributed.require_one_copy()
    monkeypatch.setenv("WORLD_SIZE", "2")
    distributed.require_one_copy()


def test_processes_that_never_come_are_not_waited_for(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    ended = xraysynth("prepare")
    assert ended.returncode == 2
    monkeypatch.setenv("RANK", "0")
    assert "they have not met" in xraysynth("prepare").stderr
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    monkeypatch.setattr(distributed, "JOIN_TIMEOUT", distributed.timedelta(seconds=1))
    ended = xraysynth("prepare")
    assert "waiting for the other 1 processes" in ended.stderr
    assert "run: unset WORLD_SIZE RANK" in ended.stderr
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name)
    distributed.meet()


def test_every_job_is_a_run_of_its_own_beside_somebody_elses(copied, tmp_path, monkeypatch):
    import wandb

    from xraysynth.jobs.job import Job

    theirs = wandb.init(mode="offline", dir=str(tmp_path), id="theirs", project="theirs")
    for name, value in SOMEBODYS_RUN.items():
        monkeypatch.setenv(name, value)
    config, _ = copied()
    found = []
    for number in range(2):
        with open_run(config, Job("prepare", {"number": number}, tmp_path / "out")) as run:
            found.append((run.id, run.project, run.sweep_id, run.tags, run.offline))
    assert len({identity for identity, *_ in found} | {"theirs"}) == 3
    for _, project, sweep, tags, offline in found:
        assert (project, sweep, offline) == ("xraysynth", None, True)
        assert "theirs" not in tags
    assert wandb.run is theirs
    theirs.finish()
    assert os.environ["WANDB_RUN_ID"] == "theirs"


@pytest.mark.parametrize(
    ("variable", "value", "sent"),
    [
        ("WANDB_MODE", "offline", False),
        ("WANDB_MODE", "dryrun", False),
        ("WANDB_MODE", "disabled", False),
        ("WANDB_DISABLED", "true", False),
        ("WANDB_MODE", "online", True),
        ("WANDB_DISABLED", "false", True),
    ],
)
def test_offline_stays_offline(monkeypatch, capsys, variable, value, sent):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv(variable, value)
    assert (resolve_mode(TrackingMode.online) is TrackingMode.online) is sent
    assert (f"unset {variable} to send it" in capsys.readouterr().err) is not sent
    assert resolve_mode(TrackingMode.offline) is TrackingMode.offline
    assert resolve_mode(TrackingMode.disabled) is TrackingMode.disabled


def test_hidden_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("THEIRS_A", "1")
    monkeypatch.setenv("THEIRS_KEY", "2")
    with environment.hidden_variables("THEIRS_", keep=("THEIRS_KEY",)):
        assert os.environ["THEIRS_KEY"] == "2"
        assert "THEIRS_A" not in os.environ
    assert os.environ["THEIRS_A"] == "1"


def test_calls_to_this_machine_pass_by_a_proxy(monkeypatch):
    import httpx2

    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    environment.bypass_proxy_for_this_machine()
    assert "NO_PROXY" not in os.environ
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:9")
    monkeypatch.setenv("no_proxy", "example.org, localhost")
    environment.bypass_proxy_for_this_machine()
    assert os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"
    client = httpx2.Client()
    there = client._transport_for_url(httpx2.URL("http://example.com/"))
    for host in ("127.0.0.1:8000", "localhost", "[::1]"):
        assert client._transport_for_url(httpx2.URL(f"http://{host}/")) is not there


def test_warnings_are_no_errors(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", ["ignore::UserWarning", "error"])
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::UserWarning,error")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        environment.tolerate_warnings()
        warnings.warn("an argument has another name", FutureWarning, stacklevel=1)
    assert sys.warnoptions == ["ignore::UserWarning"]
    assert os.environ["PYTHONWARNINGS"] == "ignore::UserWarning"


def restricted(command: list[str], **options) -> subprocess.CompletedProcess:
    """The command without the right to write where permissions do not allow it, which root has."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and there is no setpriv to take that right away")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *command]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def read_only(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_a_folder_and_a_home_that_cannot_be_written_to(read_only, alone, tmp_path):
    overrides, expected = alone
    env = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "HF_HOME")}
    env |= {"HOME": str(read_only), "TMPDIR": str(tmp_path / "nothing")}
    words = [word for word in overrides if not word.startswith("paths.output=")]
    shown = restricted(COMMAND, cwd=read_only, env=env)
    assert "usage: xraysynth <stage>" in shown.stdout
    refused = restricted([*COMMAND, "prepare", *words], cwd=read_only, env=env)
    assert refused.returncode == 1
    assert "outputs: Permission denied" in refused.stderr
    assert "set paths.output to a folder that you can write to" in refused.stderr
    assert "Traceback" not in refused.stderr
    output = tmp_path / "elsewhere"
    done = restricted([*COMMAND, "train", *words, f"paths.output={output}"], cwd=read_only, env=env)
    assert done.returncode == 0, done.stderr
    assert results(output) == expected


def test_a_path_that_is_too_long_is_refused_with_a_remedy(alone, tmp_path):
    overrides, _ = alone
    ended = xraysynth("prepare", *overrides, f"paths.output={tmp_path / ('a' * 300)}")
    assert ended.returncode == 1
    assert "File name too long; the name is too long for the file system" in ended.stderr
    deep = tmp_path.joinpath(*["b" * 100] * 8)
    assert xraysynth("prepare", *overrides, f"paths.output={deep}").returncode == 0


def test_paths_and_tables_are_utf8_in_any_locale(tmp_path, tiny_sd):
    folder = tmp_path / "Röntgen"
    write_cohort(folder / "cohort")
    overrides = overrides_for(folder, tiny_sd, "tracking=none")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*COMMAND, "prepare", *overrides]
    done = subprocess.run(command, env=os.environ | locale, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert results(folder / "outputs")
    refused = subprocess.run(
        [*command, f"source.table.path={folder / 'nöt here.csv'}"],
        env=os.environ | locale,
        capture_output=True,
    )
    assert "nöt here.csv" in refused.stderr.decode()


def test_a_user_without_a_home_folder_gets_one(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "/kept")
    environment.ensure_home()
    assert os.environ["HOME"] == "/kept"
    monkeypatch.setattr(Path, "home", no_home)
    environment.ensure_home()
    assert os.environ["HOME"] == tempfile.gettempdir()


def test_outputs_on_another_device(alone):
    shared_memory = Path("/dev/shm")
    if (
        not os.access(shared_memory, os.W_OK)
        or shared_memory.stat().st_dev == os.stat("/tmp").st_dev
    ):
        pytest.skip("there is no second device to write to")
    overrides, expected = alone
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        assert xraysynth("train", *overrides, f"paths.output={folder}").returncode == 0
        assert results(Path(folder)) == expected


def test_a_cache_that_cannot_be_written_to_is_named_with_its_variable(monkeypatch):
    from diffusers import DiffusionPipeline

    from xraysynth.errors import DataNotFoundError
    from xraysynth.generation.generators import _hub
    from xraysynth.generation.generators.stable_diffusion import StableDiffusion

    def download(*_, local_files_only, **__):
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        raise PermissionError(13, "Permission denied", "/home/.cache/huggingface")

    monkeypatch.setattr(_hub, "_require_hub", lambda: None)
    monkeypatch.setattr(DiffusionPipeline, "download", download)
    with pytest.raises(
        DataNotFoundError, match=r"/home/\.cache/huggingface may not be written; .*HF_HOME"
    ):
        StableDiffusion(model="owner/model", revision="a" * 40).load_pipeline(None)


def test_energy_is_measured_in_an_allocation_without_commands_of_slurm(monkeypatch, tmp_path):
    pytest.importorskip("codecarbon")
    code = (
        "from xraysynth.generation.metering import measure_resources\n"
        "with measure_resources() as meter: sum(range(10**6))\n"
        "print(meter.ledger.energy_method)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | ALLOCATION, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("processor counters", "estimated from rated power and load")


def test_a_tracker_that_could_not_start_is_no_error():
    from xraysynth.generation.metering import _stop_energy_tracker

    class NeverStarted:
        def stop(self) -> None:
            pass

    assert _stop_energy_tracker(NeverStarted()) == (None, None)
