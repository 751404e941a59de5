"""A fabricated study: random predictions and noise images for the page to show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xraysynth.evaluation.metrics.classification import compare_arms, score_arm, score_run
from xraysynth.evaluation.metrics.pointing_game import PointingGame
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.evaluation.metrics.real_data_equivalent import RealDataEquivalent
from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import (
    Appearance,
    ClosestPair,
    Diversity,
    LabelFidelity,
    Measure,
    Similarity,
    UsableShare,
)
from xraysynth.generation.generators.base import FineTuning, GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.pool import Refusals
from xraysynth.images import encode_png
from xraysynth.manifest import Manifest
from xraysynth.records import CLASSES, sha256_bytes
from xraysynth.report.audit import CohortAudit, SourceConfounding, SourceCount, SplitCount
from xraysynth.report.content import (
    Arm,
    ArmEquivalent,
    Comparison,
    Content,
    EncoderAgreement,
    JobRun,
    LeftOutSource,
    PoolResults,
)

GENERATORS = ("stable_diffusion", "sd_lora")


def fabricate(
    folder: Path,
    *,
    n_test: int = 48,
    seeds: Sequence[int] = (0, 1),
    modes: Sequence[str] = ("replace",),
    images: int = 2,
    replicates: int = 60,
    size_px: int = 32,
) -> Content:
    """A `Content` whose numbers mean nothing; the second generator does harm."""
    make = Maker(np.arange(n_test) % len(CLASSES), seeds, replicates)
    cohort = _images(folder / "cohort", "", images, size_px)
    arms = _arms(make, modes)
    return Content(
        title="Fabricated study",
        created="2026-01-01 12:00 UTC",
        command="xraysynth study experiment=quickstart generator=[stable_diffusion,sd_lora]",
        classes=CLASSES,
        simulated=True,
        acknowledged_confounding=(),
        cohort=cohort,
        audit=AUDIT,
        arms=arms,
        pools=[_pool(folder, name, cohort, images, size_px) for name in GENERATORS],
        jobs=JOBS,
        environment={
            "xraysynth": "0.1.0",
            "torch": "2.9.0",
            "processor": "2 cores",
            "git": "abc1234",
        },
        limits=["One cohort; no outside test set.", "Two seeds understate the spread of training."],
        failures=(),
        equivalents=[
            _worth(arm) for arm in arms if 0 < arm.synthetic_fraction < 1 and not arm.control
        ],
        left_out_sources=[LEFT_OUT],
        shortcuts=[Shortcut(0.41, 0.36, 0.46, 300, target="class", view="borders", chance=0.25)],
        spread_of_seeds=[SpreadOfSeeds(8, 40, sd=0.031, weight=0.6, p=0.3)],
        encoder_agreement=[EncoderAgreement("classifier", "embedded", kendall_tau=1.0, n=2)],
    )


def _arms(make: "Maker", modes: Sequence[str]) -> list[Arm]:
    """Real only, its fraction, the controls, and per generator its hybrids and itself alone."""
    real = make.arm(skill=1.1)
    half = make.arm(skill=0.8, real_fraction=0.5)
    arms = [
        real,
        half,
        make.arm(skill=0.9, left_out="site-a", reference=real),
        *(make.arm(0.5, mode, 2.5, "", "duplicate", reference=real) for mode in modes),
    ]
    control = arms[3]
    for name, skill in zip(GENERATORS, (1.35, 0.5), strict=True):
        hybrids = [make.arm(0.5, mode, skill, name, reference=real) for mode in modes]
        permuted = make.arm(0.5, "replace", 0.1, name, "permuted", reference=real)
        arms += [
            replace(
                arm,
                over_duplicates=make.compare(arm, control, p_holm=0.05),
                over_permuted=make.compare(arm, permuted, p_holm=0.03),
                **PROBED,
            )
            for arm in hybrids
        ]
        arms.append(make.arm(1.0, "replace", 0.4 * skill, name, reference=real))
        arms.append(permuted)
        arms.append(make.arm(0.5, "replace", 0.9, name, reference=half, real_fraction=0.5))
    return arms


def _worth(arm: Arm) -> ArmEquivalent:
    return ArmEquivalent(arm.name, RealDataEquivalent(0.31, 0.1, 0.52, 48))


@dataclass(frozen=True)
class Maker:
    """Makes arms that are tested on the same images, two of each patient."""

    truth: np.ndarray
    seeds: Sequence[int]
    replicates: int

    @property
    def patients(self) -> np.ndarray:
        """`(N,)`."""
        return np.array([f"patient-{i // 2}" for i in range(len(self.truth))])

    @property
    def options(self) -> dict[str, Any]:
        """What scores and differences are computed with."""
        return {"classes": CLASSES, "replicates": self.replicates}

    def compare(self, arm: Arm, other: Arm, *, p_holm: float | None) -> Comparison:
        """One arm minus the other."""
        found = compare_arms(_runs(arm), _runs(other), self.truth, self.patients, **self.options)
        detectable = None if p_holm is None else 0.0834
        return Comparison(found, self.seeds, p_holm, p_holm, detectable)

    def arm(
        self,
        share: float = 0.0,
        mode: str = "",
        skill: float = 1.0,
        generator: str = "",
        control: str = "",
        *,
        reference: Arm | None = None,
        real_fraction: float = 1.0,
        left_out: str = "",
    ) -> Arm:
        """An arm of made-up predictions, better with more `skill`."""
        start = 100 * int(10 * share) + len(mode) + int(40 * skill)
        runs = [_probabilities(self.truth, skill, seed + start) for seed in self.seeds]
        total = round(400 * real_fraction)
        real = total if mode in ("add", "pretrain") else round(total * (1 - share))
        added = 0 if not share else total if real == total else total - real
        repeated = control == "duplicate"
        found = Arm(
            generator=generator,
            synthetic_fraction=share,
            mode=mode,
            seeds=self.seeds,
            real_images=real,
            synthetic_images=0 if repeated else added,
            real_repeats=added if repeated else 0,
            predictions=[_table(run, self.truth, self.patients) for run in runs],
            scores=score_arm(runs, self.truth, self.patients, **self.options),
            optimiser_steps=[300] * len(self.seeds),
            scores_by_seed=[self._one(run) for run in runs],
            seconds=[31.0] * len(self.seeds),
            control=control,
            real_fraction=real_fraction,
            left_out_source=left_out,
            external={"shenzhen": {"macro_f1": Interval(0.4 + share / 10, 0.35, 0.51, 66)}},
        )
        if reference is None:
            return found
        over = self.compare(found, reference, p_holm=None if control or left_out else 0.042)
        gain = over.differences["macro_f1"].value
        removed = Interval(gain / 0.6, -0.1, 0.3, len(self.truth))
        return replace(found, over_real=over, errors_removed=removed)

    def _one(self, run: np.ndarray) -> dict[str, float]:
        scores = score_run(run, self.truth, self.patients, classes=CLASSES, replicates=1)
        return {name: found.value for name, found in scores.items()}


def _probabilities(truth: np.ndarray, skill: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(truth), len(CLASSES)))
    logits[np.arange(len(truth)), truth] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def _table(run: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"test-{i}" for i in range(len(truth))],
            "patient_id": patients,
            "source": "fabricated",
            "label": np.array(CLASSES)[truth],
        }
        | {f"p_{name}": run[:, i] for i, name in enumerate(CLASSES)}
    )


def _runs(arm: Arm) -> list[np.ndarray]:
    return [table[[f"p_{name}" for name in CLASSES]].to_numpy() for table in arm.predictions]


def _images(folder: Path, generator: str, count: int, size_px: int) -> Manifest:
    (folder / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(len(generator)), []
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    for label in CLASSES:
        for index in range(count):
            noise = rng.normal(0, 9, (size_px, size_px))
            lungs = np.exp(-((abs(x) - 0.45) ** 2 / 0.06 + y**2 / 0.4)) * rng.uniform(90, 150)
            png = encode_png((175 - lungs + noise).clip(0, 255).astype(np.uint8))
            path = f"images/{label}-{index}.png"
            (folder / path).write_bytes(png)
            rows.append(
                {
                    "image_id": f"{label}-{index}",
                    "path": path,
                    "label": label,
                    "sha256": sha256_bytes(png),
                    "source": "" if generator else "fabricated",
                    "license": "" if generator else "CC0-1.0",
                    "split": "train",
                    "is_synthetic": bool(generator),
                    "generator": generator,
                    "patient_id": "" if generator else f"patient-{label}-{index}",
                    "prompt": f"frontal chest radiograph, {label}, no {index}" if generator else "",
                }
            )
    return Manifest(pd.DataFrame(rows), folder, CLASSES)


def _measures() -> list[Measure]:
    """Two encoders, with all classes and one class."""
    rows = []
    for encoder, size in (("classifier", 40.0), ("embedded", 300.0)):
        excess = {"excess_low": 20.0, "excess_high": 40.0}
        for metric, better, value in (
            (f"FD({encoder})", "lower", size),
            (f"KD({encoder})", "lower", size / 1e4),
            ("precision", "floor", 0.6),
            ("memorised share", "lower", 0.013),
            ("AuthPct", "floor", 0.53),
            ("C_T", "floor", np.nan),
        ):
            row = {"encoder": encoder, "metric": metric, "better": better}
            row |= {"value": value, "low": 0.9 * value, "high": 1.1 * value, "n": 200}
            row |= {
                "baseline_value": value / 5,
                "baseline_low": value / 6,
                "baseline_high": value / 4,
            } | excess
            row["p"] = 0.001
            note = "few images" if metric.startswith("FD") else ""
            rows.append(row | {"label": "", "note": note if value > 0 else "too few to compare"})
            if metric.startswith(("FD", "precision")):
                rows += [row | {"label": name, "n": 50, "note": note} for name in CLASSES[:2]]
    return [Measure(**row) for row in rows]


def _faithfulness() -> list[LabelFidelity]:
    real = {"real": 0.81, "real_low": 0.75, "real_high": 0.86, "real_n": 220}
    return [LabelFidelity(0.62, 0.55, 0.68, 200, label=label, **real) for label in ("", *CLASSES)]


def _pool(folder: Path, name: str, cohort: Manifest, images: int, size_px: int) -> PoolResults:
    pool = _images(folder / name, name, images, size_px)
    hosted = name == GENERATORS[1]
    return PoolResults(
        generator=name,
        card=CARD,
        manifest=pool,
        outcomes={"image": 400, "refused": 3, "failed": 1},
        refusals=Refusals({"covid19": (3, 100)}, {"a refused prompt": (3, 4)}),
        measures=_measures() if not hosted else _without_copying(_measures()),
        diversity=[
            Diversity(0.41, 0.39, 0.44, 300, metric=metric, label=label, real=0.36)
            for metric in ("SSIM", "MS-SSIM")
            for label in CLASSES
        ],
        nearest_similarity=[]
        if hosted
        else [Similarity(0.5, 0.4, 0.6, 200, metric="SSIM", real=0.45)],
        not_assessable_reason="training set unknown: not assessable" if hosted else "",
        closest=[] if hosted else _closest(pool, cohort),
        label_fidelity=_faithfulness(),
        usable_share=UsableShare(0.61, 0.54, 0.67, 200, copies_looked_for=not hosted),
        confusion_matrix=np.diag([60, 55, 50, 45]) + 3,
        fidelity_classifier="real images of site-bb",
        real_classifier_scores={
            "macro_f1": Interval(0.71, 0.66, 0.75, 200),
            "accuracy": Interval(0.73, 0.68, 0.77, 200),
        },
        appearance=[
            Appearance(0.1, 0.05, 0.2, 400, measure="colour_cast", meaning="0 is grey", real=0.0)
        ],
        ledger=LEDGER,
        finetuning=FineTuning(seconds=90.0, steps=1000, ledger=TAUGHT)
        if name == "sd_lora"
        else None,
    )


def _without_copying(measures: Sequence[Measure]) -> list[Measure]:
    return [row for row in measures if row.metric not in ("memorised share", "AuthPct", "C_T")]


def _closest(pool: Manifest, cohort: Manifest) -> list[ClosestPair]:
    files = zip(pool.files, cohort.files, strict=True)
    return [
        ClosestPair(made, real, distance=0.5 + n / 4, threshold=1.0, flagged=n < 2)
        for n, (made, real) in enumerate(files)
    ]


CARD = GeneratorCard(
    title="Stable Diffusion 1.5",
    access="weights, local",
    licence="CreativeML OpenRAIL-M",
    offline=True,
    seeds_reproducible=True,
    prompt_control="text",
    fine_tunable="yes",
    hardware="a GPU of 8 GB",
    set_up="download the weights",
    price="electricity",
)

LEDGER = Ledger(
    images=400,
    attempts=404,
    seconds_p50=0.42,
    seconds_per_image=0.5,
    images_per_hour=8000.0,
    energy_kwh_per_1000=0.002,
    energy_method="estimated from rated power and load",
    peak_rss_mb=1300.0,
    parameters=5_000_000,
    dtype="float32",
    device="cpu",
    cpu_cores=2,
    engine="torch",
)

TAUGHT = Ledger(seconds=100.0, energy_kwh=0.004, peak_rss_mb=2000.0, cpu_cores=2)

PROBED: dict[str, Any] = {
    "real_vs_synthetic_auroc": [Interval(value, 0.8, 0.95, 160) for value in (0.86, 0.9)],
    "pointing_game": [
        PointingGame(Interval(value, 0.3, 0.5, 40), Interval(0.2, 0.1, 0.3, 40), 0.12, 0.2, n=40)
        for value in (0.38, 0.42)
    ],
}

LEFT_OUT = LeftOutSource(
    source="site-a",
    n=24,
    inside=Interval(0.8, 0.7, 0.9, 24),
    outside=Interval(0.6, 0.5, 0.7, 24),
    matched=Interval(0.7, 0.6, 0.8, 24),
    drop=Interval(-0.1, -0.2, 0.0, 24),
    drop_from_all=Interval(-0.2, -0.3, -0.1, 24),
)

AUDIT = CohortAudit(
    by_split=[
        SplitCount(name, split, images, images // 2)
        for name in CLASSES
        for split, images in (("train", 100), ("val", 50), ("test", 100))
    ],
    by_source=[
        SourceCount(source, name, 60 + 10 * len(source))
        for source in ("site-a", "site-bb")
        for name in CLASSES
    ],
    cramers_v=0.031,
    source_confounding=[
        SourceConfounding(name, accuracy=0.61, balanced_accuracy=0.58) for name in CLASSES
    ],
    exact_duplicates=0,
    near_duplicates=2,
    near_duplicates_across_sources=0,
    notes=["Near-duplicates were kept in one split."],
)

JOBS = [
    JobRun("prepare", "prepare-0001", 21.0, 512.0, "done"),
    JobRun("generate", "generate-0001", 182.4, 2310.0, "done"),
    JobRun("train", "train-0001", 31.2, 1200.0, "done"),
    JobRun("train", "train-0002", 30.1, 1210.0, "failed"),
]


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """The fabricated study, once."""
    return fabricate(tmp_path_factory.mktemp("study"))
