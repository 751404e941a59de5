"""Commands that are killed (SIGKILL) at random moments, imports included, and started again.

The same command goes on until it is done, and every file has the bytes of a run that was not killed,
but for files that hold times.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from images_server import ImagesServer, by_prompt
from small_study import HOLD_TIMES, overrides_for, write_cohort

from xraysynth import compose
from xraysynth.generation import pool
from xraysynth.stages import Workspace

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("XRAYSYNTH_KILLS", "100"))
"""Number of kills over all commands together."""

KILLS_IN_A_ROW = 4
"""Kills of one command before it may end."""

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()"]

LORA = (
    "generator=[stable_diffusion,sd_lora]",
    "generator.sd_lora.steps=1",
    "generator.sd_lora.lora.steps=8",
    "generator.sd_lora.lora.batch_size=2",
    "generator.sd_lora.lora.rank=2",
    "generator.sd_lora.lora.per_class=false",
    "generator.sd_lora.lora.samples_per_class=0",
)

PRICE_USD, CONCURRENCY = 0.01, 4


@dataclass
class Command:
    """A command in a folder of its own, and what it starts from.

    Attributes:
        folder: The folder, whose `outputs` the command writes.
        words: The command line.
        before: The outputs that it starts from; None for none.
        whole: Outputs of a run that was not killed, without the files that hold times.
        seconds: Duration of a run that was not killed.
    """

    folder: Path
    words: list[str]
    before: Path | None = None
    whole: dict[Path, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    def reset(self) -> None:
        shutil.rmtree(self.outputs, ignore_errors=True)
        if self.before:
            shutil.copytree(self.before, self.outputs)

    def start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"OPENAI_API_KEY": "sk-test-0123456789abcdefghij"}
        log = (self.folder / "log").open("wb")
        return subprocess.Popen(
            [*COMMAND, *self.words], stdout=log, stderr=log, env=environment, cwd=self.folder
        )

    def run(self) -> int:
        code = self.start().wait()
        print(self.words[0], "ends with", code, flush=True)
        return code

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def kill_at_random(self, moments: random.Random) -> bool:
        """Start it, and kill it; whether it was still running then."""
        process = self.start()
        time.sleep(moments.uniform(0, self.seconds))
        was_running = process.poll() is None
        process.kill()
        process.wait()
        return was_running


def contents(outputs: Path) -> dict[Path, bytes]:
    found = {}
    for path in sorted(outputs.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock":
            found[path.relative_to(outputs)] = path.read_bytes()
    return found


def run_whole(command: Command) -> None:
    """Run it twice; what differs holds times."""
    found = []
    for _ in range(2):
        command.reset()
        start = time.perf_counter()
        assert command.run() == 0, command.log()
        command.seconds = time.perf_counter() - start
        found.append(contents(command.outputs))
    first, second = found
    assert first.keys() == second.keys()
    for path, data in first.items():
        if path.name not in HOLD_TIMES and data == second[path]:
            command.whole[path] = data
    assert len(command.whole) > 3


def kill_and_continue(command: Command, moments: random.Random) -> int:
    """Kill it several times in a row, let it end, and compare; the number of kills that met it."""
    command.reset()
    kills = sum(command.kill_at_random(moments) for _ in range(KILLS_IN_A_ROW))
    assert command.run() == 0, command.log()
    found = contents(command.outputs)
    changed = [path for path, data in command.whole.items() if found.get(path) != data]
    assert not changed, f"{command.words}: other bytes of {changed}"
    leftovers = [path for path in found if path.suffix in (".partial", ".tmp")]
    assert not leftovers
    return kills


def kill_often(command: Command, kills: int, seed: int) -> None:
    run_whole(command)
    moments, met = random.Random(seed), 0
    while met < kills:
        met += kill_and_continue(command, moments)
    print(f"{command.words[0]}: killed {met} times within {command.seconds:.1f} s", flush=True)


@pytest.fixture
def overrides(tmp_path: Path, tiny_sd: Path) -> list[str]:
    write_cohort(tmp_path / "cohort", per_class=16)
    lora = [*LORA, f"generator.sd_lora.model={tiny_sd}"]
    return overrides_for(tmp_path, tiny_sd, "tracking=none", "study.seeds=[0]", *lora)


@pytest.fixture
def server() -> Iterator[ImagesServer]:
    def respond(body: dict, number: int):
        answer = by_prompt(body, number)
        answer.delay = 0.05
        return answer

    with ImagesServer(respond) as running:
        yield running


def paid(overrides: list[str], server: ImagesServer, budget_usd: float) -> list[str]:
    kept = [word for word in overrides if not word.startswith("generator")]
    return [
        *kept,
        "generator=dalle",
        f"generator.dalle.base_url={server.address}",
        f"generator.dalle.price_usd_per_image={PRICE_USD}",
        f"generator.dalle.budget_usd={budget_usd}",
        f"generator.dalle.concurrency={CONCURRENCY}",
        "generate.per_class=12",
    ]


def spent_usd(overrides: list[str]) -> float:
    store = Workspace(compose(overrides), overrides).pool_store("dalle")
    return float(pool.compute_ledger(store).cost_usd) if store.folder.exists() else 0.0


def finished(command: Command, *without: str) -> Path:
    """The outputs of a study that has ended, without some folders."""
    command.reset()
    assert command.run() == 0, command.log()
    kept = command.folder / "finished"
    shutil.copytree(command.outputs, kept)
    for name in without:
        shutil.rmtree(kept / name)
    return kept


def test_a_killed_study_goes_on(tmp_path, overrides):
    kill_often(Command(tmp_path, ["study", *overrides]), KILLS * 35 // 100, seed=0)


def test_a_killed_fine_tuning_goes_on(tmp_path, overrides):
    kill_often(Command(tmp_path, ["finetune", *overrides]), KILLS * 20 // 100, seed=1)


def test_a_killed_generation_by_a_service_goes_on_and_pays_within_its_budget(
    tmp_path, overrides, server
):
    words = paid(overrides, server, budget_usd=5)
    command = Command(tmp_path, ["generate", *words])
    run_whole(command)
    moments, met = random.Random(2), 0
    while met < KILLS * 15 // 100:
        asked_before = len(server.images)
        kills = kill_and_continue(command, moments)
        asked = len(server.images) - asked_before
        # An image is paid for once; a call that was under way at a kill is asked again.
        assert 48 <= asked <= 48 + kills * CONCURRENCY
        met += kills


def test_kills_never_take_a_service_above_its_budget(tmp_path, overrides, server):
    budget_usd = 0.3
    words = paid(overrides, server, budget_usd)
    command = Command(tmp_path, ["generate", *words])
    command.reset()
    start = time.perf_counter()
    assert command.run() == 1  # 48 images cost 0.48
    command.seconds = time.perf_counter() - start
    moments, met = random.Random(3), 0
    while met < KILLS * 10 // 100:
        asked_before = len(server.images)
        command.reset()
        met += sum(command.kill_at_random(moments) for _ in range(KILLS_IN_A_ROW))
        assert command.run() == 1
        assert "budget" in command.log()
        asked_usd = (len(server.images) - asked_before) * PRICE_USD
        assert asked_usd <= budget_usd + CONCURRENCY * PRICE_USD
        assert spent_usd(words) <= budget_usd + CONCURRENCY * PRICE_USD


def test_a_killed_report_goes_on(tmp_path, overrides):
    command = Command(tmp_path, ["study", *overrides])
    kept = finished(command, "report", "studies")
    kill_often(Command(tmp_path, ["report", *overrides], kept), KILLS * 10 // 100, seed=4)


def test_a_killed_release_goes_on(tmp_path, overrides):
    words = ["release", *overrides, "source.table.license=CC BY 4.0"]
    kept = finished(Command(tmp_path, ["study", *words[1:]]))
    kill_often(Command(tmp_path, words, kept), KILLS * 10 // 100, seed=5)


def test_a_killed_study_that_adds_seeds_goes_on(tmp_path, overrides):
    more = ("study.seeds=[0,1]", "study.until=0.1", "study.most_seeds=4")
    kill_often(Command(tmp_path, ["study", *overrides, *more]), kills=10, seed=6)
