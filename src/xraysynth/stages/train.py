"""A classifier on real images, synthetic ones, or both; tested once on real images.

data.share is the synthetic fraction of the training images, data.mode how they come in. The pools
are those of the selected generators and must exist; validation and test are always real. Writes
weights (safetensors), predictions.parquet and the scores below paths.output/train.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth import pool, tracking
from xraysynth.audit import require_no_copies
from xraysynth.config import Config
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.mixing import required_per_class
from xraysynth.recipes import MixMode, plain
from xraysynth.seeds import key12
from xraysynth.stages import finetune, generate, prepare

SECTIONS = ("classes", "size_px", "seed", "generator", "data", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare."""

PREDICTIONS, WEIGHTS = "predictions.parquet", "classifier.safetensors"


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Train and test one classifier, or find it done."""
    cohort, _ = prepare.cohort(config, overrides)
    this = job(config, cohort)
    if this.done:
        return this.run(dict, config={}, overrides=())
    synthetic = _pools(config, cohort, overrides)
    return this.run(
        lambda: _work(config, cohort, synthetic, this), config=config.plain(), overrides=overrides
    )


def job(config: Config, cohort: Manifest) -> Job:
    """The training job of this configuration on this cohort."""
    data = {k: v for k, v in plain(config.data).items() if k not in ("cache", "share", "mode")}
    trainer = {
        k: v for k, v in plain(config.trainer).items() if k not in ("accelerator", "devices")
    }
    decides = {
        "cohort": cohort.digest(),
        "size_px": config.size_px,
        "seed": config.seed,
        "data": data,
        "classifier": plain(config.classifier),
        "trainer": trainer,
        "mix": _mix(config, cohort),
    }
    return Job("train", decides, config.output, leaves=(PREDICTIONS, WEIGHTS))


def real_only(config: Config) -> Config:
    """The same configuration without synthetic images."""
    return replace(config, data=replace(config.data, share=0.0, mode=MixMode.replace))


def _mix(config: Config, cohort: Manifest) -> dict[str, Any]:
    if config.data.share == 0:
        return {}
    found = finetune.bound(config, cohort)
    pools = {name: generate.store(config, g).key for name, g in found.items()}
    return {"pools": pools, "share": config.data.share, "mode": config.data.mode.value}


def _pools(config: Config, cohort: Manifest, overrides: Sequence[str]) -> dict[str, Manifest]:
    if config.data.share == 0:
        return {}
    needed = required_per_class(
        cohort.split("train"),
        share=config.data.share,
        mode=config.data.mode,
        n_pools=len(config.generator),
    )
    # With a fixed number per class, all arms of a study read (and decode) the same images.
    fixed = config.generate.per_class
    if fixed is not None and fixed >= max(needed.values()):
        needed = dict.fromkeys(config.classes, fixed)
    pools = generate.pools(config, overrides, needed)
    _require_no_copies(config, cohort, pools)
    return pools


def _require_no_copies(config: Config, cohort: Manifest, pools: Mapping[str, Manifest]) -> None:
    """The part of the firewall that looks at pixels; passed once for the same images."""
    held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
    for name, images in pools.items():
        key = key12([held_out.digest(), images.digest()])
        passed = config.output / "cache" / f"firewall-{key}.passed"
        if not passed.exists():
            require_no_copies(held_out, images, name=name)
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def _work(
    config: Config, cohort: Manifest, synthetic: Mapping[str, Manifest], this: Job
) -> dict[str, Any]:
    from xraysynth.classifier import XrayClassifier, fit, predict
    from xraysynth.data import XrayDataModule

    stores = {n: generate.store(config, g) for n, g in finetune.bound(config, cohort).items()}
    datamodule = XrayDataModule(
        real=cohort,
        synthetic=synthetic,
        learned={name: pool.learned(stores[name]) for name in synthetic},
        recipe=config.data,
        size_px=config.size_px,
        cache_folder=config.output / "cache",
        seed=config.seed,
    )
    module = XrayClassifier(
        classes=list(config.classes),
        recipe=plain(config.classifier),
        max_steps=config.trainer.max_steps,
        class_counts=datamodule.class_counts,
        seed=config.seed,
    )
    with tracking.tracked(config, this) as run:
        logger = tracking.lightning_logger(run)
        fitted = fit(module, datamodule, config.trainer, folder=this.folder, logger=logger)
        module.save(this.folder / WEIGHTS)
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        images = [len(part) for part in datamodule.train_manifests]
        summary = {
            **_tested(config, cohort.split("test"), probabilities, targets, this.folder),
            "real_images": images[0],
            "synthetic_images": sum(images[1:]),
            "kept_step": fitted.step,
            "optimiser_steps": fitted.history[-1]["step"],
            "fit_seconds": round(fitted.seconds, 2),
            "weights": str(this.folder / WEIGHTS),
            "history": fitted.history,
        }
        pools = [stores[name] for name in synthetic]
        tracking.log_training(
            run, summary, probabilities, targets, job=this, cohort=cohort, pools=pools
        )
    for name in ("last.ckpt", "best.safetensors"):  # only needed to resume
        (this.folder / name).unlink(missing_ok=True)
    return summary


def _tested(
    config: Config, test: Manifest, probabilities: Any, targets: Any, folder: Path
) -> dict[str, Any]:
    """Predictions on disk, and the scores of the one test."""
    from xraysynth.metrics.classification import evaluate

    columns = ["image_id", "patient_id", "source", "label"]
    table = test.table[columns].reset_index(drop=True)
    for index, name in enumerate(test.classes):
        table[f"p_{name}"] = probabilities[:, index]
    table.to_parquet(folder / PREDICTIONS, index=False)
    scores = evaluate(
        probabilities,
        targets,
        patient_keys(table),
        classes=config.classes,
        replicates=config.evaluate.replicates,
    )
    return {
        "accuracy": scores["accuracy"].value,
        "macro_f1": scores["macro_f1"].value,
        "test_images": len(test),
        "test_evaluations": 1,
        "predictions": str(folder / PREDICTIONS),
        "scores": {name: found.as_dict() for name, found in scores.items()},
    }


def patient_keys(table: pd.DataFrame) -> pd.Series:
    """Patient ids that are unique across data sets."""
    return table["source"] + "/" + table["patient_id"]
