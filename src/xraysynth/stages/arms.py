"""The arms of a study scored on the same test images and compared: gains, controls, what images are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xraysynth.config import Config
from xraysynth.job import Job
from xraysynth.metrics.pointing import CHANCE_OF
from xraysynth.metrics.statistics import Interval
from xraysynth.recipes import Control, DataRecipe, MixMode
from xraysynth.report.content import Arm
from xraysynth.stages import fitting, plan, train

if TYPE_CHECKING:
    from xraysynth.metrics.classification import Resampled

PRIMARY = "macro_f1"
"""The score that arms are compared by."""
LEFT_OUT_SCORE = "balanced_accuracy"
"""The score on the test images of one data set, some of whose classes may be missing."""


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
    def results(self) -> list[dict[str, Any]]:
        """What each job says of itself."""
        return [job.record()["result"] for job in self.jobs.values()]

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
        return not self.data.share and not self.data.leave_out

    def is_control_of(self, other: "Tested") -> bool:
        """True when this arm has repeats of real images where the other has synthetic ones."""
        mine, its = self.data, other.data
        alike = (mine.share, mine.real_fraction) == (its.share, its.real_fraction)
        # Synthetic images that come first, or on top, have the same control.
        modes = (mine.mode is MixMode.replace) == (its.mode is MixMode.replace)
        return mine.control is Control.duplicate and alike and modes


class Scorer:
    """Scores of arms on the study's test images, all on the same drawn patients."""

    def __init__(self, config: Config, tested: Sequence[Tested]) -> None:
        self._classes, self._replicates = config.classes, config.evaluate.replicates
        self._tested = tested
        self._known: dict[int, Resampled] = {}

    def resampled(self, tested: Tested) -> "Resampled":
        """Scores of the arm under every draw of patients, worked out once."""
        if id(tested) not in self._known:
            self._known[id(tested)] = self.of(tested.tables)
        return self._known[id(tested)]

    def of(self, tables: Sequence[pd.DataFrame]) -> "Resampled":
        """The same of some predictions, one table per seed."""
        from xraysynth.metrics.classification import Resampled

        columns = [f"p_{name}" for name in self._classes]
        runs = [table[columns].to_numpy() for table in tables]
        targets = pd.Categorical(tables[0]["label"], categories=self._classes).codes.astype(int)
        patients = train.patient_keys(tables[0])
        options: dict[str, Any] = {"classes": self._classes, "replicates": self._replicates}
        return Resampled.of(runs, targets, patients, **options)

    def told(self, tables: Sequence[pd.DataFrame]) -> dict[str, Interval]:
        """Scores of predictions where some classes may be missing: those that can be told."""
        labels = set(tables[0]["label"])
        found = self.of(tables).scores().items()
        return {name: s for name, s in found if fitting.told(name, labels, self._classes)}

    def reference(self, tested: Tested) -> Tested | None:
        """The real-only arm with the same real images, for arms that add synthetic ones."""
        if tested.real_only:
            return None
        fraction = tested.data.real_fraction
        same = [t for t in self._tested if t.real_only and t.data.real_fraction == fraction]
        return same[0] if same else None

    def control(self, tested: Tested) -> Tested | None:
        """Its duplicate control, for arms that mix real and synthetic images."""
        if tested.data.control is not Control.none or not 0 < tested.data.share < 1:
            return None
        return next((t for t in self._tested if t.is_control_of(tested)), None)


def arm(scorer: Scorer, tested: Tested, p_holm: float | None) -> Arm:
    """The arm as the report shows it."""
    from xraysynth.metrics.statistics import errors_removed

    data, results = tested.data, tested.results
    reference, control = scorer.reference(tested), scorer.control(tested)
    removed = None
    own = scorer.resampled(tested)
    if reference:
        both = (scorer.resampled(t).replicates(PRIMARY) for t in (tested, reference))
        removed = errors_removed(*both, n=len(tested.tables[0]))
    probes = [result.get("probes") or {} for result in results]
    return Arm(
        generator=tested.generator,
        share=data.share,
        mode=data.mode.value,
        control="" if data.control is Control.none else data.control.value,
        real_fraction=data.real_fraction,
        left_out=data.leave_out,
        seeds=list(tested.jobs),
        real_images=results[0]["real_images"],
        synthetic_images=results[0]["synthetic_images"],
        predictions=tested.tables,
        scores=own.scores(),
        difference=own.minus(scorer.resampled(reference)) if reference else {},
        over_control=own.minus(scorer.resampled(control)) if control else {},
        errors_removed=removed,
        p_holm=p_holm,
        external=_external(scorer, tested),
        told_synthetic=[p["told_synthetic"] for p in probes if p.get("told_synthetic")],
        pointing=[_pointing(p["pointing"]) for p in probes if p.get("pointing")],
        scores_by_seed=[
            {name: found["value"] for name, found in result["scores"].items()} for result in results
        ],
        seconds=[job.record()["seconds"] for job in tested.jobs.values()],
    )


