"""Imports point one way, and heavy libraries stay out of what a config check must import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xraysynth

ROOT = Path(xraysynth.__file__).parent
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
PLUGINS = ("data.sources", "generation.generators", "evaluation.encoders")
SIBLINGS = {
    "generation.generators.sd_lora": {"generation.generators.stable_diffusion"},
    "evaluation.encoders": {"evaluation.encoders.identity", "evaluation.encoders.weights"},
}
HEAVY = {"torch", "diffusers", "transformers", "openai", "wandb", "timm", "pytorch_lightning"}


HYDRA = {
    *(
        "config",
        "composition",
        "config_store",
        "experiment_files",
        "hydra_values",
        "plugin_classes",
        "quoting",
    ),
    *("cli", "launch", "jobs.launchers"),
}


def imports(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name):
    found = {
        i.removeprefix("xraysynth.") for i in imports(MODULES[name]) if i.startswith("xraysynth.")
    }
    return {i for i in found if i in MODULES}


def breaches():
    """Every import that a plug-in or a package may not make, as "module imports module"."""
    for name in MODULES:
        package = next((p for p in PLUGINS if name.startswith(f"{p}.")), None)
        if package:
            siblings = {
                i
                for i in own(name)
                if i.startswith(f"{package}.") and not i.rpartition(".")[2].startswith("_")
            }
            allowed = {f"{package}.base", name} | SIBLINGS.get(name, SIBLINGS.get(package, set()))
            yield from (f"{name} imports {i}" for i in siblings - allowed)
        outside = {i.split(".")[0] for i in imports(MODULES[name])}
        if outside & {"hydra", "omegaconf"} and name not in HYDRA:
            yield f"{name} imports Hydra"
        if "wandb" in outside and not name.startswith("tracking"):
            yield f"{name} imports wandb"


def lint(config):
    from importlinter.cli import lint_imports

    return lint_imports(config_filename=str(config), no_cache=True)


def test_packages_import_each_other_in_the_order_of_the_data():
    """As pyproject.toml has it."""
    assert lint(PYPROJECT) == 0


def test_an_import_against_that_order_is_found(tmp_path):
    ordered = '"composition",\n  "overrides",\n'
    swapped = '"overrides",\n  "composition",\n'
    wrong = PYPROJECT.read_text().replace(ordered, swapped)
    (tmp_path / "pyproject.toml").write_text(wrong)
    assert lint(tmp_path / "pyproject.toml") == 1


def test_imports_point_one_way():
    assert list(breaches()) == []


def test_a_wrong_import_is_found(monkeypatch, tmp_path):
    wrong = tmp_path / "folder.py"
    wrong.write_text("from xraysynth.data.sources import table\nimport wandb\nimport hydra\n")
    monkeypatch.setitem(MODULES, "data.sources.folder", wrong)
    found = "\n".join(breaches())
    assert "data.sources.folder imports data.sources.table" in found
    assert "data.sources.folder imports wandb" in found
    assert "data.sources.folder imports Hydra" in found


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith(PLUGINS[:2])])
def test_plugins_import_heavy_libraries_only_where_used(name):
    top = {i.split(".")[0] for i in imports(MODULES[name], top_level_only=True)}
    assert not top & HEAVY


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith(PLUGINS[2])])
def test_encoders_import_what_they_wrap_only_where_used(name):
    wrapped = HEAVY - {"torch"} | {"torch_fidelity", "torchxrayvision", "huggingface_hub"}
    top = {i.split(".")[0] for i in imports(MODULES[name], top_level_only=True)}
    assert not top & wrapped


def test_the_names_of_the_encoders_are_known_without_any_heavy_library():
    code = (
        "import sys; from xraysynth.evaluation.encoders import NAMES; assert NAMES; "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_composing_a_configuration_loads_no_heavy_library():
    code = (
        "import sys; from xraysynth import compose; compose(); "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_wrong_option_is_refused_before_even_pandas_is_there():
    code = (
        "import sys\nfrom xraysynth import compose\n"
        "try: compose(['trainer.max_step=3'])\n"
        "except Exception as e: print(e, 'pandas' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did you mean 'trainer.max_steps'? False" in found.stdout


def test_there_is_no_drawer():
    assert not {"utils", "core", "common", "helpers"} & {
        part for n in MODULES for part in n.split(".")
    }
