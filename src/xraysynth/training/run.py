"""One training of a classifier: its options, its images, its identity, and what is recorded of it."""

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

if TYPE_CHECKING:  # wrong options are refused without importing torch
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

WEIGHTS_FILE = "classifier.safetensors"
POOL_DIGESTS_FILE = "pools.json"
"""File next to a training's checkpoint, with the digests of the synthetic images it trains on."""

_MIXING_OPTIONS = ("synthetic_fraction", "mode", "control", "pretrain_fraction")
"""Options without effect on a training with real images only."""


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """How a training went, as its run.json has it.

    Attributes:
        kept_step: Optimiser step after which the classifier had the saved weights.
        optimiser_steps: Steps that were taken.
        weights: Path of the weights file.
        history: One entry per validation.
        first_real_step: Number of steps before the first on real images.
        fit_seconds: Time of all sessions together; None if unknown.
        processes: How many processes trained together.
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
    """Training images by kind.

    Attributes:
        real_images: Distinct real images.
        real_repeats: Repeats of real images, in the duplicate control.
        synthetic_images: Images of pools.
    """

    real_images: int = 0
    real_repeats: int = 0
    synthetic_images: int = 0


@dataclass(frozen=True)
class Training:
    """What decides the weights of a classifier, apart from the images.

    Attributes:
        classes: The class vocabulary.
        data: Which images are trained on.
        classifier: The model and how it is optimised.
        trainer: How long it is trained.
        size_px: Side of the square images.
        seed: Decides the rows, the weights, the batches and the augmentation.
        cache: Folder of decoded pixels; it has no effect on the weights.
    """

    classes: Sequence[str]
    data: DataRecipe
    classifier: ClassifierRecipe
    trainer: TrainerRecipe
    size_px: int
    seed: int
    cache: Path

    def with_real_images_only(self, seed: int | None = None) -> "Training":
        """Returns the training of the real-only arm; `seed` None keeps the seed."""
        real_only_seed = self.seed if seed is None else seed
        return replace(self, data=self.data.with_real_images_only(), seed=real_only_seed)

    def for_label_fidelity(self) -> "Training":
        """Returns the training of the label-fidelity classifier: real images only, all steps."""
        trainer = replace(self.trainer, keep=KeptWeights.last, patience=0)
        return replace(self.with_real_images_only(), trainer=trainer)

    def identity(self, cohort: Manifest) -> dict[str, Any]:
        """Returns what decides the weights of a classifier that is trained on real images only."""
        data = to_json(self.data)
        for name in ("cache", *_MIXING_OPTIONS):
            del data[name]
        trainer = to_json(self.trainer)
        for name in ("accelerator", "devices"):
            del trainer[name]
        return {
            "cohort": cohort.digest(),
            "size_px": self.size_px,
            "seed": self.seed,
            "data": data,
            "classifier": to_json(self.classifier),
            "trainer": trainer,
        }

    def mixing_identity(self, pools: Mapping[str, str]) -> dict[str, Any]:
        """Returns what else decides the weights if synthetic images are mixed in, or real ones repeated.

        Args:
            pools: Key of the pool by generator.
        """
        data = self.data
        if data.control is Control.size_matched:
            return {"mix": {"control": data.control.value}}
        if data.synthetic_fraction == 0:
            return {"mix": {}}
        mix_identity: dict[str, Any] = {"share": data.synthetic_fraction, "mode": data.mode.value}
        if data.mode is MixMode.pretrain:
            mix_identity["pretrain_fraction"] = data.pretrain_fraction
        if data.control is not Control.none:
            mix_identity["control"] = data.control.value
        if data.uses_pools:
            mix_identity["pools"] = dict(pools)
        return {"mix": mix_identity} | self._class_balance_identity()

    def _class_balance_identity(self) -> dict[str, str]:
        """Returns what the loss is balanced by in mode pretrain; earlier versions used all images."""
        is_balanced = self.classifier.class_weighting is ClassWeighting.balanced
        if is_balanced and self.data.mode is MixMode.pretrain:
            return {"balanced_by": "real images"}
        return {}

    def select_cohort(self, cohort: Manifest) -> Manifest:
        """Selects the rows of the cohort that this training trains, validates and tests on."""
        data = self.data
        return select_cohort(
            cohort,
            leave_out=data.leave_out,
            real_fraction=data.real_fraction,
            seed=self.seed,
            size_matched=data.control is Control.size_matched,
        )

    def required_per_class(self, cohort: Manifest, *, n_pools: int = 1) -> dict[str, int]:
        """Returns the number of images of each class that each of `n_pools` pools must hold."""
        return required_per_class(
            self.select_cohort(cohort).split("train"),
            synthetic_fraction=self.data.synthetic_fraction,
            mode=self.data.mode,
            n_pools=n_pools,
        )

    def select_pool_rows(
        self, cohort: Manifest, pools: Mapping[str, Manifest]
    ) -> dict[str, Manifest]:
        """Selects the rows of each pool that this training trains on."""
        _, *pool_rows = mix(
            self.select_cohort(cohort).split("train"),
            pools,
            synthetic_fraction=self.data.synthetic_fraction,
            mode=self.data.mode,
            seed=self.seed,
            control=self.data.control,
        )
        return dict(zip(pools, pool_rows, strict=True))

    def build_datamodule(
        self,
        cohort: Manifest,
        synthetic: Mapping[str, Manifest] | None = None,
        learning_records: Mapping[str, LearningRecord | None] | None = None,
    ) -> "XrayDataModule":
        """Returns the images as loaders.

        Args:
            cohort: The real images, all splits.
            synthetic: Pools by generator.
            learning_records: By generator, the record of what it has seen.
        """
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
        """Trains a classifier; a training that was killed in `folder` resumes.

        Returns:
            The classifier, and how it went. `FitSummary.weights` names the file in which one of the
            processes that trained together has to save it, with `XrayClassifier.save`.
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
        result = fit(module, datamodule, self.trainer, folder=folder, logger=logger)
        return module, FitSummary(
            kept_step=result.step,
            optimiser_steps=int(result.history[-1]["step"]),
            first_real_step=result.first_real_step,
            fit_seconds=None if result.seconds is None else round(result.seconds, 2),
            processes=result.processes,
            weights=str(folder / WEIGHTS_FILE),
            history=result.history,
        )


