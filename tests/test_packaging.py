import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import xraysynth

ROOT = Path(__file__).resolve().parents[1]


def declared():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_the_list_of_packages_equals_the_folders():
    folders = {p.parent for p in (ROOT / "src").rglob("__init__.py")}
    names = {".".join(p.relative_to(ROOT / "src").parts) for p in folders} | {"xraysynth.conf"}
    assert set(declared()["packages"]) == names


def test_the_citation_names_this_version_and_title():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == xraysynth.__version__
    assert citation["title"] == f"{project['name']}: {project['description']}"
    assert citation["license"] == project["license"]


def test_every_folder_with_code_is_a_package():
    folders = {p.parent for p in (ROOT / "src").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from the sdist, so that both are complete."""
    build = pytest.importorskip("build", reason="the package build is not installed")
    folder = tmp_path_factory.mktemp("dist")
    builder = build.ProjectBuilder(ROOT)
    sdist = builder.build("sdist", folder)
    import tarfile

    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return Path(build.ProjectBuilder(source).build("wheel", folder))


def test_the_wheel_holds_configuration_page_and_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [
        f"xraysynth/conf/{p.relative_to(ROOT / 'conf').as_posix()}"
        for p in (ROOT / "conf").rglob("*.yaml")
    ]
    files = [p for p in (ROOT / "src" / "xraysynth").rglob("*") if p.is_file()]
    files = [p for p in files if p.suffix != ".pyc" and ".ruff_cache" not in p.parts]
    wanted += [p.relative_to(ROOT / "src").as_posix() for p in files]
    assert len(wanted) > 60
    assert set(wanted) <= names


def test_the_installed_wheel_runs_from_another_folder(wheel, tmp_path):
    """Unpacked beside nothing else, it finds its configuration and prints help and errors."""
    import os
    import subprocess
    import sys

    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import xraysynth; print(xraysynth.__file__); from xraysynth import compose; "
    code += "print(compose(['experiment=quickstart']).study.name)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert found.returncode == 0, found.stderr
    place, name = found.stdout.split()
    assert place.startswith(str(tmp_path))
    assert name == "quickstart"
