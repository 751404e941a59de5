"""Manifests to batches: pixels decoded once, batches taken whole, augmentation on the device."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from xraysynth.data.leakage import require_left_out_unseen, require_no_contamination
from xraysynth.data.pixels import load_cached_pixels
from xraysynth.errors import ConfigError, format_some
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord
from xraysynth.seeds import derive_seed
from xraysynth.training.augmentation import augment
from xraysynth.training.batches import (
    Batch,
    StepSampler,
    XrayDataset,
    identity_collate,
    sequential_loader,
)
from xraysynth.training.mixing import mix, select_cohort
from xraysynth.training.recipe import Control, DataRecipe, MixMode, PixelCache


class XrayDataModule(pl.LightningDataModule):
    """Real splits and synthetic pools as loaders; synthetic images are only ever trained on.

    `real` holds the splits train, val and test; `recipe` says what of them is used
    (`mixing.usable`). `synthetic` are pools by name; how many of their images are used is up to
    `recipe.share`, `recipe.mode` and `recipe.control` (`mixing.mix`). `learned` are the records of
    what the generators have seen. Files are read when a loader is first asked for.
    """

    def __init__(
        self,
        *,
        real: Manifest,
        synthetic: Mapping[str, Manifest],
        recipe: DataRecipe,
        size_px: int,
        cache_folder: Path,
        seed: int,
        learning_records: Mapping[str, LearningRecord | None] | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.size_px, self.seed = recipe, size_px, seed
        self.classes = list(real.classes)
        self._cache_folder = Path(cache_folder)
        self._wholes = [real, *synthetic.values()]
        require_no_contamination(real, synthetic, learning_records)
        require_left_out_unseen(recipe.leave_out, learning_records)
        used = select_cohort(
            real,
            leave_out=recipe.leave_out,
            real_fraction=recipe.real_fraction,
            seed=seed,
            size_matched=recipe.control is Control.size_matched,
        )
        train, val, test = (_require_split(used, name) for name in ("train", "val", "test"))
        chosen = mix(
            train,
            synthetic,
            synthetic_fraction=recipe.synthetic_fraction,
            mode=recipe.mode,
            seed=seed,
            control=recipe.control,
        )
        # Beside each manifest the number of the whole one that it is a part of: repeats are real.
        wholes = [0, 0] if recipe.control is Control.duplicate else range(len(chosen))
        self._wanted = {
            "train": list(zip(wholes, chosen, strict=True)),
            "val": [(0, val)],
            "test": [(0, test)],
        }
        self._decoded: dict[int, np.ndarray] = {}

    @property
    def train_manifests(self) -> list[Manifest]:
        """What is trained on: the real rows, then those of each pool, or their repeats."""
        return [part for _, part in self._wanted["train"]]

    @property
    def class_counts(self) -> list[int]:
        """Images per class by which a loss is balanced, in vocabulary order.

        All that are trained on; in mode pretrain, where no batch mixes them, the real ones alone.
        """
        real, *synthetic = self.train_manifests
        mixed = self.recipe.mode is not MixMode.pretrain
        counts = [manifest.class_counts() for manifest in (real, *(synthetic if mixed else ()))]
        return [sum(count[label] for count in counts) for label in self.classes]

    def dataset(self, split: str) -> XrayDataset:
        """The decoded images of `train` (mixed), `val` or `test`."""
        wanted = [(n, part) for n, part in self._wanted[split] if len(part)]
        return XrayDataset(
            [(self._load_pixels(n), self._row_indices(n, p), p.targets) for n, p in wanted]
        )

    def images(self, split: str) -> list[np.ndarray]:
        """Pixels `(N, H, W)` uint8 of each manifest of a split; of `train`, the real ones first."""
        return [self._load_pixels(n)[self._row_indices(n, part)] for n, part in self._wanted[split]]

    def _load_pixels(self, manifest_index: int) -> np.ndarray:
        # Whole manifests are decoded, so that every share and seed of a study reads one cache.
        if manifest_index not in self._decoded:
            self._decoded[manifest_index] = load_cached_pixels(
                self._wholes[manifest_index],
                size_px=self.size_px,
                folder=self._cache_folder,
                memory_mapped=self.recipe.cache is PixelCache.memmap,
            )
        return self._decoded[manifest_index]

    def _row_indices(self, manifest_index: int, subset: Manifest) -> np.ndarray:
        # By path: a repeat has an id of its own, but shows the same file.
        row_of = {path: row for row, path in enumerate(self._wholes[manifest_index].table["path"])}
        return np.array([row_of[path] for path in subset.table["path"]], np.int64)

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless augmented batches, from the trainer's current step on."""
        dataset = self.dataset("train")
        trainer = self.trainer
        sampler = StepSampler(
            len(dataset),
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            start=(lambda: trainer.global_step) if trainer else (lambda: 0),
            shard=self._shard,
            pretrain_phase=self._pretrain_phase(),
        )
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=identity_collate)

    @property
    def _shard(self) -> tuple[int, int]:
        """This process among those that train together: its rank, and how many they are."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    @property
    def first_real_step(self) -> int:
        """The optimiser steps before the first that shows real images: 0 but in mode pretrain.

        What counts scores, for early stopping or to keep the best weights, counts from there on.
        """
        return self._pretrain_phase()[1]

    def _pretrain_phase(self) -> tuple[int, int]:
        """In mode pretrain, the first synthetic row and how many steps are the synthetic images'."""
        real, *made = map(len, self.train_manifests)
        if self.recipe.mode is not MixMode.pretrain or not sum(made):
            return 0, 0
        steps = self.trainer.max_steps if self.trainer else -1
        if steps < 2:
            raise ConfigError(
                f"data.mode=pretrain needs a trainer with max_steps of 2 or more; got {steps}"
            )
        return real, min(steps - 1, max(1, round(self.recipe.pretrain_fraction * steps)))

    def val_dataloader(self) -> DataLoader[Any]:
        """The real validation images, in order; of several processes each gets a part, without repeats.

        Where there are fewer images than processes each gets all, which changes no mean.
        """
        dataset, (rank, world) = self.dataset("val"), self._shard
        n = len(dataset)
        return sequential_loader(
            dataset,
            batch_size=self.recipe.batch_size,
            rows=range(rank, n, world) if n >= world else range(n),
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """The real test images, in order."""
        return self._sequential_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The same as `test_dataloader`."""
        return self._sequential_loader("test")

    def _sequential_loader(self, split: str) -> DataLoader[Any]:
        return sequential_loader(self.dataset(split), batch_size=self.recipe.batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches; the draw depends on the seed, the step and the image's place."""
        trainer = self.trainer
        if not (self.recipe.augment and trainer and trainer.training):
            return batch
        seed = derive_seed(self.seed, "augment", trainer.global_step, 0)
        images = augment(batch["image"], self.recipe, seed=seed, shard=self._shard)
        return batch | {"image": images}


def _require_split(real: Manifest, name: str) -> Manifest:
    rows = real.split(name)
    empty = [label for label, n in rows.class_counts().items() if n == 0]
    if empty:
        raise ConfigError(
            f"the {name} split of {real.folder} has no image of {format_some(empty)}; give every class "
            "images in train, val and test, or take the class out of `classes`"
        )
    return rows