def _pointing(found: Mapping[str, Any]) -> dict[str, Any]:
    """Hit rate of one seed beside what it is compared with; NaN for what its record does not have."""
    # Earlier records have the area of the findings for a chance, which no map of cells has.
    known = found.get("chance_of") == CHANCE_OF
    names = ("chance", "best_fixed")
    chances = {name: found[name] if known else float("nan") for name in names}
    return dict(found["hits"]) | chances | {"elsewhere": found["elsewhere"]}


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


def adjusted(scorer: Scorer, tested: Sequence[Tested]) -> list[float | None]:
    """Holm-adjusted p-values of the difference to real only, of all arms with a generator's images."""
    from xraysynth.metrics.statistics import holm, p_value

    found = {}
    for n, one in enumerate(tested):
        reference = scorer.reference(one)
        if reference and one.data.control is Control.none and not one.data.leave_out:
            own, other = (scorer.resampled(t).replicates(PRIMARY) for t in (one, reference))
            found[str(n)] = p_value((own - other)[1:])
    adjusted = holm(found)
    return [adjusted.get(str(n)) for n in range(len(tested))]


def worth(scorer: Scorer, tested: Sequence[Tested], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """How many real images one synthetic image is worth, arm by arm."""
    from xraysynth.metrics.utility import Curve, per_synthetic_image

    points: dict[int, np.ndarray] = {}
    for one, arm in zip(tested, arms, strict=True):
        if not arm.generator and not arm.left_out:
            points.setdefault(arm.real_images, scorer.resampled(one).replicates(PRIMARY))
    if len(points) < 2:
        return []
    sizes = sorted(points)
    curve = Curve(np.array(sizes), np.stack([points[size] for size in sizes]))
    rows = []
    for one, arm in zip(tested, arms, strict=True):
        if arm.generator and not arm.control and 0 < arm.share < 1:
            found = per_synthetic_image(
                curve,
                scorer.resampled(one).replicates(PRIMARY),
                real_images=arm.real_images,
                synthetic_images=arm.synthetic_images,
            )
            rows.append({"arm": arm.name, **asdict(found)})
    return rows


def left_out(scorer: Scorer, tested: Sequence[Tested]) -> list[dict[str, Any]]:
    """Balanced accuracy on each data set's test images, of training with it and without.

    A row has `outside`, of training without the data set; `matched`, of training on as many images of
    each class drawn from all data sets; and `inside`, of training on all images. `drop` is outside
    minus matched, what the data set's absence costs at equal size; it is None where the matched arm
    has not been trained. `drop_from_all` is outside minus inside, which a smaller training set
    lowers too. All are paired by patient, and by the `seeds` that the arms of the row have finished.
    """
    inside = next(t for t in tested if t.real_only and t.data.real_fraction == 1)
    smaller = [t for t in tested if t.data.leave_out and t.data.control is Control.size_matched]
    rows = []
    for one in tested:
        if one.data.leave_out and one.data.control is Control.none:
            matched = [t for t in smaller if t.data.leave_out == one.data.leave_out]
            rows.append(_left_out_row(scorer, one, inside, *matched[:1]))
    return [row for row in rows if row["n"]]


def _left_out_row(
    scorer: Scorer, outside: Tested, inside: Tested, matched: Tested | None = None
) -> dict[str, Any]:
    """Scores on the test images of the data set that `outside` leaves out; n is 0 for none."""
    source = outside.data.leave_out
    arms = {"inside": inside, "outside": outside} | ({"matched": matched} if matched else {})
    seeds = [seed for seed in outside.jobs if all(seed in arm.jobs for arm in arms.values())]
    row: dict[str, Any] = {"source": source, "seeds": seeds, "matched": None, "drop": None, "n": 0}
    resampled = {}
    for name, arm in arms.items():
        by_seed = dict(zip(arm.jobs, arm.tables, strict=True))
        tables = [by_seed[seed][by_seed[seed]["source"] == source] for seed in seeds]
        if not tables or tables[0].empty:
            return row
        resampled[name] = scorer.of(tables)
        row |= {name: resampled[name].scores()[LEFT_OUT_SCORE], "n": len(tables[0])}
    for name, other in {"drop": "matched", "drop_from_all": "inside"}.items():
        if other in resampled:
            row[name] = resampled["outside"].minus(resampled[other])[LEFT_OUT_SCORE]
    return row
