"""The studies of the experiments are what their documents say, and so are their numbers."""

import re
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from xraysynth import compose
from xraysynth.data.sources.simulated import Simulated
from xraysynth.data.splits import assign_splits
from xraysynth.records import to_json

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
STUDIES = ("ratio_ablation", "generator_comparison", "low_data", "hyperparameters")
NUMBER = r"([+−-]?\d+\.\d{2,})"
INTERVAL = re.compile(rf"{NUMBER}\*{{0,2}} \[{NUMBER}, {NUMBER}\]")


@pytest.fixture
def scripts(monkeypatch):
    """The scripts beside the experiments can be imported."""
    for folder in ("", "hyperparameters", "low_data", "null_machine"):
        monkeypatch.syspath_prepend(str(EXPERIMENTS / folder))
    yield
    for name in ("figure", "main_effects", "collect", "simulate"):
        sys.modules.pop(name, None)


def readme(study):
    return (EXPERIMENTS / study / "README.md").read_text()


def intervals(text):
    """Every value with its interval, and how many decimals it has."""
    for found in INTERVAL.finditer(text):
        numbers = tuple(float(number.replace("−", "-")) for number in found.groups())
        yield numbers, len(found[1].split(".")[1])


def measured(study):
    """Every value with its interval in the tables of an experiment."""
    for path in sorted((EXPERIMENTS / study).glob("*.csv")):
        table = pd.read_csv(path)
        for ends in (("value", "low", "high"), ("difference", "difference_low", "difference_high")):
            if set(ends) <= set(table.columns):
                yield from table[list(ends)].dropna().itertuples(index=False, name=None)


@pytest.mark.parametrize("study", STUDIES)
def test_every_interval_of_a_readme_is_in_its_tables(study):
    known = list(measured(study))
    rows = [line for line in readme(study).splitlines() if line.startswith("|")]
    quoted = list(intervals("\n".join(rows)))
    assert len(quoted) > 5

    def there(numbers, decimals):
        off = 0.51 * 10**-decimals
        return any(
            all(abs(a - b) < off for a, b in zip(numbers, row, strict=True)) for row in known
        )

    assert not [numbers for numbers, decimals in quoted if not there(numbers, decimals)]


def test_an_interval_that_was_changed_would_be_missed():
    ((numbers, decimals),) = intervals("**+0.143** [−0.038, 0.255] of 3")
    assert numbers == (0.143, -0.038, 0.255)
    assert decimals == 3


@pytest.mark.parametrize("study", STUDIES)
def test_a_readme_has_the_command_for_here_for_a_gpu_and_for_public_images(study):
    commands = " ".join(re.findall(r"```sh\n(.*?)```", readme(study), re.S))
    assert f"xraysynth study experiment={study}" in commands
    assert "size_px=512" in commands
    assert re.search(r"\bsource=\[?(montgomery|rsna_pneumonia|kermany)", commands)
    assert "simulated" in "\n".join(readme(study).splitlines()[:8]).lower()


@pytest.mark.parametrize("study", STUDIES)
def test_figures_that_a_readme_shows_are_small_svgs(study):
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme(study))
    assert shown
    for name in shown:
        path = EXPERIMENTS / study / name
        assert path.stat().st_size < 200_000
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_generators_of_the_factorial_are_what_their_names_say():
    found = compose(["experiment=hyperparameters"]).generators()
    for (rank, steps, guidance), name in zip(
        product((4, 16), (80, 250), (1, 3)), sorted(found, key=_numbers), strict=True
    ):
        one = found[name]
        assert _numbers(name) == [rank, steps, guidance]
        assert (one.lora.rank, one.lora.steps, one.guidance) == (rank, steps, guidance)
        assert one.lora.alpha == rank  # the strength stays


def _numbers(name):
    return [int(number) for number in re.findall(r"\d+", name)]


