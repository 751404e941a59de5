"""Every remedy that a message prints can be pasted: the command that failed works with it.

A case is a command that fails, the file of the message, a part of it, and the options that the message
tells to set; each is pasted from the message itself. A test lists the messages of the code that name an
option or a command, and holds that each has a case here, a test elsewhere, or a reason.
"""

import shlex
import shutil
from dataclasses import dataclass

import pytest
from command import Ended, xraysynth
from small_study import overrides_for


@dataclass(frozen=True)
class Case:
    """A command that fails with a remedy.

    Attributes:
        file: The module of the message.
        says: A part of the message, as it is in the code.
        command: The stage, and the options that it fails with.
        remedies: The options of each remedy, as the message prints them, or the beginning of a command that
            it prints; each remedy is enough.
    """

    file: str
    says: str
    command: str
    remedies: tuple[str, ...]


CASES = [
    Case(
        "training/recipe.py",
        "is a control of synthetic images",
        "train data.synthetic_fraction=0 data.control=permuted",
        ("data.synthetic_fraction=0.5", "data.control=none"),
    ),
    Case(
        "training/recipe.py",
        "trains on nothing but the real images",
        "train data.synthetic_fraction=0.5 data.control=duplicate data.mode=pretrain",
        ("data.mode=add", "data.mode=replace"),
    ),
    Case(
        "training/recipe.py",
        "data.control=duplicate repeats real images",
        "train data.synthetic_fraction=1 data.control=duplicate",
        ("data.synthetic_fraction=0.5",),
    ),
    Case(
        "training/recipe.py",
        "takes out as many images as leaving a data set out",
        "train data.synthetic_fraction=0 data.control=size_matched",
        ("data.control=none",),
    ),
    Case(
        "training/recipe.py",
        "is an arm of real images only",
        "train data.synthetic_fraction=0.5 data.control=size_matched",
        ("data.control=none",),
    ),
    Case(
        "training/mixing.py",
        "leaves no real image with data.mode",
        "train data.synthetic_fraction=1 data.mode=add",
        ("data.mode=replace", "data.synthetic_fraction=0.5"),
    ),
    Case(
        "training/mixing.py",
        "is no data set of this cohort",
        "train data.synthetic_fraction=0 data.leave_out=nih",
        ("data.leave_out=",),
    ),
    Case(
        "stages/_workspace.py",
        "make the other images with: ",
        "train data.synthetic_fraction=0.5 generate.seed=5",
        ("xraysynth generate",),
    ),
    Case(
        "generation/generators/_engines.py",
        "but torch sees no GPU",
        "generate generate.seed=6 generator.stable_diffusion.device=cuda",
        ("generator.stable_diffusion.device=auto", "generator.stable_diffusion.device=cpu"),
    ),
]


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory, tiny_sd):
    """The words of commands on a finished study in a folder of its own."""
    folder = tmp_path_factory.mktemp("remedies") / "study"
    shutil.copytree(finished[0], folder)
    return overrides_for(folder, tiny_sd)


def with_overrides(words: list[str], *more: str) -> list[str]:
    """The words with options set anew; of one that is given twice the last value stays."""
    options = {}
    for word in (*words, *more):
        options[word.partition("=")[0].lstrip("+")] = word
    return list(options.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.says[:40]}")
def test_a_remedy_works_as_it_is_printed(study, case):
    stage, *options = case.command.split()
    words = with_overrides(study, *options)
    failed = xraysynth(stage, *words)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    for remedy in case.remedies:
        ended = try_remedy(stage, words, failed.stderr, remedy)
        assert ended.returncode == 0, f"{remedy}: {ended.stderr[-2000:]}"


def try_remedy(stage: str, words: list[str], message: str, remedy: str) -> Ended:
    """Run the command that the message prints, or the failed one with the options that it prints.

    A command that then lacks images is told how to make them: that remedy is run too.
    """
    if remedy.startswith("xraysynth "):
        run_printed(message, remedy)
        return xraysynth(stage, *words)
    pasted = remedy.split()
    for option in pasted:
        assert option in message
    words = with_overrides(words, *pasted)
    ended = xraysynth(stage, *words)
    if "xraysynth generate " in ended.stderr:
        return try_remedy(stage, words, ended.stderr, "xraysynth generate ")
    return ended


def run_printed(message: str, command: str) -> None:
    """Run a command that ends the message, as a shell would take it."""
    _, stage, *words = shlex.split(message[message.index(command) :])
    ended = xraysynth(stage, *words)
    assert ended.returncode == 0, ended.stderr
