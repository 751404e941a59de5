"""One training of a classifier: its recipe, the images it sees, and its files beside the weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xraysynth.files import write_atomically
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord, to_json
from xraysynth.seeds import digest
from xraysynth.training.mixing import mix, required_per_class, select_cohort
from xraysynth.training.recipe import (
    ClassifierRecipe,
    ClassWeighting,
    Control,
    DataRecipe,
    KeptWeights,
    MixMode,
    TrainerRecipe,
)

if TYPE_CHECKING:  # a wrong option must be refused before torch is there
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

WEIGHTS_FILE = "classifier.safetensors"
POOL_DIGESTS_FILE = "pools.json"
"""File beside the checkpoint of a training: the digests of the synthetic images that it sees."""

_MIXING_OPTIONS = (
    "synthetic_fraction",
    "mode",
    "control",
    "pretrain_fraction",
)  # mean nothing where nothing is mixed in


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """How a training went, as its record has it.

    `kept_step` is the step that the kept weights are of, `first_real_step` the number of steps before
    the first that showed real images, `fit_seconds` the time of all sessions together (None: not
    known), and `history` has every validation.
    """

    kept_step: int
    optimiser_steps: int
    weights: str
    history: list[dict[str, float]]
    first_real_step: int = 0
    fit_seconds: float | None = None
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """Training images by kind; `real_images` are distinct ones, whose repeats are counted beside them."""

    real_images: int = 0
    real_repeats: int = 0
    synthetic_images: int = 0


@dataclass(frozen=True)
class Training:
    """What decides the weights of a classifier besides the images, and where decoded pixels lie."""

    classes: Sequence[str]
    data: DataRecipe
    classifier: ClassifierRecipe
    trainer: TrainerRecipe
    size_px: int
    seed: int
    cache: Path

    def with_real_images_only(self, seed: int | None = None) -> "Training":
        """The training that all others are compared with: every real image, and nothing else."""
        return replace(
            self, data=self.data.with_real_images_only(), seed=self.seed if seed is None else seed
        )

    def for_label_fidelity(self) -> "Training":
        """The training of a classifier that judges synthetic images: on real ones, to its end."""
        trainer = replace(self.trainer, keep=KeptWeights.last, patience=0)
        return replace(self.with_real_images_only(), trainer=trainer)

    def identity(self, cohort: Manifest) -> dict[str, Any]:
        """What decides the weights of a classifier of real images."""
        data = {k: v for k, v in to_json(self.data).items() if k not in ("cache", *_MIXING_OPTIONS)}
        trainer = {
            k: v for k, v in to_json(self.trainer).items() if k not in ("accelerator", "devices")
        }
        return {
            "cohort": cohort.digest(),
            "size_px": self.size_px,
            "seed": self.seed,
            "data": data,
            "classifier": to_json(self.classifier),
            "trainer": trainer,
        }

    def mixing_identity(self, pools: Mapping[str, str]) -> dict[str, Any]:
        """What decides them besides where something is mixed in; `pools` are keys by generator."""
        data = self.data
        if data.control is Control.size_matched:
            return {"mix": {"control": data.control.value}}
        if data.synthetic_fraction == 0:
            return {"mix": {}}
        mixed: dict[str, Any] = {"share": data.synthetic_fraction, "mode": data.mode.value}
        if data.mode is MixMode.pretrain:
            mixed["pretrain_fraction"] = data.pretrain_fraction
        if data.control is not Control.none:
            mixed["control"] = data.control.value
        if data.uses_pools:
            mixed["pools"] = dict(pools)
        return {"mix": mixed} | self._class_balance_identity()

    def _class_balance_identity(self) -> dict[str, str]:
        """By which images a loss is balanced, where earlier versions counted others."""
        balanced = self.classifier.class_weighting is ClassWeighting.balanced
        pretrained = self.data.mode is MixMode.pretrain
        return {"balanced_by": "real images"} if balanced and pretrained else {}

    def select_cohort(self, cohort: Manifest) -> Manifest:
        """What of the cohort this trains, validates and tests on."""
        data = self.data
        return select_cohort(
            cohort,
            leave_out=data.leave_out,
            real_fraction=data.real_fraction,
            seed=self.seed,
            size_matched=data.control is Control.size_matched,
        )

    def required_per_class(self, cohort: Manifest, *, n_pools: int = 1) -> dict[str, int]:
        """Images of each class that each pool must hold."""
        real, data = self.select_cohort(cohort).split("train"), self.data
        return required_per_class(
            real, synthetic_fraction=data.synthetic_fraction, mode=data.mode, n_pools=n_pools
        )

    def select_pool_rows(
        self, cohort: Manifest, pools: Mapping[str, Manifest]
    ) -> dict[str, Manifest]:
        """The rows that this takes from each pool."""
        data = self.data
        _, *taken = mix(
            self.select_cohort(cohort).split("train"),
            pools,
            synthetic_fraction=data.synthetic_fraction,
            mode=data.mode,
            seed=self.seed,
            control=data.control,
        )
        return dict(zip(pools, taken, strict=True))

    def build_datamodule(
        self,
        cohort: Manifest,
        synthetic: Mapping[str, Manifest] | None = None,
        learning_records: Mapping[str, LearningRecord | None] | None = None,
    ) -> "XrayDataModule":
        """The images as loaders; `learned` are the records of what the generators have seen."""
        from xraysynth.training.datamodule import XrayDataModule

        return XrayDataModule(
            real=cohort,
            synthetic=synthetic or {},
            learning_records=learning_records,
            recipe=self.data,
            size_px=self.size_px,
            cache_folder=self.cache,
            seed=self.seed,
        )

    def fit(
        self, datamodule: "XrayDataModule", folder: Path, *, logger: Any = None
    ) -> tuple["XrayClassifier", FitSummary]:
        """The trained classifier, and how it went; a training that was killed goes on in `folder`.

        The facts name the file that the weights are to be saved in (`XrayClassifier.save`), by one of
        the processes that train together.
        """
        from xraysynth.training.classifier import XrayClassifier
        from xraysynth.training.fitting import fit

        module = XrayClassifier(
            classes=list(self.classes),
            recipe=to_json(self.classifier),
            max_steps=self.trainer.max_steps,
            class_counts=datamodule.class_counts,
            seed=self.seed,
        )
        fitted = fit(module, datamodule, self.trainer, folder=folder, logger=logger)
        return module, FitSummary(
            kept_step=fitted.step,
            optimiser_steps=int(fitted.history[-1]["step"]),
            first_real_step=fitted.first_real_step,
            fit_seconds=None if fitted.seconds is None else round(fitted.seconds, 2),
            processes=fitted.processes,
            weights=str(folder / WEIGHTS_FILE),
            history=fitted.history,
        )


def compute_pool_digests(pools: Mapping[str, Manifest]) -> dict[str, str]:
    """Pool -> digest of its images' ids and SHA-256, in the order of ids."""
    digests = {}
    for name, images in pools.items():
        rows = images.table[["image_id", "sha256"]].sort_values("image_id")
        digests[name] = digest(rows.to_numpy().tolist())
    return digests


