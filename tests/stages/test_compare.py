"""Arms of a study compared: over all seeds that are finished, and each claim by its own difference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_job import FinishedJob

from xraysynth import compose
from xraysynth.report import verdicts
from xraysynth.report.content import Comparison
from xraysynth.stages._study import arm_configs, arms, real_data_equivalent, tested_arm
from xraysynth.training.recipe import Control

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
N = 160
SKILL = 1.2


def predict(skill: float, seed: int) -> pd.DataFrame:
    """One training's predictions of the same 160 images of 80 patients."""
    targets = np.arange(N) % 4
    logits = np.random.default_rng(seed).normal(size=(N, 4)) + skill * np.eye(4)[targets]
    raised = np.exp(logits)
    table = pd.DataFrame(raised / raised.sum(1, keepdims=True), columns=[f"p_{c}" for c in CLASSES])
    labels = np.array(CLASSES)[targets]
    return table.assign(
        label=labels, source="s", patient_id=[f"{n % 4}-{n // 8}" for n in range(N)]
    )


def study(
    *,
    shares: Sequence[float] = (0, 0.5),
    skills: Mapping[str, float] | None = None,
    seeds: Mapping[str, Sequence[int]] | None = None,
    noise: float = 0.05,
) -> tuple[arms.Scorer, list[tested_arm.TestedArm]]:
    """Arms with the given skills and finished seeds, by title; the others are all alike."""
    listed = ",".join(map(str, shares))
    overrides = ["generator=archive", "generator.archive.folder=none", "study.seeds=[0,1,2]"]
    config = compose(
        [*overrides, f"study.synthetic_fractions=[{listed}]", "evaluate.replicates=200"]
    )
    tested = []
    rng = np.random.default_rng(1)
    for place, arm in enumerate(arm_configs.build_arms(config, None)):  # type: ignore[arg-type]
        tables, jobs = [], {}
        for seed in (seeds or {}).get(arm.title, (0, 1, 2)):
            skill = (skills or {}).get(arm.title, SKILL) + noise * rng.normal()
            tables.append(predict(skill, 1000 * place + seed))
            jobs[seed] = FinishedJob()
        tested.append(tested_arm.TestedArm(arm, jobs, tables))  # type: ignore[arg-type]
    return arms.Scorer(config, tested), tested


def compared(
    scorer: arms.Scorer, tested: Sequence[tested_arm.TestedArm]
) -> dict[str, arms.ArmComparisons]:
    found = arms.compare_all(scorer, tested)
    return {one.arm_config.title: c for one, c in zip(tested, found, strict=True)}


def word(comparison: Comparison) -> str:
    return verdicts.classify_difference(
        comparison.differences.get(arms.PRIMARY_METRIC), p_holm=comparison.p_holm
    )


HYBRID, PERMUTED = "archive 0.5 replace", "archive 0.5 replace, labels permuted"
DUPLICATE = "duplicate 0.5 replace"


def test_an_arm_is_compared_with_real_only_its_duplicates_and_its_permuted_self() -> None:
    skills = {HYBRID: 3.0, PERMUTED: 0.4, DUPLICATE: 1.2}
    scorer, tested = study(skills=skills)
    found = compared(scorer, tested)[HYBRID]
    assert word(found.over_real) == word(found.over_duplicates) == verdicts.BETTER
    assert word(found.over_permuted) == verdicts.BETTER
    assert found.over_permuted.seeds == [0, 1, 2]
    by_title = {one.arm_config.title: scorer.resample_arm(one) for one in tested}
    expected = by_title[HYBRID].difference_to(by_title[PERMUTED])[arms.PRIMARY_METRIC]
    assert found.over_permuted.differences[arms.PRIMARY_METRIC] == expected


def test_labels_matter_only_by_arm_minus_permuted() -> None:
    """Both lose against real only, with their labels and without: nothing is shown of the labels."""
    found = compared(*study(skills={HYBRID: 0.3, PERMUTED: 0.3, "real only": 3.0}))[HYBRID]
    assert word(found.over_real) == verdicts.WORSE
    assert word(found.over_permuted) == verdicts.NO_DIFFERENCE


def test_controls_have_numbers_and_no_claims() -> None:
    found = compared(*study(skills={DUPLICATE: 4.0, PERMUTED: -1.0}))
    for title in (DUPLICATE, PERMUTED):
        assert found[title].over_real.differences
        assert found[title].over_real.p_holm is None
        assert word(found[title].over_real) == verdicts.NOT_COMPARED


@pytest.mark.parametrize("finished", [{HYBRID: (1,)}, {"real only": (1,)}])
def test_one_finished_seed_of_either_arm_shows_no_difference(
    finished: Mapping[str, Sequence[int]],
) -> None:
    found = compared(*study(skills={HYBRID: 4.0}, seeds=finished))[HYBRID].over_real
    gain = found.differences[arms.PRIMARY_METRIC]
    assert gain.low > 0  # over patients alone
    assert found.seeds == [1]
    assert (found.p, found.p_holm, word(found)) == (None, None, verdicts.NOT_COMPARED)


