"""A finished study with one file damaged at a time: made again to the same numbers, or refused by name.

Whatever reads the files is removed before, so that the study has to use them: reports, measures and one
training. Of the images of a folder two are damaged, and of all other files each.
"""

import csv
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.errors import XraysynthError
from xraysynth.launch import _explain_os_error
from xraysynth.stages import Workspace, study

pytestmark = pytest.mark.slow

REMEDIES = ("run", "delete", "remove", "made again by", "restore")

IMAGES_PER_FOLDER = 2

SAMPLE = os.environ.get("XRAYSYNTH_FAULTS")
"""Number of faults to try, drawn at random; all of them by default."""


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
    """Every file, but of images some of each folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".lock", ".png"):
            found.append(path.relative_to(folder))
    for images in sorted(folder.rglob("images")):
        found += [path.relative_to(folder) for path in sorted(images.iterdir())[:IMAGES_PER_FOLDER]]
    return [path for path in found if path.name != ".lock"]


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


def faults(outputs: Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    cases = [(path, damage) for path in files_below(outputs) for damage in DAMAGES]
    return iter(random.Random(0).sample(cases, int(SAMPLE)) if SAMPLE else cases)


def outcome(workspace: Workspace) -> tuple[bool, str]:
    """Whether the study ended well, and what it said otherwise."""
    try:
        result = study.run(workspace)
    except XraysynthError as error:
        return False, str(error)
    except OSError as error:  # as the command line says it
        return False, str(_explain_os_error(error))
    return result["state"] == "done", "\n".join(result["failures"])


def test_no_damaged_file_is_used_in_silence(tmp_path, workspace):
    outputs, pristine = tmp_path / "outputs", tmp_path / "pristine"
    study.run(workspace())
    expected = tables(outputs)
    shutil.copytree(outputs, pristine)
    wrong = []
    for path, damage in faults(pristine):
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
        if is_done and tables(outputs) != expected:
            wrong.append(f"{case}: other numbers")
        elif not is_done and not (path.name in message and any(r in message for r in REMEDIES)):
            wrong.append(f"{case}: {message}")
    assert not wrong, "\n".join(wrong)
