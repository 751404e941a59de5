"""A finished study with one file damaged at a time: made again to the same bytes, or refused by name.

Whatever reads the files is removed before, so that the study has to use them: reports, measures and one
training. A file that a finished study no longer needs may stay damaged, if all others have their bytes.
"""

import csv
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_study import HOLD_TIMES, overrides_for, write_cohort

from xraysynth import compose
from xraysynth.errors import XraysynthError
from xraysynth.launch import _explain_os_error
from xraysynth.stages import Workspace, study

pytestmark = pytest.mark.slow

REMEDIES = ("run", "delete", "remove", "made again by", "restore")

SAMPLE = os.environ.get("XRAYSYNTH_FAULTS")
"""Number of faults to try, drawn at random; all of them by default."""

PARTS = 4
"""Tests among which the faults are divided, which processes can run side by side."""


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()  # root may read every file


DAMAGES = (flip, cut, empty, delete, make_unreadable)


@pytest.fixture
def workspace(tmp_path: Path, tiny_sd: Path) -> Callable[[], Workspace]:
    write_cohort(tmp_path / "cohort")
    overrides = overrides_for(
        tmp_path,
        tiny_sd,
        "tracking=none",
        "generator=[stable_diffusion,sd_lora]",
        f"generator.sd_lora.model={tiny_sd}",
        "generator.sd_lora.steps=1",
        "generator.sd_lora.lora.steps=2",
        "generator.sd_lora.lora.per_class=false",
    )
    return lambda: Workspace(compose(overrides), overrides)


def files_below(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock":
            found.append(path.relative_to(folder))
    return found


def contents(folder: Path) -> dict[Path, bytes]:
    found = {}
    for path in files_below(folder):
        is_file = (folder / path).is_file()
        found[path] = (folder / path).read_bytes() if is_file else b""
    return found


def remove_what_reads(outputs: Path, path: Path) -> None:
    """Removes measures, reports and a training, but not what is to be damaged."""
    trainings = sorted(outputs.glob("train/*"))
    for folder in (*outputs.glob("report/*"), *outputs.glob("evaluate/*"), trainings[-1]):
        if folder not in (outputs / path).parents:
            shutil.rmtree(folder)


def tables(outputs: Path) -> dict[str, list[dict[str, str]]]:
    """The numbers of a report, but for times."""
    found = {}
    for name in ("results.csv", "measures.csv"):
        rows = csv.DictReader((outputs / "studies" / "study" / name).read_text().splitlines())
        found[name] = [
            row for row in rows if "second" not in str(row) and "per_hour" not in str(row)
        ]
    return found


def faults(outputs: Path, part: int) -> list[tuple[Path, Callable[[Path], None]]]:
    cases = [(path, damage) for path in files_below(outputs) for damage in DAMAGES]
    if SAMPLE:
        cases = random.Random(0).sample(cases, int(SAMPLE))
    return cases[part::PARTS]


def outcome(workspace: Workspace) -> tuple[bool, str]:
    """Whether the study ended well, and what it said otherwise."""
    try:
        result = study.run(workspace)
    except XraysynthError as error:
        return False, str(error)
    except OSError as error:  # as the command line says it
        return False, str(_explain_os_error(error))
    return result["state"] == "done", "\n".join(result["failures"])


def changed_files(outputs: Path, expected: dict[Path, bytes], has_times: set[Path]) -> set[Path]:
    """The files without times that are missing or have other bytes than expected."""
    found = contents(outputs)
    return {p for p in expected if p not in has_times and found.get(p) != expected[p]}


@pytest.mark.timeout(0)  # each part takes half an hour, and hours on a busy machine
@pytest.mark.parametrize("part", range(PARTS))
def test_no_damaged_file_is_used_in_silence(tmp_path, workspace, part):
    outputs, pristine = tmp_path / "outputs", tmp_path / "pristine"
    study.run(workspace())
    first = contents(outputs)
    shutil.rmtree(outputs)
    study.run(workspace())
    expected, expected_tables = contents(outputs), tables(outputs)
    has_times = {p for p in expected if p.name in HOLD_TIMES or first[p] != expected[p]}
    shutil.copytree(outputs, pristine)
    wrong, unused = [], []
    for path, damage in faults(pristine, part):
        shutil.rmtree(outputs)
        shutil.copytree(pristine, outputs)
        remove_what_reads(outputs, path)
        damage(outputs / path)
        case = f"{damage.__name__} {path}"
        try:
            is_done, message = outcome(workspace())
        except Exception as error:
            wrong.append(f"{case}: {type(error).__name__}: {error}")
            continue
        if not is_done:
            if not (path.name in message and any(r in message for r in REMEDIES)):
                wrong.append(f"{case}: {message}")
            continue
        changed = changed_files(outputs, expected, has_times)
        if changed == {path}:
            unused.append(case)
        elif changed:
            wrong.append(f"{case}: other bytes of {', '.join(map(str, changed))}")
        if tables(outputs) != expected_tables:
            wrong.append(f"{case}: other numbers")
    print(
        f"{len(faults(pristine, part))} faults; {len(unused)} files stay damaged unread:",
        *unused,
        sep="\n",
    )
    assert not wrong, "\n".join(wrong)
