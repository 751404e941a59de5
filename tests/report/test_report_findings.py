"""Findings choose the right arm, stand beside the right control, and own up to the choice."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation.generators.base import FineTuning
from xraysynth.report import verdicts
from xraysynth.report.content import Arm, Comparison, Content, PoolResults
from xraysynth.report.findings import Finding, collect_findings


def gaining(arm: Arm, value: float, width: float = 0.01) -> Arm:
    gain = Interval(value, value - width, value + width, 48)
    return replace(arm, over_real=replace(arm.over_real, differences={"macro_f1": gain}))


def with_p(arm: Arm, p_holm: float | None) -> Arm:
    return replace(arm, over_real=replace(arm.over_real, p_holm=p_holm))


def of(content: Content, arms: Sequence[Arm] | None = None) -> Finding:
    """What was found of the first generator."""
    return collect_findings(replace(content, arms=content.arms if arms is None else arms))[0]


def test_chance_is_one_in_as_many_classes_as_the_images_have(content: Content) -> None:
    """Of two of the four classes 42 % is below chance, which is 50 %."""
    pool = content.pools[0]
    rows = [
        replace(row, value=0.42, low=0.38, high=0.46, n=200 if place < 3 else 0)
        for place, row in enumerate(pool.label_fidelity)
    ]
    found = dict(of(replace(content, pools=[replace(pool, label_fidelity=rows)])).other_verdicts)
    assert found["Label fidelity"].word == verdicts.WORSE
    assert found["Label fidelity"].sentence.endswith("worse than chance (50%)")
    one = [*rows[:2], *(replace(row, n=0) for row in rows[2:])]
    found = dict(of(replace(content, pools=[replace(pool, label_fidelity=one)])).other_verdicts)
    assert found["Label fidelity"].word == verdicts.NOT_COMPARED


@pytest.fixture
def hybrid(content: Content) -> Arm:
    return next(arm for arm in content.arms if arm.over_duplicates.differences)


@pytest.mark.parametrize(
    "change",
    [
        {"control": "permuted"},
        {"real_fraction": 0.5},
        {"control": "duplicate", "generator": ""},
        {"left_out_source": "site-a"},
    ],
)
def test_neither_a_control_nor_a_fraction_is_ever_the_headline(
    content: Content, hybrid: Arm, change: dict[str, object]
) -> None:
    huge = gaining(replace(hybrid, synthetic_fraction=0.25, **change), 0.9)
    arms = [content.arms[0], gaining(hybrid, 0.02), huge]
    assert of(content, arms).utility.sentence.startswith("stable_diffusion 50% (replace): ")
    arms[2] = gaining(replace(hybrid, synthetic_fraction=0.25), 0.9)
    assert of(content, arms).utility.sentence.startswith("stable_diffusion 25% (replace): ")


def test_a_gain_that_does_not_survive_the_adjustment_is_no_difference(
    content: Content, hybrid: Arm
) -> None:
    for p, word in ((0.01, verdicts.BETTER), (0.2, verdicts.NO_DIFFERENCE)):
        arm = with_p(gaining(hybrid, 0.05), p)
        assert of(content, [content.arms[0], arm]).utility.word == word


def test_the_largest_gain_is_chosen_and_the_choice_owned_up_to(
    content: Content, hybrid: Arm
) -> None:
    small, unknown = (
        gaining(hybrid, 0.02),
        gaining(replace(hybrid, synthetic_fraction=0.75), np.nan),
    )
    large = gaining(replace(hybrid, synthetic_fraction=0.25), 0.06)
    found = of(content, [content.arms[0], small, unknown, large])
    assert found.utility.sentence.startswith("stable_diffusion 25%")
    assert (
        "largest gain among 3: the p-value is corrected for this choice, the interval is not."
        in found.basis
    )
    assert "48 test images of 24 patients and at least 2 training seeds of each arm." in found.basis
    found = of(content, [content.arms[0], with_p(small, None), large])
    assert found.utility.sentence.startswith("stable_diffusion 25%")
    alone = of(content, [content.arms[0], small])
    assert "largest" not in alone.basis


def test_synthetic_only_is_the_headline_where_nothing_is_mixed(
    content: Content, hybrid: Arm
) -> None:
    alone = gaining(replace(hybrid, synthetic_fraction=1.0), 0.3)
    mixed = of(content, [content.arms[0], gaining(hybrid, 0.02), alone])
    assert mixed.utility.sentence.startswith("stable_diffusion 50%")
    assert dict(mixed.other_verdicts)["Synthetic only"].sentence.startswith(
        "stable_diffusion only: better than training on real images only, macro-F1 +0.300"
    )
    assert of(content, [alone]).utility.sentence.startswith("stable_diffusion only: ")


def test_the_duplicate_control_is_that_of_the_same_share_mode_and_fraction(
    content: Content, hybrid: Arm
) -> None:
    control = replace(hybrid, generator="", control="duplicate")
    right, noise = gaining(control, 0.011), gaining(control, 0.099)
    others = [
        replace(noise, synthetic_fraction=0.25),
        replace(noise, mode="add"),
        replace(noise, real_fraction=0.5),
    ]
    found = of(content, [*others, right, gaining(hybrid, 0.05)])
    assert "the duplicate control scores +0.011" in found.utility.sentence
    assert "0.099" not in found.utility.sentence
    first = gaining(replace(hybrid, mode="pretrain"), 0.05)
    found = of(content, [replace(right, mode="add"), first])
    assert "the duplicate control scores +0.011" in found.utility.sentence


def test_what_the_labels_do_stands_beside_the_arm_that_has_the_control(
    content: Content, hybrid: Arm
) -> None:
    over = Interval(0.2, 0.1, 0.3, 48)
    arm = replace(
        gaining(hybrid, 0.05),
        over_permuted=replace(hybrid.over_permuted, differences={"macro_f1": over}),
    )
    sentence = of(content, [content.arms[0], arm]).utility.sentence
    assert (
        "than permuted ones (permuted control), +0.200 [0.100, 0.300] (Holm-adjusted p = 0.030), "
        "so the labels matter" in sentence
    )
    best = replace(gaining(hybrid, 0.09), synthetic_fraction=0.25, over_permuted=Comparison())
    found = of(content, [content.arms[0], arm, best])
    assert "labels" not in found.utility.sentence
    assert dict(found.other_verdicts)["Permuted control"].sentence.startswith(
        "stable_diffusion 50% (replace): the intended labels"
    )


def test_verdicts_on_images_are_adjusted_over_the_generators(content: Content) -> None:
    """Each of two p-values of 0.03 is one alone, and none of both together."""
    measures = [replace(row, p=0.03) for row in content.pools[0].measures]
    pools = [
        replace(pool, measures=measures, not_assessable_reason="", generator=f"g{n}")
        for n, pool in enumerate((content.pools[0], content.pools[0]))
    ]
    arms = content.arms[:1]
    (alone,) = collect_findings(replace(content, arms=arms, pools=pools[:1]))
    both = collect_findings(replace(content, arms=arms, pools=pools))
    assert [dict(alone.other_verdicts)[name].word for name in ("Distance", "Memorisation")] == [
        "worse",
        "memorised",
    ]
    for found in both:
        words = [dict(found.other_verdicts)[name].word for name in ("Distance", "Memorisation")]
        assert words == ["no difference shown", "no memorisation shown"]


def test_distance_memorisation_fidelity_and_equivalent_have_a_verdict_each(
    content: Content,
) -> None:
    first, second = (dict(finding.other_verdicts) for finding in collect_findings(content))
    assert list(first) == [
        "Distance",
        "Memorisation",
        "Label fidelity",
        "Real-data equivalent",
        "Synthetic only",
    ]
    assert (
        "KD(classifier) 0.0040 [0.0036, 0.0044], baseline 0.0008; FD(" in first["Distance"].sentence
    )
    assert "FD(classifier) 40.0 [36.0, 44.0], baseline 8.0, N = 200" in first["Distance"].sentence
    assert first["Memorisation"].sentence.startswith("memorises training images: 1.3%")
    assert second["Memorisation"].sentence == "not assessable: training set unknown"
    assert "62% [55, 68] (real images: 81% [75, 86])" in first["Label fidelity"].sentence
    assert "0.3 [0.1, 0.5]" in first["Real-data equivalent"].sentence


def test_a_pool_that_nobody_trained_with_and_nobody_measured_is_a_finding_too(
    content: Content,
) -> None:
    pool = replace(content.pools[0], measures=[], label_fidelity=[], not_assessable_reason="")
    (found,) = collect_findings(replace(content, arms=content.arms[:1], pools=[pool]))
    assert found.utility == verdicts.Verdict(
        verdicts.NOT_COMPARED, "stable_diffusion: no classifier was trained on its images"
    )
    assert dict(found.other_verdicts)["Memorisation"].sentence == "not assessable: not measured"
    assert "Distance" not in dict(found.other_verdicts)


def test_a_study_of_real_images_alone_has_no_findings(content: Content) -> None:
    assert collect_findings(replace(content, arms=content.arms[:1], pools=[])) == []


def test_a_gain_over_few_real_images_says_what_the_generator_has_seen(
    content: Content, hybrid: Arm
) -> None:
    many = gaining(hybrid, 0.2)
    few = replace(many, real_fraction=0.1)
    pool = replace(content.pools[0], finetuning=FineTuning(images=400))

    def basis(arm: Arm, pool: PoolResults) -> str:
        return collect_findings(replace(content, arms=[content.arms[0], arm], pools=[pool]))[
            0
        ].basis

    assert "was fine-tuned on 400 real images" in basis(few, pool)
    assert "were trained on 10% of them: the gain does not come from these few alone." in basis(
        few, pool
    )
    assert "fine-tuned" not in basis(many, pool)
    assert "fine-tuned" not in basis(few, content.pools[0])
