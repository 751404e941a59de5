"""`xraysynth generate generator=dalle` against a loopback server: what a run leaves behind."""

import json
import os
import subprocess
import sys

import pytest
from images_server import ImagesServer, by_prompt, error_answer

KEY = "sk-stage-0123456789abcdef"
COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()", "generate"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run in which a prompt is refused and the server repeats the key in an error."""
    folder = tmp_path_factory.mktemp("run")

    def respond(body, n):
        if "woman" in body["prompt"] and n == 0:
            return error_answer(400, "moderation_blocked", f"safety_violations=[x] for {KEY}")
        return by_prompt(body, n)

    with ImagesServer(respond) as server:
        overrides = [
            "generator=dalle",
            f"generator.dalle.base_url={server.address}",
            "generator.dalle.budget_usd=1",
            "generate.per_class=3",
            "tracking=offline",
            f"paths.output={folder / 'outputs'}",
        ]
        environment = os.environ | {"OPENAI_API_KEY": KEY, "WANDB_MODE": "offline"}
        found = subprocess.run(
            [*COMMAND, *overrides], capture_output=True, text=True, env=environment, cwd=folder
        )
        return folder, found, server


def test_images_refusals_and_archive_are_in_the_pool(ran):
    folder, found, server = ran
    assert found.returncode == 0, found.stderr
    outcomes = json.loads(found.stdout)["pools"]["dalle"]["outcomes"]
    totals = {}
    for of_class in outcomes.values():
        for outcome, number in of_class.items():
            totals[outcome] = totals.get(outcome, 0) + number
    assert sum(totals.values()) == 12 == len(server.images)
    assert totals["image"] >= 1
    assert totals["refused"] >= 1
    (pool,) = (folder / "outputs" / "pools").iterdir()
    assert len(list((pool / "archive").glob("*.json"))) == 12
    assert len(list((pool / "archive").glob("*.png"))) == totals["image"]


def test_the_key_is_in_no_output_of_a_run(ran):
    folder, found, server = ran
    assert server.images[0]["headers"]["authorization"] == f"Bearer {KEY}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    secret = KEY.removeprefix("sk-")
    assert [p for p in files if secret.encode() in p.read_bytes()] == []
    assert secret not in found.stdout + found.stderr


def test_without_a_key_a_run_ends_with_the_name_of_the_variable(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    overrides = ["generator=dalle", "generator.dalle.budget_usd=1", "generate.per_class=1"]
    found = subprocess.run(
        [*COMMAND, *overrides, f"paths.output={tmp_path}"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert found.returncode == 2
    assert "OPENAI_API_KEY" in found.stderr
    assert "Traceback" not in found.stderr
