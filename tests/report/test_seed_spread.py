"""One line says how much seeds differ, and how intervals use it."""

import math
from dataclasses import replace

import pytest

from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
from xraysynth.report.seed_spread import describe_spread_of_seeds

SPREAD = SpreadOfSeeds(8, 40, sd=0.0314, weight=0.6, p=0.3, images=(90, 100, 90))


def test_one_group_is_one_sentence():
    assert describe_spread_of_seeds([SPREAD]) == (
        "Between seeds: sd 0.031 over 40 trainings of 8 arms of 90 to 100 images, whose common variance "
        "counts for 60% and their own for the rest (Smyth 2004), with no sign that the arms differ in it "
        "(Bartlett p = 0.3)."
    )


def test_every_group_has_its_clause_and_an_arm_alone_its_own_variance():
    alone = SpreadOfSeeds(1, 3, sd=0.05, weight=0.0, p=math.nan, images=(30,))
    assert describe_spread_of_seeds([alone, SPREAD]).startswith(
        "Between seeds, in groups of arms of about as many training images: sd 0.050 over 3 trainings of "
        "1 arm of 30 images, which has its own variance alone; sd 0.031 over 40 trainings of 8 arms"
    )


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0004, "with signs that the arms differ in it (Bartlett p < 0.001)."),
        (0.02, "with signs that the arms differ in it (Bartlett p = 0.02)."),
        (0.05, "with no sign that the arms differ in it (Bartlett p = 0.05)."),
        (math.nan, "and their own for the rest (Smyth 2004)."),
    ],
)
def test_it_says_whether_arms_differ(p, words):
    assert describe_spread_of_seeds([replace(SPREAD, p=p)]).endswith(words)


def test_without_several_seeds_there_is_nothing_to_say():
    assert describe_spread_of_seeds([]) == ""
