"""Every answer of CONTRIBUTING to "where is …" names a file that exists, and names defined in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "xraysynth"
QUESTIONS = (
    *("contamination check", "seed of an image", "new metric", "price of a model"),
    *("order of a study's jobs", "colour of an arm", "text of a help page", "makes a job done"),
    *("patient's split", "a retry", "verdict sentence", "two processes share a training"),
)


def answers() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("# Where is", 1)[1].split("\n# ", 1)[0]
    return [" ".join(entry.split()) for entry in section.split("\n- ")[1:]]


def defined(path: Path) -> set[str]:
    """Functions, classes, methods as Class.method, and constants of a module; keys of a yaml."""
    if path.suffix != ".py":
        return set(re.findall(r"^ *([\w-]+):", path.read_text(), re.M))
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = [
                n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            names |= {f"{node.name}.{name}" for name in members}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def missing(answer: str) -> list[str]:
    """Files that are not there, and names that none of the answer's files defines."""
    quoted = re.findall(r"`([^`]+)`", answer)
    paths = [SOURCE / name for name in quoted if re.search(r"\.\w+$", name) and "/" in name]
    paths += [SOURCE / name for name in quoted if re.fullmatch(r"\w+\.py", name)]
    names = [name for name in quoted if SOURCE / name not in paths]
    known = set().union(*(defined(path) for path in paths if path.is_file()))
    gone = [str(path.relative_to(SOURCE)) for path in paths if not path.is_file()]
    return gone + [name for name in names if name not in known] + ["no file"] * (not paths)


def test_the_map_names_every_module_beside_the_packages_and_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text().split("```")[1]
    modules = {path.stem for path in SOURCE.glob("[a-z]*.py")}
    (base,) = (line for line in text.splitlines() if " errors " in line)
    listed = set(re.findall(r"([a-z_]+)\.py", text)) | set(base.split("   ")[0].split())
    assert listed == modules
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"conf"}
    assert packages <= set(re.findall(r"^  ([a-z]+)/", text, re.M))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_question_is_answered(question):
    (answer,) = (text for text in answers() if question in text.split("**")[1])
    assert missing(answer) == []
    assert len(answer) < 240  # about a line


def test_an_answer_that_names_what_is_not_there_is_told():
    assert missing("**a job**: `jobs/job.py`, `Job.done`") == []
    assert missing("**a job**: `jobs/job.py`, `Job.finished`") == ["Job.finished"]
    assert missing("**a job**: `jobs/work.py`") == ["jobs/work.py"]
    assert missing("**a job**: somewhere") == ["no file"]
