"""The arms of a study scored on the same test images and compared: gains, controls, what images are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xraysynth.config import Config
from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import TrainResult, is_meaningful
from xraysynth.evaluation.metrics.arm_probes import ArmProbes
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.jobs.job import Job
from xraysynth.report.content import Arm, Comparison
from xraysynth.stages import train
from xraysynth.stages._study import plan
from xraysynth.training.recipe import Control, DataRecipe, MixMode

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.classification import Resampled

PRIMARY = "macro_f1"
"""The score that arms are compared by."""


def predictions(job: Job, name: str = train.PREDICTIONS) -> pd.DataFrame:
    """What a training job predicted of the study's test images, or of the external ones."""
    return pd.read_parquet(job.folder / name)


@dataclass(frozen=True)
class Tested:
    """An arm of the study, its finished jobs and what they predicted, one table per seed."""

    config: plan.ArmConfig
    jobs: Mapping[int, Job]
    tables: Sequence[pd.DataFrame]

    @classmethod
    def of(cls, config: plan.ArmConfig, jobs: Mapping[int, Job]) -> "Tested":
        """The arm with the predictions of its jobs."""
        return cls(config, jobs, [predictions(job) for job in jobs.values()])

    @property
    def results(self) -> list[TrainResult]:
        """What each training came to."""
        return [job.record().result_as(TrainResult) for job in self.jobs.values()]

    @property
    def generator(self) -> str:
        """Name of the generator whose images it sees; empty where there are none."""
        return next(iter(self.config.config.generators())) if self.config.generator else ""

    @property
    def data(self) -> DataRecipe:
        """What it was trained on."""
        return self.config.config.data

    @property
    def real_only(self) -> bool:
        """True for the arms that others are compared with."""
        return not self.data.synthetic_fraction and not self.data.leave_out

    @property
    def of_interest(self) -> bool:
        """True for arms that see a generator's images under their own labels."""
        return bool(self.generator) and self.data.control is Control.none

    def is_permuted_of(self, other: "Tested") -> bool:
        """True when this arm is the other with the labels of its synthetic images permuted."""
        mine, its = self.data, other.data
        same_generator = self.generator == other.generator
        return same_generator and mine == replace(its, control=Control.permuted)

    def is_control_of(self, other: "Tested") -> bool:
        """True when this arm has repeats of real images where the other has synthetic ones."""
        mine, its = self.data, other.data
        alike = (mine.synthetic_fraction, mine.real_fraction) == (
            its.synthetic_fraction,
            its.real_fraction,
        )
        # Synthetic images that come first, or on top, have the same control.
        modes = (mine.mode is MixMode.replace) == (its.mode is MixMode.replace)
        return mine.control is Control.duplicate and alike and modes


class Scorer:
    """Scores of arms on the study's test images, all on the same drawn patients.

    `linked` are the patients who are one person, as the audit of the cohort says: drawn as one.
    """

    def __init__(
        self,
        config: Config,
        tested: Sequence[Tested],
        *,
        linked: Sequence[Sequence[str]] = (),
    ) -> None:
        self._classes, self._replicates = config.classes, config.evaluate.replicates
        self._tested, self._linked = tested, linked
        self._known: dict[int, Resampled] = {}

    def resampled(self, tested: Tested) -> "Resampled":
        """Scores of the arm under every draw of patients, worked out once."""
        if id(tested) not in self._known:
            self._known[id(tested)] = self.of(tested.tables)
        return self._known[id(tested)]

    def of(self, tables: Sequence[pd.DataFrame]) -> "Resampled":
        """The same of some predictions, one table per seed."""
        from xraysynth.evaluation.metrics.classification import Resampled

        columns = [f"p_{name}" for name in self._classes]
        runs = [table[columns].to_numpy() for table in tables]
        targets = pd.Categorical(tables[0]["label"], categories=self._classes).codes.astype(int)
        patients = person_keys(tables[0], self._linked)
        options: dict[str, Any] = {"classes": self._classes, "replicates": self._replicates}
        return Resampled.of(runs, targets, patients, **options)

    def told(self, tables: Sequence[pd.DataFrame]) -> dict[str, Interval]:
        """Scores of predictions where some classes may be missing: those that can be told."""
        labels = set(tables[0]["label"])
        found = self.of(tables).scores().items()
        return {name: s for name, s in found if is_meaningful(name, labels, self._classes)}

    def reference(self, tested: Tested) -> Tested | None:
        """The real-only arm with the same real images, for arms that add synthetic ones."""
        if tested.real_only:
            return None
        fraction = tested.data.real_fraction
        same = [t for t in self._tested if t.real_only and t.data.real_fraction == fraction]
        return same[0] if same else None

    def duplicates(self, tested: Tested) -> Tested | None:
        """Its duplicate control, for arms that mix real and synthetic images."""
        if tested.data.control is not Control.none or not 0 < tested.data.synthetic_fraction < 1:
            return None
        return next((t for t in self._tested if t.is_control_of(tested)), None)

    def permuted(self, tested: Tested) -> Tested | None:
        """The same arm with permuted labels."""
        if not tested.of_interest:
            return None
        return next((t for t in self._tested if t.is_permuted_of(tested)), None)

    def of_seeds(self, tested: Tested, seeds: Sequence[int]) -> "Resampled":
        """Scores of the arm by some of its seeds, in this order."""
        places = list(tested.jobs)
        return self.resampled(tested).select_runs([places.index(seed) for seed in seeds])

    def compare(self, tested: Tested, other: Tested | None) -> Comparison:
        """The arm minus another, by the seeds that both have finished."""
        if other is None:
            return Comparison()
        seeds = shared_seeds([tested, other])
        if not seeds:
            return Comparison()
        own, reference = (self.of_seeds(one, seeds) for one in (tested, other))
        return Comparison(own.minus(reference), seeds, own.p_value(reference, PRIMARY))


