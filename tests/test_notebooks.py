"""The notebooks agree with their scripts, and run from the first cell to the last on a small study."""

import shlex
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))
FIGURES = {"ablation": 2, "cohort": 2, "pools": 3}
"""Of a study with one generator."""

SAID = {
    "ablation": ["no difference shown", "4 of 4 runs; largest difference to results.parquet: 0.0"],
    "cohort": [
        "confounded: the data source alone predicts tuberculosis",
        "[(0, 0), (1, 1), (2, 2)]",
    ],
    "pools": ["FD(embedded)", "seconds_p50", "memorised share"],
}
"""What only a notebook says whose cells have found what they look for."""


def executed(notebook: Any, folder: Path) -> Any:
    """The notebook with its outputs, run in a folder; raises what a cell raises."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    options = {
        "kernel_name": "python3",
        "timeout": None,
        "startup_timeout": 900,
    }  # none but pytest's
    return nbclient.NotebookClient(notebook, **options).execute(cwd=folder)


def outputs(notebook: Any) -> tuple[int, str]:
    """How many pictures its cells show, and all that they say."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in shown]
    texts = [output.get("text", "") for output in shown if output.get("name") == "stdout"]
    texts += [found.get("text/plain", "") for found in data]
    return sum("image/png" in found for found in data), "\n".join(texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_notebook_is_paired_and_holds_no_output(path):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    text, paired = jupytext.read(path), jupytext.read(path.with_suffix(".ipynb"))
    assert [cell.source for cell in text.cells] == [cell.source for cell in paired.cells]
    assert not any(cell.get("outputs") for cell in paired.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_notebook_runs(path, copied, tmp_path, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    _, overrides = copied()
    monkeypatch.setenv("XRAYSYNTH_FOLDER", str(tmp_path))
    monkeypatch.setenv("XRAYSYNTH_OVERRIDES", shlex.join(overrides))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pictures, said = outputs(executed(jupytext.read(path), tmp_path))
    assert pictures == FIGURES[path.stem]
    assert not [text for text in SAID[path.stem] if text not in said]


def test_a_notebook_whose_cell_raises_fails(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    cell = nbformat.v4.new_code_cell("raise ValueError('broken')")
    error = pytest.importorskip("nbclient.exceptions").CellExecutionError
    with pytest.raises(error, match="raise ValueError"):
        executed(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