def restart_if_pools_changed(folder: Path, pool_digests: Mapping[str, str]) -> None:
    """Resume only a training that has seen these pools (name to digest), or does not say what."""
    path = folder / POOL_DIGESTS_FILE
    if path.exists() and json.loads(path.read_text()) != pool_digests:
        delete_checkpoints(folder)
    write_atomically(path, json.dumps(pool_digests).encode())


def delete_checkpoints(folder: Path) -> None:
    """Delete what was only needed to resume."""
    for name in ("last.ckpt", "best.safetensors", POOL_DIGESTS_FILE):
        (folder / name).unlink(missing_ok=True)


def count_training_images(trained_on: Sequence[Manifest]) -> ImageCounts:
    """What a classifier was trained on: its real rows first, then repeats or rows of pools."""
    real, *others = trained_on
    synthetic = [int(part.table["is_synthetic"].sum()) for part in others]
    return ImageCounts(
        real_images=len(real),
        real_repeats=sum(map(len, others)) - sum(synthetic),
        synthetic_images=sum(synthetic),
    )


def assign_label_fidelity_splits(
    cohort: Manifest, external: Manifest | None, *, min_per_class: int
) -> Manifest:
    """The images of a judge: the cohort's test patients train it, its train patients test it.

    So it has seen no patient whom a generator may have learned from. An external set that holds
    `minimum` images of every class trains it in their place, so that it comes from other sources.
    """
    table = cohort.table
    training = table[table["split"] == "test"]
    if external is not None and min(external.class_counts().values()) >= min_per_class:
        training = external.table
    parts = [
        training.assign(split="train"),
        table[table["split"] == "val"],
        table[table["split"] == "train"].assign(split="test"),
    ]
    return replace(cohort, table=pd.concat(parts, ignore_index=True))
