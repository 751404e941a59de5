"""A fabricated study: random predictions and noise images for the page to show."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xraysynth.generators.base import Card
from xraysynth.images import encode_png
from xraysynth.manifest import Manifest
from xraysynth.metrics.classification import arm_difference, arm_scores, evaluate
from xraysynth.records import CLASSES, sha256_bytes
from xraysynth.report.content import Arm, Content, PoolView

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
    truth = np.arange(n_test) % len(CLASSES)
    arms = [_arm("", 0.0, "", truth, seeds, 1.1, replicates, None)]
    for name, skill in zip(GENERATORS, (1.35, 0.5), strict=True):
        for share, mode in [*((0.5, mode) for mode in modes), (1.0, "replace")]:
            gained = skill if share < 1 else 0.4 * skill
            arms.append(_arm(name, share, mode, truth, seeds, gained, replicates, arms[0]))
    return Content(
        title="Fabricated study",
        created="2026-01-01 12:00 UTC",
        command="xraysynth study experiment=quickstart generator=[stable_diffusion,sd_lora]",
        classes=CLASSES,
        simulated=True,
        acknowledged_confounding=(),
        cohort=_images(folder / "cohort", "", images, size_px),
        audit=AUDIT,
        arms=arms,
        pools=[_pool(folder, name, images, size_px) for name in GENERATORS],
        stages=STAGES,
        environment={
            "xraysynth": "0.1.0",
            "torch": "2.9.0",
            "processor": "2 cores",
            "git": "abc1234",
        },
        limits=["One cohort; no outside test set.", "Two seeds understate the spread of training."],
        failures=(),
    )


def _arm(
    generator: str,
    share: float,
    mode: str,
    truth: np.ndarray,
    seeds: Sequence[int],
    skill: float,
    replicates: int,
    reference: Arm | None,
) -> Arm:
    runs = [
        _probabilities(truth, skill, seed + 100 * int(10 * share) + len(mode)) for seed in seeds
    ]
    patients = np.array([f"patient-{i // 2}" for i in range(len(truth))])
    options = {"classes": CLASSES, "replicates": replicates}
    difference = (
        arm_difference(runs, _runs(reference), truth, patients, **options) if reference else {}
    )
    real = 400 if mode == "add" else round(400 * (1 - share))
    return Arm(
        generator=generator,
        share=share,
        mode=mode,
        seeds=seeds,
        real_images=real,
        synthetic_images=400 if mode == "add" else 400 - real,
        predictions=[_table(run, truth, patients) for run in runs],
        scores=arm_scores(runs, truth, patients, **options),
        difference=difference,
        scores_by_seed=[
            {
                k: i.value
                for k, i in evaluate(r, truth, patients, classes=CLASSES, replicates=1).items()
            }
            for r in runs
        ],
        seconds=[31.0] * len(seeds),
    )


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


def _pool(folder: Path, name: str, images: int, size_px: int) -> PoolView:
    fidelity = pd.DataFrame(
        [
            ("classifier", "FD(classifier)", 41.2, 37.5, 45.9, 200, 6.3, 5.1, 7.9),
            ("classifier", "KD(classifier)", 0.0312, 0.021, 0.042, 200, 0.0004, -0.0011, 0.002),
        ],
        columns=[
            "encoder",
            "metric",
            "value",
            "low",
            "high",
            "n",
            "floor",
            "floor_low",
            "floor_high",
        ],
    )
    diversity = pd.DataFrame(
        [
            (metric, label, 0.41, 0.39, 0.44, 300, 0.36)
            for metric in ("SSIM", "MS-SSIM")
            for label in CLASSES
        ],
        columns=["metric", "label", "value", "low", "high", "pairs", "real"],
    )
    card = Card(
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
    pool = _images(folder / name, name, images, size_px)
    outcomes = {"image": 400, "refused": 3, "failed": 1}
    ledger = {"images": 400, "seconds_p50": 0.42, "images_per_hour": 8000.0, "engine": "torch"}
    taught = {"seconds": 90.0, "steps": 1000} if name == "sd_lora" else {}
    copies = {"encoder": "classifier", "value": 0.012, "low": 0.0, "high": 0.03, "n": 400}
    memorization = [copies | {"expected": 0.01, "held_out": 300}]
    cast = {
        "measure": "colour_cast",
        "meaning": "0 is grey",
        "value": 0.1,
        "low": 0.05,
        "high": 0.2,
    }
    appearance = [cast | {"n": 400, "real": 0.0}]
    return PoolView(
        name,
        card,
        pool,
        outcomes,
        {"label": {"covid19": (3, 100)}, "prompt": {"a refused prompt": (3, 4)}},
        fidelity,
        diversity,
        memorization,
        appearance,
        ledger,
        taught,
    )


AUDIT = {
    "counts": [
        {"class": name, "split": split, "images": images, "patients": images // 2}
        for name in CLASSES
        for split, images in (("train", 100), ("val", 50), ("test", 100))
    ],
    "by_source": [
        {"source": source, "label": name, "images": 60 + 10 * len(source)}
        for source in ("site-a", "site-bb")
        for name in CLASSES
    ],
    "cramers_v": 0.031,
    "source_tells": {name: {"accuracy": 0.61, "balanced_accuracy": 0.58} for name in CLASSES},
    "exact_duplicates": 0,
    "near_duplicates": 2,
    "near_duplicates_across_sources": 0,
    "notes": ["Near-duplicates were kept in one split."],
}

STAGES = pd.DataFrame(
    [
        ("prepare", "prepare-0001", 21.0, 512.0, "done"),
        ("generate", "generate-0001", 182.4, 2310.0, "done"),
        ("train", "train-0001", 31.2, 1200.0, "done"),
        ("train", "train-0002", 30.1, 1210.0, "failed"),
    ],
    columns=["stage", "job", "seconds", "peak_memory_mb", "state"],
)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """The fabricated study, once."""
    return fabricate(tmp_path_factory.mktemp("study"))
