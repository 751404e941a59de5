"""What a reader of a study's report must know of its limits, in sentences."""

from collections.abc import Mapping
from typing import Any

from xraysynth.config import Config
from xraysynth.data.audit import Audit
from xraysynth.generation.generators.base import FinetunableGenerator
from xraysynth.stages import train
from xraysynth.stages._study.finished import FinishedJobs


def _interval_coverage_limit(jobs: FinishedJobs) -> str:
    """By the seeds that are finished, which may be fewer than the study asks for."""
    finished = {arm.title: len(seeds) for arm, seeds in jobs.arms}
    fewest, most = min(finished.values()), max(finished.values())
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    sentence = f"{count} training {'seed' if most == 1 else 'seeds'} finished per arm; "
    if most == 1:
        return sentence + (
            "intervals cover the choice of test patients alone, not that of the seed, of the training "
            "images or of the pool's seed, so no arm is called better or worse."
        )
    sentence += (
        "intervals cover the choice of test patients and of seeds, not that of the training images or "
        "of the pool's seed"
    )
    if single := [title for title, number in finished.items() if number == 1]:
        sentence += f"; those of {', '.join(single)} cover patients alone"
    return f"{sentence}."


def _changed_pool_limits(jobs: FinishedJobs) -> list[str]:
    """Arms whose trainings saw different images of one pool, as when some were made later.

    Compared are the seeds of an arm, and the arm with its permuted control, which take the same images.
    """
    contents: dict[tuple[Any, ...], list[Mapping[str, str]]] = {}
    titles: dict[tuple[Any, ...], str] = {}
    for arm, trained in jobs.arms:
        data = arm.config.data
        place = (arm.generator, data.synthetic_fraction, data.mode, data.real_fraction)
        titles.setdefault(place, arm.title)
        known = [used for job in trained.values() if (used := train.trained_pool_digests(job))]
        contents.setdefault(place, []).extend(known)
    torn = [titles[place] for place, seen in contents.items() if any(s != seen[0] for s in seen)]
    if not torn:
        return []
    return [
        f"The trainings of {', '.join(torn)} saw different images of a pool, to which some were added "
        "between them; run the study again to train all on the same."
    ]


def study_limits(config: Config, audit: Audit, jobs: FinishedJobs) -> list[str]:
    """Every limit of the study, a sentence each."""
    limits = []
    if audit.simulated:
        limits.append(
            "The images called real here are simulated: projections of one chest CT with findings put in. "
            "Nothing on this page says how well a generator serves real patients."
        )
    limits += [f"Confounded: {sentence}." for sentence in audit.acknowledged]
    limits += list(audit.notes)
    if config.missing_patient_id.value == "cluster":
        limits.append(
            "Images without a patient id count as one patient each unless they are near duplicates."
        )
    limits.append(_interval_coverage_limit(jobs))
    limits += _changed_pool_limits(jobs)
    limits += [
        f"What {p.generator.name} was fine-tuned on is not recorded; it may have seen test images."
        for p in jobs.pools
        if isinstance(p.generator, FinetunableGenerator) and p.generator.learning_record() is None
    ]
    if set(config.evaluate.encoders) <= {"classifier", "embedded"}:
        limits.append(
            "Fidelity is measured with the study's own classifier and with the embedded autoencoder; this "
            "is no FID and cannot be compared with published values."
        )
    if any(arm.config.data.real_fraction < 1 for arm, _ in jobs.arms):
        limits += [
            f"{p.generator.name} was fine-tuned on the whole train split, also for the arms that train their "
            "classifier on a part of it."
            for p in jobs.pools
            if p.finetune_job
        ]
    return limits
