"""The images of an arm as data loaders; files are decoded once, and augmented on the device."""

from collections import Counter
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
from xraysynth.training.mixing import classes_without_images, mix, select_cohort
from xraysynth.training.recipe import Control, DataRecipe, MixMode, PixelCache


class XrayDataModule(pl.LightningDataModule):
    """The real splits and the synthetic pools of an arm as loaders.

    Synthetic images are used for training only. Files are decoded when a loader first needs them.

    Args:
        real: The cohort, with the splits train, val and test.
        synthetic: Pools by name.
        recipe: Which rows of the cohort are used (`mixing.select_cohort`), how many images of the
            pools are mixed in (`mixing.mix`), and how training images are augmented.
        size_px: Side of the square images.
        cache_folder: Folder of decoded pixels.
        seed: Decides which rows are used, how they are batched and how they are augmented.
        learning_records: By pool, the record of what its generator has seen; None for a generator
            that was not fine-tuned.

    Attributes:
        train_manifests: The real training rows, followed by those of each pool, or by the repeats.

    Raises:
        LeakageError: A pool contains patients or images of the validation or test split, or its
            generator was fine-tuned on them or on the data set that is left out.
        ConfigError: A split has no image of a class, or the recipe cannot be met.
        PoolError: A pool holds too few images.
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
        require_no_contamination(real, synthetic, learning_records)
        require_left_out_unseen(recipe.leave_out, learning_records)
        cohort = select_cohort(
            real,
            leave_out=recipe.leave_out,
            real_fraction=recipe.real_fraction,
            seed=seed,
            size_matched=recipe.control is Control.size_matched,
        )
        real_train = _split_with_all_classes(cohort, "train")
        val = _split_with_all_classes(cohort, "val")
        test = _split_with_all_classes(cohort, "test")
        self.train_manifests = self._mix_training_images(real_train, synthetic)
        self._manifests = [real, *synthetic.values()]
        self._pixels: dict[int, np.ndarray] = {}
        # Pairs a subset with the position of its manifest in `_manifests`; repeats are real images.
        has_repeats = recipe.control is Control.duplicate
        train_numbers = [0, 0] if has_repeats else range(len(self.train_manifests))
        self._subsets = {
            "train": list(zip(train_numbers, self.train_manifests, strict=True)),
            "val": [(0, val)],
            "test": [(0, test)],
        }

    def _mix_training_images(
        self, real_train: Manifest, synthetic: Mapping[str, Manifest]
    ) -> list[Manifest]:
        return mix(
            real_train,
            synthetic,
            synthetic_fraction=self.recipe.synthetic_fraction,
            mode=self.recipe.mode,
            seed=self.seed,
            control=self.recipe.control,
        )

    @property
    def class_counts(self) -> list[int]:
        """Training images per class, in vocabulary order, for the class weights of the loss.

        In mode pretrain, where no batch contains both kinds of image, only the real ones count.
        """
        mixes_batches = self.recipe.mode is not MixMode.pretrain
        counted = self.train_manifests if mixes_batches else self.train_manifests[:1]
        totals: Counter[str] = Counter()
        for manifest in counted:
            totals.update(manifest.class_counts())
        return [totals[label] for label in self.classes]

    @property
    def first_real_step(self) -> int:
        """Number of steps on synthetic images before the first real one; 0 unless in mode pretrain.

        Early stopping and the choice of the best weights ignore the validations of these steps.
        """
        return self._pretrain_phase()[1]

    def dataset(self, split: str) -> XrayDataset:
        """Returns the decoded images of `train` (real and synthetic), `val` or `test`."""
        subsets = []
        for number, subset in self._subsets[split]:
            if len(subset):
                rows = self._row_numbers(number, subset)
                subsets.append((self._load_pixels(number), rows, subset.targets))
        return XrayDataset(subsets)

    def images(self, split: str) -> list[np.ndarray]:
        """Returns pixels `(N, H, W)` uint8 for each manifest of a split; in `train`, real ones first."""
        images = []
        for number, subset in self._subsets[split]:
            images.append(self._load_pixels(number)[self._row_numbers(number, subset)])
        return images

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns endless shuffled batches, from the trainer's current step on."""
        dataset, trainer = self.dataset("train"), self.trainer
        sampler = StepSampler(
            len(dataset),
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            start=(lambda: trainer.global_step) if trainer else (lambda: 0),
            shard=self._shard,
            pretrain_phase=self._pretrain_phase(),
        )
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=identity_collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns the real validation images, in order; every process gets another part of them.

        With fewer images than processes, every process gets all of them, which changes no mean.
        """
        dataset, (rank, world) = self.dataset("val"), self._shard
        n_images = len(dataset)
        rows = range(rank, n_images, world) if n_images >= world else range(n_images)
        return sequential_loader(dataset, batch_size=self.recipe.batch_size, rows=rows)

    def test_dataloader(self) -> DataLoader[Any]:
        """Returns the real test images, in order."""
        return sequential_loader(self.dataset("test"), batch_size=self.recipe.batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Returns the real test images, in order."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments a training batch, by random numbers that seed, step and position determine."""
        trainer = self.trainer
        if not (self.recipe.augment and trainer and trainer.training):
            return batch
        seed = derive_seed(self.seed, "augment", trainer.global_step, 0)
        images = augment(batch["image"], self.recipe, seed=seed, shard=self._shard)
        return batch | {"image": images}

    @property
    def _shard(self) -> tuple[int, int]:
        """Rank of this process, and number of processes that train together."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def _pretrain_phase(self) -> tuple[int, int]:
        """Returns the first synthetic row and the number of steps on synthetic images.

        Both are 0 unless in mode pretrain.
        """
        n_real = len(self.train_manifests[0])
        n_synthetic = sum(map(len, self.train_manifests[1:]))
        if self.recipe.mode is not MixMode.pretrain or not n_synthetic:
            return 0, 0
        max_steps = self.trainer.max_steps if self.trainer else -1
        if max_steps < 2:
            raise ConfigError(
                f"data.mode=pretrain needs a trainer with max_steps of 2 or more; got {max_steps}"
            )
        pretrain_steps = max(1, round(self.recipe.pretrain_fraction * max_steps))
        return n_real, min(max_steps - 1, pretrain_steps)

    def _load_pixels(self, number: int) -> np.ndarray:
        # Whole manifests are decoded, so that all fractions and seeds of a study share one cache.
        if number not in self._pixels:
            self._pixels[number] = load_cached_pixels(
                self._manifests[number],
                size_px=self.size_px,
                folder=self._cache_folder,
                memory_mapped=self.recipe.cache is PixelCache.memmap,
            )
        return self._pixels[number]

    def _row_numbers(self, number: int, subset: Manifest) -> np.ndarray:
        # Rows are matched by path: a repeat has another id, but the same file.
        paths = self._manifests[number].table["path"]
        row_of_path = dict(zip(paths, range(len(paths)), strict=True))
        return np.array([row_of_path[path] for path in subset.table["path"]], np.int64)


def _split_with_all_classes(cohort: Manifest, name: str) -> Manifest:
    """Returns a split of the cohort, which must have images of every class."""
    split = cohort.split(name)
    empty = classes_without_images(split.class_counts())
    if empty:
        raise ConfigError(
            f"the {name} split of {cohort.folder} has no image of {format_some(empty)}; give every "
            "class images in train, val and test, or take the class out of `classes`"
        )
    return split