def test_arms_are_compared_over_all_their_seeds() -> None:
    scorer, tested = study(seeds={HYBRID: (2, 1), "real only": (0, 1, 2, 5)})
    found = compared(scorer, tested)[HYBRID].over_real
    assert found.seeds == [2, 1]
    means = {}
    for one in tested:
        scores = scorer.resample_arm(one).run_values(arms.PRIMARY_METRIC)
        means[one.arm_config.title] = scores.mean()
    expected = means[HYBRID] - means["real only"]
    assert found.differences[arms.PRIMARY_METRIC].value == pytest.approx(expected)
    apart = compared(*study(seeds={HYBRID: (3, 4)}))[HYBRID].over_real
    assert apart.differences[arms.PRIMARY_METRIC].low < apart.differences[arms.PRIMARY_METRIC].high
    assert apart.p is not None


def test_a_small_difference_is_equivalent_within_a_wide_margin_alone() -> None:
    scorer, tested = study(noise=0.0)
    margins = {0.5: (0.0, 0.05), 0.001: (0.05, 1.0)}
    for margin, (low, high) in margins.items():
        config = compose([f"study.equivalence_margin={margin}", "evaluate.replicates=200"])
        found = compared(arms.Scorer(config, tested), tested)[HYBRID].over_real
        assert found.margin == margin
        assert low <= found.p_equivalent <= high
    found = compared(scorer, tested)[HYBRID].over_real
    assert (found.margin, found.p_equivalent) == (None, None)
    gain = found.differences[arms.PRIMARY_METRIC]
    assert found.detectable > (gain.high - gain.low) / 2


def test_seeds_spread_is_summarised_by_size_of_the_training_set() -> None:
    scorer, _ = study()
    (spread,) = scorer.spread_of_seeds()
    assert (spread.arms, spread.runs) == (4, 12)
    assert 0 < spread.sd < 0.1


def test_every_kind_of_claim_is_adjusted_over_its_own_arms() -> None:
    shares = (0, 0.25, 0.5, 0.75)
    titles = [f"archive {share} replace" for share in shares[1:]]
    found = compared(*study(shares=shares, noise=0.3))
    for kind in ("over_real", "over_duplicates"):
        raw = sorted(getattr(found[title], kind).p for title in titles)
        adjusted = sorted(getattr(found[title], kind).p_holm for title in titles)
        assert adjusted[0] == pytest.approx(min(1, 3 * raw[0]))
    only = [f for f in found.values() if f.over_permuted.p is not None]
    assert len(only) == 1
    assert only[0].over_permuted.p_holm == only[0].over_permuted.p


def test_a_gain_is_found_among_forty_arms() -> None:
    shares = [round(0.02 * n, 2) for n in range(41)]
    gaining = "archive 0.5 replace"
    skills = {gaining: 3.5}
    found = compared(*study(shares=shares, skills=skills, noise=0.0))
    claims = {
        title: word(c.over_real) for title, c in found.items() if c.over_real.p_holm is not None
    }
    assert len(claims) == 40
    assert claims[gaining] == verdicts.BETTER


def test_patients_who_are_one_person_are_drawn_together() -> None:
    """Forty pairs of patients who share near-duplicates: half as many people, and wider intervals."""
    scorer, tested = study()
    linked = [(f"s/{c}-{2 * n}", f"s/{c}-{2 * n + 1}") for c in range(4) for n in range(10)]
    apart = scorer.resample_arm(tested[0])
    config = compose(["evaluate.replicates=200"])
    together = arms.Scorer(config, tested, linked_patients=linked).resample_arm(tested[0])
    assert (apart.patient_counts[""], together.patient_counts[""]) == (80, 40)
    assert (
        apart.means_and_deviations["macro_f1"][0][0]
        == together.means_and_deviations["macro_f1"][0][0]
    )


def test_what_a_synthetic_image_is_worth_needs_two_seeds_of_arm_and_curve() -> None:
    scorer, tested = study(seeds={HYBRID: (1,)})
    assert (
        real_data_equivalent.compute_real_data_equivalents(scorer, tested, _as_arms(scorer, tested))
        == []
    )


def _as_arms(scorer: arms.Scorer, tested: Sequence[tested_arm.TestedArm]) -> list[Any]:
    """Arms of the report, with sizes that make a learning curve."""
    found = []
    for place, one in enumerate(tested):
        jobs = {seed: FinishedJob(40 + 60 * (place == 0)) for seed in one.jobs}
        fake = tested_arm.TestedArm(one.arm_config, jobs, one.predictions)  # type: ignore[arg-type]
        nothing = arms.ArmComparisons(Comparison(), Comparison(), Comparison())
        found.append(arms.build_arm(scorer, fake, nothing))
    return found


def test_worth_is_read_over_all_seeds_of_arm_and_curve() -> None:
    scorer, tested = study(seeds={HYBRID: (0, 2)})
    shown = _as_arms(scorer, tested)
    rows = real_data_equivalent.compute_real_data_equivalents(scorer, tested, shown)
    assert [row.arm for row in rows] == [
        arm.name for arm in shown if arm.generator and not arm.control
    ]
    assert tested[0].data.control is Control.none
