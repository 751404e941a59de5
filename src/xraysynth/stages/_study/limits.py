"""The limits that a reader of a study's report must know of, one sentence each."""

from collections.abc import Mapping
from typing import Any

from xraysynth.config import Config
from xraysynth.data.audit import Audit
from xraysynth.generation.generators.base import FinetunableGenerator
from xraysynth.stages import train
from xraysynth.stages._study.arm_configs import ArmConfig
from xraysynth.stages._study.finished import FinishedJobs


def study_limits(config: Config, audit: Audit, jobs: FinishedJobs) -> list[str]:
    """Return every limit of the study as a sentence: of its images, intervals, generators and measures.

    docs/verdicts.md lists all of these sentences.

    Args:
        config: The study's configuration.
        audit: The audit of its cohort.
        jobs: Its finished jobs.
    """
    return [
        *_cohort_limits(config, audit),
        _interval_coverage_limit(jobs),
        *_changed_pool_limits(jobs),
        *_unknown_finetuning_limits(jobs),
        *_encoder_limits(config),
        *_partial_cohort_limits(jobs),
    ]


def _cohort_limits(config: Config, audit: Audit) -> list[str]:
    """Return the limits that come from the real images: simulated, confounded, or without patients."""
    limits = []
    if audit.simulated:
        limits.append(
            "The images called real here are simulated: projections of one chest CT with findings added. "
            "Nothing on this page says how good a generator is for real patients."
        )
    for sentence in audit.acknowledged:
        limits.append(f"Confounded: {sentence}.")
    limits += audit.notes
    if config.missing_patient_id.value == "cluster":
        limits.append(
            "Each image without a patient id counts as a patient of its own unless it is a near-duplicate."
        )
    return limits


def _interval_coverage_limit(jobs: FinishedJobs) -> str:
    """Say what intervals cover, by the finished seeds, which may be fewer than the study has."""
    seed_counts = {arm.title: len(trainings) for arm, trainings in jobs.arms}
    fewest, most = min(seed_counts.values()), max(seed_counts.values())
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    sentence = f"{count} training {'seed' if most == 1 else 'seeds'} finished per arm; "
    if most == 1:
        return sentence + (
            "intervals cover the choice of test patients only, not the choice of training seed, training "
            "images or pool seed, so no arm is called better or worse."
        )
    sentence += (
        "intervals cover the choice of test patients and training seeds, not the choice of training "
        "images or pool seed"
    )
    single_seed_arms = [title for title, number in seed_counts.items() if number == 1]
    if single_seed_arms:
        sentence += f"; those of {', '.join(single_seed_arms)} cover test patients only"
    return f"{sentence}."


def _changed_pool_limits(jobs: FinishedJobs) -> list[str]:
    """Name the arms whose trainings saw different images of a pool, which has grown in between.

    The seeds of an arm are compared with each other and with those of its permuted control, because
    all of these take the same images.
    """
    titles: dict[tuple[Any, ...], str] = {}
    digests_by_mix: dict[tuple[Any, ...], list[Mapping[str, str]]] = {}
    for arm, trainings in jobs.arms:
        mix = _mix_of(arm)
        titles.setdefault(mix, arm.title)
        digests = digests_by_mix.setdefault(mix, [])
        for job in trainings.values():
            pool_digests = train.trained_pool_digests(job)
            if pool_digests:
                digests.append(pool_digests)
    changed_arms = []
    for mix, digests in digests_by_mix.items():
        if digests and digests.count(digests[0]) < len(digests):
            changed_arms.append(titles[mix])
    if not changed_arms:
        return []
    return [
        f"The trainings of {', '.join(changed_arms)} saw different images of a pool, because images were "
        "added to it in between; run the study again to train them all on the same images."
    ]


def _mix_of(arm: ArmConfig) -> tuple[Any, ...]:
    """Return the settings that decide which images of a pool an arm takes."""
    data = arm.config.data
    return arm.generator, data.synthetic_fraction, data.mode, data.real_fraction


def _unknown_finetuning_limits(jobs: FinishedJobs) -> list[str]:
    """Name the generators that were fine-tuned elsewhere, without a record of the images."""
    limits = []
    for finished_pool in jobs.pools:
        generator = finished_pool.generator
        if isinstance(generator, FinetunableGenerator) and generator.learning_record() is None:
            limits.append(
                f"What {generator.name} was fine-tuned on is not recorded; it may have seen test images."
            )
    return limits


def _encoder_limits(config: Config) -> list[str]:
    """Say that published values are not comparable, if all encoders are the project's own."""
    if not set(config.evaluate.encoders) <= {"classifier", "embedded"}:
        return []
    return [
        "Fidelity is measured with the study's own classifier and with the embedded autoencoder; this "
        "is not FID and cannot be compared with published values."
    ]


def _partial_cohort_limits(jobs: FinishedJobs) -> list[str]:
    """Name the generators that saw more real images than arms of a smaller real fraction did."""
    fractions = [arm.config.data.real_fraction for arm, _ in jobs.arms]
    if min(fractions) == 1:
        return []
    limits = []
    for finished_pool in jobs.pools:
        if finished_pool.finetune_job is not None:
            limits.append(
                f"{finished_pool.generator.name} was fine-tuned on the whole train split, also for arms "
                "whose classifier is trained on a part of it."
            )
    return limits
