"""The command line as a user types it: results, errors, exit codes."""

import json
import subprocess
import sys

import pytest
from command import xraysynth

from xraysynth.usage import stage_help

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()"]


def test_help_lists_the_stages():
    found = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True)
    assert found.returncode == 0
    for stage in ("prepare", "generate", "train", "evaluate", "study", "report"):
        assert f"\n  {stage} " in found.stdout


def test_the_help_of_fine_tuning_explains_the_recipe_and_tells_numbers_from_truths():
    found = stage_help("finetune")
    assert "generator.<key>.lora.rank=16" in found
    assert "generator.<key>.lora.patience=0" in found
    assert "generator.<key>.lora.variants=1" in found
    assert "generator.<key>.lora.per_class=false" in found


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['xraysynth', '--help']; from xraysynth.cli import main; main(); "
    )
    code += "print([m for m in ('torch', 'hydra', 'pandas', 'numpy', 'yaml') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_stage_explains_itself():
    found = xraysynth("train", "--help")
    assert found.returncode == 0
    assert "data.synthetic_fraction" in found.stdout
    assert "synthetic fraction" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["studdy"], "did you mean 'study'"),
        (["train", "sede=1"], "did you mean 'seed'"),
        (["train", "+sede=1"], "did you mean 'seed'"),
        (["train", "-m", "sede=1,2"], "did you mean 'seed'"),
        (["train", "source.simulated.sede=1"], "did you mean 'source.simulated.seed'"),
        (["generate", "generator=stable_difusion"], "did you mean 'stable_diffusion'"),
        (["train", "seed"], "seed"),
    ],
)
def test_a_misspelt_word_is_refused_with_the_nearest_right_one(tmp_path, arguments, message):
    found = xraysynth(*arguments, cwd=tmp_path)
    assert found.returncode != 0
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "outputs" / "prepare").exists()


def test_a_renamed_option_warns_with_the_line_to_write(tmp_path):
    wrong = xraysynth("train", "data.share=0.5", "trainer.max_steps=x", cwd=tmp_path)
    assert wrong.stderr.splitlines()[0] == (
        "xraysynth: warning: data.share=0.5 is deprecated and stops working in the next version; "
        "write data.synthetic_fraction=0.5"
    )
    twice = xraysynth("train", "data.share=0.5", "data.synthetic_fraction=0.5", cwd=tmp_path)
    assert twice.returncode == 2
    assert "both are given; remove data.share" in twice.stderr


def test_all_wrong_options_are_named_at_once(tmp_path):
    words = [
        "trainer.max_steps=x",
        "data.synthetic_fraction=2",
        "sede=1",
        "generator=sd_loar",
        "source=tabel",
    ]
    found = xraysynth("train", *words, cwd=tmp_path)
    assert found.returncode == 2
    assert "xraysynth: error (configuration): 5 options are wrong:\n" in found.stderr
    for name in (
        "trainer.max_steps",
        "data.synthetic_fraction",
        "'sede'",
        "generator=sd_loar",
        "source=tabel",
    ):
        assert name in found.stderr
    assert len(found.stderr.splitlines()) == 6


def test_prepare_ends_in_one_json_line_and_leaves_a_run_file(tmp_path, table_of_images):
    arguments = ["source=table", f"source.table.path={table_of_images}", "size_px=32"]
    found = xraysynth("prepare", *arguments, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["state"] == "done"
    assert result["images"] == 96
    assert "96/96" in found.stderr  # progress
    record = json.loads((tmp_path / result["folder"] / "run.json").read_text())
    assert record["overrides"] == arguments
    assert record["config"]["size_px"] == 32
    assert record["state"] == "done"
    assert {"seconds", "peak_memory_mb", "environment", "identity"} <= record.keys()
    again = json.loads(xraysynth("prepare", *arguments, cwd=tmp_path).stdout)
    assert again["skipped"]
    assert again["digest"] == result["digest"]


def test_the_command_runs_from_any_folder_and_prints_no_machine_path_in_errors(tmp_path):
    command = [*COMMAND, "prepare", "source=kermany"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    assert "data/" in found.stderr
    assert "kaggle" in found.stderr.lower() or "mendeley" in found.stderr.lower()


def test_a_multirun_runs_every_job(tmp_path, table_of_images):
    base = ["source=table", f"source.table.path={table_of_images}"]
    found = xraysynth("prepare", "-m", *base, "size_px=24,32", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    results = [json.loads(line) for line in found.stdout.splitlines()]
    assert len({result["folder"] for result in results}) == 2


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, table_of_images):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    arguments = [
        "source=table",
        f"source.table.path={table_of_images}",
        f"paths.output={blocked}/x",
    ]
    found = xraysynth("prepare", *arguments, cwd=tmp_path)
    assert found.returncode == 1
    assert str(blocked) in found.stderr
    assert "Traceback" not in found.stderr