def compute_pool_digests(pools: Mapping[str, Manifest]) -> dict[str, str]:
    """Returns, by pool, the digest of the ids and SHA-256 of its images, in the order of ids."""
    digests = {}
    for name, pool in pools.items():
        rows = pool.table[["image_id", "sha256"]].sort_values("image_id")
        digests[name] = digest(rows.to_numpy().tolist())
    return digests


def restart_if_pools_changed(folder: Path, pool_digests: Mapping[str, str]) -> None:
    """Deletes the checkpoint of a training that has seen other images of its pools, and records these.

    A checkpoint without a record of its pools stays; one with a damaged record is deleted.
    `pool_digests` come from `compute_pool_digests`.
    """
    path = folder / POOL_DIGESTS_FILE
    if path.exists() and _read_pool_digests(path) != pool_digests:
        delete_checkpoints(folder)
    write_atomically(path, json.dumps(pool_digests).encode())


def _read_pool_digests(path: Path) -> Any:
    """Reads the record of `restart_if_pools_changed`; None if it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def delete_checkpoints(folder: Path) -> None:
    """Deletes the files of a training that only resuming needs."""
    for name in ("last.ckpt", "last.ckpt.sha256", "best.safetensors", POOL_DIGESTS_FILE):
        (folder / name).unlink(missing_ok=True)


def count_training_images(trained_on: Sequence[Manifest]) -> ImageCounts:
    """Counts the training images of `XrayDataModule.train_manifests` by kind."""
    real, *pools_or_repeats = trained_on
    n_synthetic = 0
    for manifest in pools_or_repeats:
        n_synthetic += int(manifest.table["is_synthetic"].sum())
    return ImageCounts(
        real_images=len(real),
        real_repeats=sum(map(len, pools_or_repeats)) - n_synthetic,
        synthetic_images=n_synthetic,
    )


def assign_label_fidelity_splits(
    cohort: Manifest, external: Manifest | None, *, min_per_class: int
) -> Manifest:
    """Splits real images for the label-fidelity classifier.

    The test patients of the cohort train it, and the train patients test it: it has seen no patient
    whom a generator may have been fine-tuned on. An external test set with `min_per_class` images
    of every class trains it instead, so that it comes from other sources.
    """
    table = cohort.table
    training = table[table["split"] == "test"]
    if external is not None and min(external.class_counts().values()) >= min_per_class:
        training = external.table
    val = table[table["split"] == "val"]
    test = table[table["split"] == "train"]
    splits = [training.assign(split="train"), val, test.assign(split="test")]
    return replace(cohort, table=pd.concat(splits, ignore_index=True))
