from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_notebook_is_paired_and_holds_no_output(path):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    text, paired = jupytext.read(path), jupytext.read(path.with_suffix(".ipynb"))
    assert [cell.source for cell in text.cells] == [cell.source for cell in paired.cells]
    assert not any(cell.get("outputs") for cell in paired.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    monkeypatch.setenv("XRAYSYNTH_TOUR", str(tmp_path))
    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, timeout=280, kernel_name="python3").execute(cwd=tmp_path)
    assert (tmp_path / "studies" / "smoke" / "report.html").exists()
    shown = [o for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    assert any("image/png" in output["data"] for output in shown)
