"""The line on why a study stopped to add seeds, and the seeds of each arm on the page."""

from dataclasses import replace

import pytest

from xraysynth.report import page
from xraysynth.report.content import Content
from xraysynth.report.seeds_until import KnownDifference, SeedsUntil
from xraysynth.report.views.design import design_section


def known(
    half_width: float, patients_half_width: float = 0.01, arm: str = "lora"
) -> KnownDifference:
    return KnownDifference(arm, "real only", 11, half_width, patients_half_width, 400)


def ended(*differences: KnownDifference, complete: bool = True) -> SeedsUntil:
    return SeedsUntil(0.05, 20, 269, 329, differences, complete)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (
            ended(known(0.03), known(0.048)),
            "stopped at 11 seeds of lora, where the widest interval is ±0.048 (lora against real only)",
        ),
        (
            ended(known(0.06), known(0.07), known(0.04)),
            "study.most_seeds=20 reached: ±0.070 (lora against real only), and 1 more are too wide",
        ),
        (
            ended(known(0.08, 0.061)),
            "patients: ±0.061 (lora against real only) whatever the seeds; ±0.05 takes about 400 test "
            "patients (489 images) instead of 269 (329)",
        ),
        (ended(), "no arm makes a claim, so that no seed was added"),
        (
            ended(complete=False),
            "not every training is done; then seeds are added until ±0.05",
        ),
    ],
)
def test_one_line_says_why_no_more_seeds_were_added(end: SeedsUntil, says: str) -> None:
    assert end.describe() == says


def test_both_limits_are_named_where_both_are_met() -> None:
    text = ended(known(0.06), known(0.07, 0.06, "sd")).describe()
    assert text.startswith("study.most_seeds=20 reached: ±0.060 (lora")
    assert "; patients: ±0.060 (sd" in text


def test_arms_get_the_names_of_the_page() -> None:
    named = ended(known(0.04)).with_names({"lora": "lora 50%", "real only": "real"})
    assert "lora 50% against real)" in named.describe()


def test_the_page_lists_the_seeds_of_each_arm(content: Content) -> None:
    more = replace(content.arms[1], seeds=[0, 1, 2, 3, 4])
    arms = [replace(content.arms[0], seeds=[0, 1, 2]), more]
    design = design_section(arms, content.classes, [], ended(known(0.04)))
    assert design.seeds == "3–5 per arm"
    assert not design.has_unfinished_seeds
    assert design.seeds_of_arms == [f"0, 1, 2: {arms[0].name}", f"0, 1, 2, 3, 4: {more.name}"]
    assert "stopped at 11 seeds" in design.end_of_seeds
    alike = design_section(arms[:1], content.classes, [], ended(known(0.04)))
    assert alike.seeds == "3 per arm"
    fixed = design_section(arms, content.classes, [])
    assert (fixed.seeds, fixed.end_of_seeds) == ("0, 1, 2, 3, 4", "")
    assert fixed.has_unfinished_seeds
    text = page.render(replace(content, seeds_until=ended(known(0.04))))
    assert "stopped at 11 seeds of lora, where the widest interval is ±0.040" in text
    assert "stopped at" not in page.render(content)
