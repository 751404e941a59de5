"""kill -9 in the middle of `xraysynth generate`, and a restart."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from small_study import overrides_for, write_cohort

COMMAND = [sys.executable, "-c", "from xraysynth.cli import main; main()", "generate"]


def start(folder: Path, model: Path) -> "subprocess.Popen[bytes]":
    overrides = overrides_for(folder, model, "generate.per_class=24", "tracking=none")
    overrides = [text.replace("steps=1", "steps=6") for text in overrides]
    return subprocess.Popen([*COMMAND, *overrides], stdout=subprocess.DEVNULL)


def lines(folder: Path) -> list[str]:
    return [
        line for p in folder.rglob("pools/*/journal/*.jsonl") for line in p.read_text().splitlines()
    ]


def pool(folder: Path) -> dict[str, bytes]:
    (place,) = (folder / "outputs" / "pools").iterdir()
    kept = [*place.glob("images/*.png"), place / "manifest.parquet", place / "store.json"]
    return {path.name: path.read_bytes() for path in kept}


def test_a_killed_generation_goes_on_and_gives_the_same_bytes(tmp_path, tiny_sd):
    for name in ("killed", "whole"):
        write_cohort(tmp_path / name / "cohort")
    process = start(tmp_path / "killed", tiny_sd)
    deadline = time.monotonic() + 120
    while len(lines(tmp_path / "killed")) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(lines(tmp_path / "killed")) < 96
    assert start(tmp_path / "killed", tiny_sd).wait() == 0
    assert start(tmp_path / "whole", tiny_sd).wait() == 0
    assert pool(tmp_path / "killed") == pool(tmp_path / "whole")
    assert len(lines(tmp_path / "killed")) == 96