def test_the_compared_generators_share_a_lora_that_is_one_of_the_factorial():
    factorial = compose(["experiment=hyperparameters"]).generators()
    recipe = to_json(factorial["rank16_steps250_guidance3"].lora)
    compared = compose(["experiment=generator_comparison"]).generators()
    drawing = {"sd_lora": (20, 3.0), "sd_lora_4_steps": (4, 3.0), "sd_lora_unguided": (20, 1.0)}
    for name, (steps, guidance) in drawing.items():
        one = compared[name]
        assert to_json(one.lora) == recipe
        assert (one.steps, one.guidance, one.scale) == (steps, guidance, 1.0)


def test_the_lora_of_low_data_has_the_recipe_that_its_readme_names():
    factorial = compose(["experiment=hyperparameters"]).generators()
    (one,) = compose(["experiment=low_data"]).generators().values()
    assert to_json(one.lora) == to_json(factorial["rank16_steps250_guidance3"].lora)
    assert (one.steps, one.guidance, one.scale) == (20, 3.0, 1.0)


def test_tuned_and_untuned_images_are_drawn_alike_by_default():
    found = compose(["experiment=quickstart"]).generators()
    untuned, tuned = found["stable_diffusion"], found["sd_lora"]
    for option in ("steps", "guidance", "scheduler", "batch_size"):
        assert getattr(untuned, option) == getattr(tuned, option)


def test_the_smaller_train_split_of_low_data_leaves_the_test_images_as_they_are():
    rows = Simulated(patients_per_class=120).rows()
    groups = rows["source"] + "/" + rows["patient_id"]

    def split(val_fraction):
        fractions = {"val": val_fraction, "test": 0.55}
        names = assign_splits(rows["label"], groups, fractions=fractions, seed=0)
        return {name: set(rows["image_id"][names == name]) for name in ("train", "test")}

    whole, third = split(0.15), split(0.351)
    assert whole["test"] == third["test"]
    assert third["train"] < whole["train"]
    assert (len(third["train"]), len(whole["train"])) == (59, 179)


def test_main_effects_are_those_that_were_put_in(scripts):
    from main_effects import effects, settings

    names = [f"rank{r}_steps{s}_guidance{g}" for r, s, g in product((4, 16), (80, 250), (1, 3))]
    levels = settings(pd.Index(names))
    noise = 0.01 * levels.prod(axis=1) * 8  # the highest interaction: in no main effect
    found = effects(5 + 2 * levels["rank"] - levels["steps"] + noise, levels)
    assert found["value"].round(6).to_list() == [2, -1, 0]
    assert found.loc["guidance", "low"] < 0 < found.loc["guidance", "high"]
    assert found.loc["steps", "high"] < 0
    with pytest.raises(SystemExit, match="two levels"):
        settings(pd.Index(names[:-1]))


def test_the_figures_of_a_table_say_that_it_is_simulated(scripts):
    from figure import arms, draw, read, standalone

    found = arms(read(EXPERIMENTS / "quickstart" / "results.csv"))
    assert len(found) == 8
    (_, svg), *_ = draw("differences", found)
    assert "sd_lora only" in svg
    text = standalone(svg, simulated=True)
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert ">simulated<" in text
    assert "simulated" not in standalone(svg, simulated=False)
    assert "--ink: #" in text


def test_a_study_of_one_seed_claims_nothing_and_planted_effects_are_found(scripts):
    import simulate

    one_seed = replace(simulate.NULL_STUDIES[0], gain=3.0)
    assert set(simulate.training_claims(one_seed, 0).values()) == {0.0}
    planted = replace(simulate.PLANTED_STUDIES[1], gain=2.0)
    claims = simulate.training_claims(planted, 0)
    assert claims["better than real only"] == claims["the labels matter"] == 1
    assert claims["worse than real only"] == 0
    copied = replace(simulate.PLANTED_POOLS[2], copied=0.3, per_class=40)
    assert simulate.image_claims(copied, 0)["copies"] == 1
