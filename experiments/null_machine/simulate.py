"""How often a report claims something where nothing is, and how often it finds what is there.

Whole studies are simulated: the predictions of every training, or the features of every image, and
go through the code that writes the report. See README.md.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth import compose
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.copy_measures import measure_copying
from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.measures import measure_sets
from xraysynth.evaluation.metrics.statistics import Interval, holm_adjust
from xraysynth.evaluation.results import Measure
from xraysynth.jobs.record import RunRecord
from xraysynth.report import verdicts
from xraysynth.stages._study import arm_configs, arms, tested_arm

CLASSES = ("normal", "pneumonia", "covid19")
BALANCED, SKEWED = (1 / 3, 1 / 3, 1 / 3), (0.67, 0.24, 0.09)
REPLICATES = 300


@dataclass(frozen=True)
class Patients:
    """Who is looked at: `count` patients in a class mix, each with one to `most_images` images."""

    count: int = 120
    mix: tuple[float, ...] = SKEWED
    most_images: int = 4
    of_patient: float = 0.6

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Class and patient of each image, `(N,)` each."""
        counts = np.round(np.array(self.mix) * self.count).astype(int)
        classes = np.repeat(np.arange(len(CLASSES)), counts)
        images = rng.integers(1, self.most_images + 1, len(classes))
        owners = np.repeat(np.arange(len(classes)), images)
        return classes[owners], owners

    def noise(self, owners: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
        """`(N, width)` of variance 1, of which images of one patient share a part."""
        own = np.sqrt(self.of_patient) * rng.normal(size=(owners.max() + 1, width))
        images = np.sqrt(1 - self.of_patient) * rng.normal(size=(len(owners), width))
        noise: np.ndarray = own[owners] + images
        return noise


@dataclass(frozen=True)
class Study:
    """A study of so many hybrid arms and training seeds; without `gain` all arms are alike.

    `between` is the standard deviation, over seeds, of the skill that raises the logit of the true
    class; `gain` is what each hybrid arm has more of it than real only, duplicates and permuted.
    """

    name: str
    n_arms: int
    seeds: int
    patients: Patients = field(default_factory=Patients)
    between: float = 0.15
    gain: float = 0.0
    runs: int = 200


@dataclass(frozen=True)
class FinishedJob:
    """A training that is done, as far as a comparison asks."""

    folder: Path = Path("nowhere")

    def record(self) -> RunRecord:
        """Its record, which says that all arms have as many images."""
        return RunRecord(state="done", result={"real_images": 100})


def trainings(study: Study, seed: int) -> tuple[arms.Scorer, list[tested_arm.TestedArm]]:
    """Every arm of a study with the predictions of its seeds on the same test images."""
    rng = np.random.default_rng([seed, study.n_arms, study.seeds])
    targets, owners = study.patients.draw(rng)
    shared = study.patients.noise(owners, len(CLASSES), rng) * np.sqrt(0.7)
    config = compose(
        [
            *(
                "generator=archive",
                "generator.archive.folder=none",
                f"classes=[{','.join(CLASSES)}]",
            ),
            f"study.synthetic_fractions=[{','.join(str(share) for share in _shares(study.n_arms))}]",
            f"evaluate.replicates={REPLICATES}",
        ]
    )
    tested = []
    for arm in arm_configs.build_arms(config, None):  # type: ignore[arg-type]
        gain = study.gain if arm.generator and arm.config.data.control.value == "none" else 0.0
        tables = []
        for _ in range(study.seeds):
            skill = 1.5 + gain + study.between * rng.normal()
            own = np.sqrt(0.3) * rng.normal(size=shared.shape)
            logits = shared + own + skill * np.eye(len(CLASSES))[targets]
            tables.append(_predictions(logits, targets, owners))
        jobs = {n: FinishedJob() for n in range(study.seeds)}
        tested.append(tested_arm.TestedArm(arm, jobs, tables))  # type: ignore[arg-type]
    return arms.Scorer(config, tested), tested


def _shares(n_arms: int) -> list[float]:
    return [0.0, *np.round(np.linspace(0.02, 0.98, n_arms), 4).tolist()]


def _predictions(logits: np.ndarray, targets: np.ndarray, owners: np.ndarray) -> pd.DataFrame:
    raised = np.exp(logits)
    columns = [f"p_{name}" for name in CLASSES]
    table = pd.DataFrame(raised / raised.sum(1, keepdims=True), columns=columns)
    labels = np.array(CLASSES)[targets]
    return table.assign(label=labels, source="s", patient_id=owners.astype(str))


def training_claims(study: Study, seed: int) -> dict[str, float]:
    """By claim: the share of arms of which the report of one study makes it."""
    scorer, tested = trainings(study, seed)
    compared = arms.compare_all(scorer, tested)
    words: dict[str, list[str]] = {"real": [], "duplicates": [], "permuted": []}
    for one, found in zip(tested, compared, strict=True):
        kinds = (found.over_real, found.over_duplicates, found.over_permuted)
        for name, comparison in zip(words, kinds, strict=True):
            difference = comparison.differences.get(arms.PRIMARY_METRIC)
            if one.is_generator_arm and difference is not None:
                words[name].append(
                    verdicts.classify_difference(difference, p_holm=comparison.p_holm)
                )
    return {
        "better than real only": _share(words["real"], verdicts.BETTER),
        "worse than real only": _share(words["real"], verdicts.WORSE),
        "beats duplicates": _share(words["duplicates"], verdicts.BETTER),
        "worse than duplicates": _share(words["duplicates"], verdicts.WORSE),
        "the labels matter": _share(words["permuted"], verdicts.BETTER),
        "worse than with permuted labels": _share(words["permuted"], verdicts.WORSE),
    }


def _share(words: Sequence[str], word: str) -> float:
    return float(np.mean([found == word for found in words])) if words else 0.0


@dataclass(frozen=True)
class Pools:
    """So many generators' pools of `per_class` images beside the same real ones, in `width` features.

    `shift` moves their mean, `is_copy` is the share of images that are near-copies of training images.
    """

    name: str
    generators: int
    patients: Patients = field(default_factory=lambda: Patients(count=300))
    per_class: int = 80
    width: int = 8
    shift: float = 0.0
    copied: float = 0.0
    runs: int = 200


def image_claims(pools: Pools, seed: int) -> dict[str, float]:
    """By claim: the share of pools of which the report of one study makes it."""
    rng = np.random.default_rng([seed, pools.generators])
    centres = 1.5 * np.random.default_rng(7).normal(size=(len(CLASSES), pools.width))
    train, train_labels, _ = _real_images(pools, centres, rng)
    real, labels, owners = _real_images(pools, centres, rng)
    found: dict[str, list[Measure]] = {"distance": [], "memorised": []}
    for _ in range(pools.generators):
        made, made_labels = _pool(pools, centres, train, train_labels, rng)
        sides = {"synthetic": _features(made), "patients": owners}
        found["distance"].append(
            _measured(
                measure_sets(
                    real=_features(real),
                    real_labels=labels,
                    synthetic_labels=made_labels,
                    classes=CLASSES,
                    **sides,
                ),
                "KD(",
            )
        )
        found["memorised"].append(
            _measured(
                measure_copying(
                    train=_features(train),
                    held_out=_features(real),
                    held_out_labels=labels,
                    synthetic_labels=made_labels,
                    replicates=REPLICATES,
                    **sides,
                ),
                "memorised",
            )
        )
    words = [_image_word(m, p) for m, p in _adjusted(found["distance"])]
    copies = [_copy_word(m, p) for m, p in _adjusted(found["memorised"])]
    return {
        "farther": _share(words, verdicts.WORSE),
        "nearer": _share(words, verdicts.NEARER),
        "copies": _share(copies, verdicts.MEMORISED),
    }


def _real_images(
    pools: Pools, centres: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and patients of real images."""
    targets, owners = pools.patients.draw(rng)
    features = centres[targets] + pools.patients.noise(owners, pools.width, rng)
    return features, np.array(CLASSES)[targets], owners.astype(str)


def _pool(
    pools: Pools,
    centres: np.ndarray,
    train: np.ndarray,
    train_labels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Independent images of the same distribution, equally many a class, with what is planted."""
    targets = np.repeat(np.arange(len(CLASSES)), pools.per_class)
    made = centres[targets] + rng.normal(size=(len(targets), pools.width))
    made[:, 0] += pools.shift
    for place in np.flatnonzero(rng.random(len(targets)) < pools.copied):
        originals = np.flatnonzero(train_labels == CLASSES[targets[place]])
        made[place] = train[rng.choice(originals)] + 0.01 * rng.normal(size=pools.width)
    return made, np.array(CLASSES)[targets]


def _features(values: np.ndarray) -> Features:
    return Features(values, Identity("simulated", "", Preprocessing()))


def _measured(measures: Sequence[Measure], name: str) -> Measure:
    return next(m for m in measures if m.metric.startswith(name) and not m.label)


def _adjusted(measures: Sequence[Measure]) -> Iterator[tuple[Measure, float]]:
    adjusted = holm_adjust({str(place): m.p for place, m in enumerate(measures)})
    return zip(measures, adjusted.values(), strict=True)


def _image_word(measure: Measure, p_holm: float) -> str:
    value = Interval(measure.value, measure.low, measure.high, measure.n)
    floor = Interval(measure.baseline_value, measure.baseline_low, measure.baseline_high, measure.n)
    return verdicts.image_distance(
        verdicts.Distance(measure.metric, value, floor), p_holm=p_holm
    ).word


def _copy_word(measure: Measure, p_holm: float) -> str:
    flagged = Interval(measure.value, measure.low, measure.high, measure.n)
    return verdicts.memorisation(flagged=flagged, p_holm=p_holm).word


NULL_STUDIES = (
    Study("2 arms, 1 seed", 2, 1),
    Study("2 arms, 2 seeds", 2, 2),
    Study("2 arms, 3 seeds", 2, 3),
    Study("2 arms, 3 seeds, seeds differ much", 2, 3, between=0.4),
    Study("2 arms, 3 seeds, one image each, balanced", 2, 3, Patients(240, BALANCED, 1)),
    Study("8 arms, 3 seeds", 8, 3),
    Study("8 arms, 5 seeds", 8, 5),
    Study("40 arms, 2 seeds", 40, 2, runs=50),
    Study("40 arms, 3 seeds", 40, 3, runs=50),
)
PLANTED_STUDIES = (
    Study("2 arms, 3 seeds, planted", 2, 3, gain=1.0),
    Study("2 arms, 5 seeds, planted", 2, 5, gain=1.0),
    Study("8 arms, 5 seeds, planted", 8, 5, gain=1.0, runs=30),
)
NULL_POOLS = (
    Pools("1 pool", 1),
    Pools("1 pool, one image each, balanced", 1, Patients(300, BALANCED, 1)),
    Pools("1 pool, 120 patients", 1, Patients(120)),
    Pools("8 pools", 8, runs=60),
    Pools("40 pools", 40, runs=25),
)
PLANTED_POOLS = (
    Pools("1 pool, shifted by 0.6", 1, shift=0.6, runs=60),
    Pools("8 pools, shifted by 0.6", 8, shift=0.6, runs=10),
    Pools("1 pool, 5 % copied", 1, copied=0.05, runs=60),
    Pools("8 pools, 20 % copied", 8, copied=0.2, runs=10),
)


def rates(name: str, claims: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """By claim: in what share of runs it is made of any arm or pool, and of how many of them."""
    table = pd.DataFrame(claims)
    return [
        {
            "study": name,
            "runs": len(table),
            "claim": claim,
            "runs_with_claim": float((table[claim] > 0).mean()),
            "share_claimed": float(table[claim].mean()),
        }
        for claim in table
    ]


def main() -> None:
    """Write results.csv, study by study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="studies a row, at most")
    parser.add_argument("--only", choices=["trainings", "images"])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    path = Path(__file__).with_name("results.csv")
    if arguments.only and path.exists():
        kept = pd.read_csv(path)
        names = {one.name for one in (*NULL_POOLS, *PLANTED_POOLS)}
        of_images = kept["study"].isin(names)
        rows = kept[of_images if arguments.only == "trainings" else ~of_images].to_dict("records")
    work: list[tuple[Any, Any]] = []
    if arguments.only != "images":
        work += [(study, training_claims) for study in (*NULL_STUDIES, *PLANTED_STUDIES)]
    if arguments.only != "trainings":
        work += [(pools, image_claims) for pools in (*NULL_POOLS, *PLANTED_POOLS)]
    for design, claims in work:
        runs = min(arguments.runs, design.runs)
        rows += rates(design.name, [claims(design, seed) for seed in range(runs)])
        print(pd.DataFrame(rows[-6:]).to_string(index=False), flush=True)
        pd.DataFrame(rows).round(4).to_csv(path, index=False)


if __name__ == "__main__":
    main()
