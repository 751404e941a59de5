"""Imports point one way, and heavy libraries stay out of what a config check must import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xraysynth

ROOT = Path(xraysynth.__file__).parent
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
BASE = {"errors", "seeds", "records"}
PURE = {
    "manifest": BASE,
    "prompts": BASE,
    "splits": BASE,
    "mixing": BASE | {"manifest", "recipes"},
    "audit": BASE | {"manifest", "images"},
}
SIBLINGS = {
    "generators.sd_lora": {"generators.stable_diffusion"},
    "encoders": {"encoders.weights"},
}
HEAVY = {"torch", "diffusers", "transformers", "openai", "wandb", "timm", "pytorch_lightning"}


HYDRA = {"config", "cli", "launch", "launchers"}


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
    """Every import that the house forbids, as "module imports module"."""
    for name in MODULES:
        package = name.split(".")[0]
        allowed = None
        if name in BASE:
            allowed = BASE
        elif name in PURE:
            allowed = PURE[name]
        if allowed is not None:
            yield from (f"{name} imports {i}" for i in own(name) - allowed)
        if package in ("sources", "generators", "encoders"):
            siblings = {
                i
                for i in own(name)
                if i.startswith(f"{package}.") and not i.split(".")[1].startswith("_")
            }
            allowed = {f"{package}.base", name} | SIBLINGS.get(name, SIBLINGS.get(package, set()))
            yield from (f"{name} imports {i}" for i in siblings - allowed)
        if package != "stages" and name not in ("cli", "launch"):
            yield from (f"{name} imports {i}" for i in own(name) if i.startswith("stages"))
        if name == "classifier" or package == "lora":
            yield from (f"{name} imports {i}" for i in own(name) & {"data", "mixing"})
        outside = {i.split(".")[0] for i in imports(MODULES[name])}
        if outside & {"hydra", "omegaconf"} and name not in HYDRA:
            yield f"{name} imports Hydra"
        if "wandb" in outside and package != "tracking":
            yield f"{name} imports wandb"


def test_imports_point_one_way():
    assert list(breaches()) == []


def test_a_wrong_import_is_found(monkeypatch, tmp_path):
    wrong = tmp_path / "splits.py"
    wrong.write_text("from xraysynth.stages import train\nimport wandb\n")
    monkeypatch.setitem(MODULES, "splits", wrong)
    found = "\n".join(breaches())
    assert "splits imports stages" in found
    assert "splits imports wandb" in found


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith(("sources", "generators"))])
def test_plugins_import_heavy_libraries_only_where_used(name):
    top = {i.split(".")[0] for i in imports(MODULES[name], top_level_only=True)}
    assert not top & HEAVY


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("encoders")])
def test_encoders_import_what_they_wrap_only_where_used(name):
    wrapped = HEAVY - {"torch"} | {"torch_fidelity", "torchxrayvision", "huggingface_hub"}
    top = {i.split(".")[0] for i in imports(MODULES[name], top_level_only=True)}
    assert not top & wrapped


def test_the_names_of_the_encoders_are_known_without_any_heavy_library():
    code = (
        "import sys; from xraysynth.encoders import NAMES; assert NAMES; "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_composing_a_configuration_loads_no_heavy_library():
    code = (
        "import sys; from xraysynth.config import compose; compose(); "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_wrong_option_is_refused_before_even_pandas_is_there():
    code = (
        "import sys\nfrom xraysynth.config import compose\n"
        "try: compose(['trainer.max_step=3'])\n"
        "except Exception as e: print(e, 'pandas' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did you mean 'trainer.max_steps'? False" in found.stdout


def test_there_is_no_drawer():
    assert not {"utils", "core", "common", "helpers"} & {
        part for n in MODULES for part in n.split(".")
    }
