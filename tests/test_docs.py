"""What the documents say can be typed, and the files they name are there."""

import re
import shlex
from pathlib import Path

import pytest

from xraysynth import compose
from xraysynth.cli import ARGUMENTS, STAGES, parse_command
from xraysynth.config import list_group_options
from xraysynth.stages.inspect import parse_arguments

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("experiments/*/README.md")),
]


def commands():
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("xraysynth "):
                    yield line.split("#")[0].strip()


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_composes(command):
    stage, overrides = parse_command(shlex.split(command)[1:])
    assert stage.split()[0] in STAGES
    if stage in ARGUMENTS:
        overrides = parse_arguments(overrides).overrides
    if "-m" in overrides:
        overrides.remove("-m")
        overrides = [re.sub(r"=(?:\w+\()?([^,\[]*),.*", r"=\1", text) for text in overrides]
    chosen = [text for text in overrides if text.startswith("hydra/")]
    assert all((ROOT / "conf" / f"{text.replace('=', '/')}.yaml").exists() for text in chosen)
    compose([text for text in overrides if not text.startswith("hydra")])


def test_the_readme_names_every_source_preset_and_generator():
    text = (ROOT / "README.md").read_text()
    missing = [
        n for g in ("source", "generator") for n in list_group_options(g) if f"`{n}`" not in text
    ]
    assert not missing


def test_files_named_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text().split("```")[1]
    names = re.findall(r"(?<![\w./])([a-z_]+\.py|[a-z]+/)", text)
    source = ROOT / "src" / "xraysynth"
    places = [ROOT, source, *(folder for folder in source.iterdir() if folder.is_dir())]
    missing = [
        n for n in names if n != "base.py" and not any((place / n).exists() for place in places)
    ]
    assert len(names) > 20
    assert not [n for n in missing if n != "xraysynth/"]


def test_no_document_or_source_speaks_of_its_making():
    banned = re.compile(
        r"\bissue #?\d|/(?:work|root)/|sub-?agent|shared/(?:design|reference)", re.I
    )
    tracked = [p for pattern in ("*.md", "*.py", "*.yaml", "*.toml") for p in ROOT.rglob(pattern)]
    own = [p for p in tracked if not {".venv", "outputs", "build"} & set(p.relative_to(ROOT).parts)]
    found = [str(p) for p in own if p.name != "test_docs.py" and banned.search(p.read_text())]
    assert len(own) > 50
    assert not found


def test_the_lock_names_no_registry():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert all("==" in line for line in text.splitlines() if line and line[0].isalnum())


def test_the_readme_leads_to_how_a_vulnerability_is_reported():
    assert "[SECURITY.md](SECURITY.md)" in (ROOT / "README.md").read_text()
    text = (ROOT / "SECURITY.md").read_text()
    for heading in ("What is trusted", "What is not trusted", "Secrets", "How to report"):
        assert f"\n## {heading}\n" in text
    for promise in ("tables and manifests", "answers of an images API", "in a CSV", "in a page"):
        assert promise in text