def shared_seeds(arms: Sequence[Tested]) -> list[int]:
    """Training seeds that all of these arms have finished."""
    return [seed for seed in arms[0].jobs if all(seed in arm.jobs for arm in arms)]


@dataclass(frozen=True)
class Compared:
    """One arm minus all that it is compared with."""

    over_real: Comparison
    over_duplicates: Comparison
    over_permuted: Comparison


def compare_all(scorer: Scorer, tested: Sequence[Tested]) -> list[Compared]:
    """Every arm's comparisons, their p-values adjusted after Holm, each kind over the whole study.

    Controls, and arms that leave a data set out, are compared by number alone: nothing is claimed of
    them, so they are in no family.
    """
    families = [
        [scorer.compare(one, other(one)) for one in tested]
        for other in (scorer.reference, scorer.duplicates, scorer.permuted)
    ]
    claimed = [one.of_interest and not one.data.leave_out for one in tested]
    adjusted = [_adjust(family, claimed) for family in families]
    return [Compared(*kinds) for kinds in zip(*adjusted, strict=True)]


def _adjust(family: Sequence[Comparison], claimed: Sequence[bool]) -> list[Comparison]:
    """The comparisons with adjusted p-values, where something is claimed."""
    from xraysynth.evaluation.metrics.statistics import holm

    p_values = {
        str(place): comparison.p
        for place, comparison in enumerate(family)
        if comparison.p is not None and np.isfinite(comparison.p) and claimed[place]
    }
    adjusted = holm(p_values)
    return [
        replace(comparison, p_holm=adjusted.get(str(place)))
        for place, comparison in enumerate(family)
    ]


def arm(scorer: Scorer, tested: Tested, compared: Compared) -> Arm:
    """The arm as the report shows it."""
    data, results = tested.data, tested.results
    probes = [result.probes or ArmProbes() for result in results]
    return Arm(
        generator=tested.generator,
        synthetic_fraction=data.synthetic_fraction,
        mode=data.mode.value,
        control="" if data.control is Control.none else data.control.value,
        real_fraction=data.real_fraction,
        left_out=data.leave_out,
        seeds=list(tested.jobs),
        real_images=results[0].real_images,
        synthetic_images=results[0].synthetic_images,
        real_repeats=results[0].real_repeats,
        predictions=tested.tables,
        scores=scorer.resampled(tested).scores(),
        over_real=compared.over_real,
        over_duplicates=compared.over_duplicates,
        over_permuted=compared.over_permuted,
        errors_removed=_errors_removed(scorer, tested, compared.over_real),
        external=_external(scorer, tested),
        told_synthetic=[found.told_synthetic for found in probes if found.told_synthetic],
        pointing=[found.pointing.comparable for found in probes if found.pointing],
        scores_by_seed=[
            {name: score.value for name, score in result.scores.items()} for result in results
        ],
        seconds=[job.record().seconds or 0.0 for job in tested.jobs.values()],
        optimiser_steps=[result.optimiser_steps for result in results],
    )


def _errors_removed(scorer: Scorer, tested: Tested, over_real: Comparison) -> Interval | None:
    """The gain as a share of what the real-only arm lacks to 1."""
    from xraysynth.evaluation.metrics.statistics import errors_removed

    reference = scorer.reference(tested)
    if reference is None or PRIMARY not in over_real.differences:
        return None
    score = scorer.of_seeds(reference, over_real.seeds).levels[PRIMARY][0][0]
    return errors_removed(over_real.differences[PRIMARY], reference=float(score))


def _external(scorer: Scorer, tested: Tested) -> dict[str, dict[str, Interval]]:
    """Scores on every external data set."""
    jobs = list(tested.jobs.values())
    if not all((job.folder / train.EXTERNAL).exists() for job in jobs):
        return {}
    tables = [predictions(job, train.EXTERNAL) for job in jobs]
    return {
        source: scorer.told([table[table["source"] == source] for table in tables])
        for source in sorted(set(tables[0]["source"]))
    }
