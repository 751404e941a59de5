"""Manifests to batches: pixels decoded once, batches taken whole, augmentation on the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from xraysynth.data.leakage import check_firewall, check_left_out
from xraysynth.data.pixels import pixels
from xraysynth.errors import ConfigError, some
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord
from xraysynth.seeds import derive_seed
from xraysynth.training.mixing import mix, usable
from xraysynth.training.recipe import Cache, Control, DataRecipe, MixMode

Batch = dict[str, torch.Tensor]
"""`image` `(B, 1, H, W)` float32 in [0, 1], `target` `(B,)` int64, `index` `(B,)` int64."""


class XrayDataset(Dataset[Any]):
    """Rows of decoded arrays, read a whole batch at a time.

    `parts` are `(pixels, rows, targets)`: an array `(N, H, W)` uint8, which of its rows belong
    to the data set, and their class indices.
    """

    def __init__(self, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        self._arrays = [array for array, _, _ in parts]
        self._part: np.ndarray = np.repeat(
            np.arange(len(parts)), [len(rows) for _, rows, _ in parts]
        )
        self._row = np.concatenate([rows for _, rows, _ in parts])
        self.targets = np.concatenate([targets for _, _, targets in parts])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these rows."""
        chosen = np.asarray(indices)
        images = np.empty((len(chosen), *self._arrays[0].shape[1:]), np.uint8)
        for number, array in enumerate(self._arrays):
            here = self._part[chosen] == number
            images[here] = array[self._row[chosen[here]]]
        return {
            "image": torch.from_numpy(images).unsqueeze(1).float().div_(255),
            "target": torch.from_numpy(self.targets[chosen]),
            "index": torch.from_numpy(chosen),
        }


class StepSampler(Sampler[list[int]]):
    """Endless batches; the batch of a step depends on the seed and the step alone.

    The data set is reshuffled on every pass and passes follow each other without a gap, so every
    arm of a study takes the same number of equally large steps however many images it has.
    `start` gives the step to begin with. `batch_size` counts the images of all processes, and rank
    `r` of `world` gets every `world`-th of them from the `r`-th on.
    With `first=(row, steps)` the first `steps` steps draw from the images from `row` on alone, and
    all later ones from those before it alone.
    """

    def __init__(
        self,
        n_images: int,
        *,
        batch_size: int,
        seed: int,
        start: Callable[[], int] = lambda: 0,
        shard: tuple[int, int] = (0, 1),
        first: tuple[int, int] = (0, 0),
    ) -> None:
        self._size, self._seed, self._start = batch_size, seed, start
        self._rank, self._world = shard
        row, self._first_steps = first
        self._first = np.arange(row, n_images)
        self._rest = np.arange(row if self._first_steps else n_images)

    def __iter__(self) -> Iterator[list[int]]:
        step = self._start()
        if step < self._first_steps:
            yield from islice(self._batches(self._first, step), self._first_steps - step)
        yield from self._batches(self._rest, max(0, step - self._first_steps))

    def _batches(self, rows: np.ndarray, step: int) -> Iterator[list[int]]:
        epoch, offset = divmod(step * self._size, len(rows))
        stream = self._shuffled(rows, epoch)[offset:]
        while True:
            while len(stream) < self._size:
                epoch += 1
                stream = np.concatenate([stream, self._shuffled(rows, epoch)])
            yield stream[self._rank : self._size : self._world].tolist()
            stream = stream[self._size :]

    def _shuffled(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        return np.random.default_rng(derive_seed(self._seed, "epoch", epoch)).permutation(rows)


def augment(
    images: torch.Tensor, recipe: DataRecipe, *, seed: int, shard: tuple[int, int] = (0, 1)
) -> torch.Tensor:
    """Each image of `(B, 1, H, W)` in [0, 1] turned, scaled, shifted, re-exposed and made noisy.

    Of a batch that processes share, `images` are those of shard (rank, world): all of it is drawn
    for, so that an image is changed in the same way whichever process it comes to.
    """
    random = torch.Generator(images.device).manual_seed(seed)
    rank, world = shard
    n = len(images) * world

    def uniform(magnitude: float, *shape: int) -> torch.Tensor:  # in plus or minus magnitude
        drawn = torch.rand((n, *shape), generator=random, device=images.device)[rank::world]
        return (2 * drawn - 1) * magnitude

    angle = torch.deg2rad(uniform(recipe.rotation))
    zoom = 1 + uniform(recipe.scale)
    mirror = uniform(1.0).sign() if recipe.horizontal_flip else torch.ones_like(zoom)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # Coordinates span [-1, 1], two per side: a shift by a fraction of the side is twice as large.
    shift = 2 * uniform(recipe.translation, 2)
    rows = [cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]]
    grid = _affine_grid(torch.stack(rows, 1), *images.shape[2:])
    moved = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    contrast = 1 + uniform(recipe.contrast, 1, 1, 1)
    offset = 0.5 * (1 - contrast) + uniform(recipe.brightness, 1, 1, 1)
    noise = torch.randn((n, *images.shape[1:]), generator=random, device=images.device)
    noise = noise[rank::world].mul_(uniform(recipe.noise, 1, 1, 1).abs())
    return noise.addcmul_(moved, contrast).add_(offset).clamp_(0, 1)


def _affine_grid(matrices: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """`F.affine_grid` of `(B, 6)` matrices, six times as fast on a CPU by broadcasting."""
    device = matrices.device
    x = (2 * torch.arange(width, device=device) + 1) / width - 1
    y = ((2 * torch.arange(height, device=device) + 1) / height - 1)[:, None]
    m = matrices[:, :, None, None]  # (B, 6, 1, 1)
    grid = torch.empty(len(matrices), height, width, 2, device=device)
    grid[..., 0] = (m[:, 0] * x + m[:, 2]) + m[:, 1] * y
    grid[..., 1] = (m[:, 3] * x + m[:, 5]) + m[:, 4] * y
    return grid


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
        learned: Mapping[str, LearningRecord | None] | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.size_px, self.seed = recipe, size_px, seed
        self.classes = list(real.classes)
        self._cache_folder = Path(cache_folder)
        self._wholes = [real, *synthetic.values()]
        check_firewall(real, synthetic, learned)
        check_left_out(recipe.leave_out, learned)
        used = usable(
            real,
            leave_out=recipe.leave_out,
            real_fraction=recipe.real_fraction,
            seed=seed,
            size_matched=recipe.control is Control.size_matched,
        )
        train, val, test = (_split(used, name) for name in ("train", "val", "test"))
        chosen = mix(
            train,
            synthetic,
            share=recipe.share,
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
        counts = [manifest.counts() for manifest in (real, *(synthetic if mixed else ()))]
        return [sum(count[label] for count in counts) for label in self.classes]

    def dataset(self, split: str) -> XrayDataset:
        """The decoded images of `train` (mixed), `val` or `test`."""
        wanted = [(n, part) for n, part in self._wanted[split] if len(part)]
        return XrayDataset([(self._pixels(n), self._rows(n, p), p.targets) for n, p in wanted])

    def images(self, split: str) -> list[np.ndarray]:
        """Pixels `(N, H, W)` uint8 of each manifest of a split; of `train`, the real ones first."""
        return [self._pixels(n)[self._rows(n, part)] for n, part in self._wanted[split]]

    def _pixels(self, number: int) -> np.ndarray:
        # Whole manifests are decoded, so that every share and seed of a study reads one cache.
        if number not in self._decoded:
            self._decoded[number] = pixels(
                self._wholes[number],
                size_px=self.size_px,
                folder=self._cache_folder,
                memory_mapped=self.recipe.cache is Cache.memmap,
            )
        return self._decoded[number]

    def _rows(self, number: int, part: Manifest) -> np.ndarray:
        # By path: a repeat has an id of its own, but shows the same file.
        row_of = {path: row for row, path in enumerate(self._wholes[number].table["path"])}
        return np.array([row_of[path] for path in part.table["path"]], np.int64)

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
            first=self._first(),
        )
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=_as_is)

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
        return self._first()[1]

    def _first(self) -> tuple[int, int]:
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
        return in_order(
            dataset,
            batch_size=self.recipe.batch_size,
            rows=range(rank, n, world) if n >= world else range(n),
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """The real test images, in order."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The same as `test_dataloader`."""
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader[Any]:
        return in_order(self.dataset(split), batch_size=self.recipe.batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches; the draw depends on the seed, the step and the image's place."""
        trainer = self.trainer
        if not (self.recipe.augment and trainer and trainer.training):
            return batch
        seed = derive_seed(self.seed, "augment", trainer.global_step, 0)
        images = augment(batch["image"], self.recipe, seed=seed, shard=self._shard)
        return batch | {"image": images}


def in_order(
    dataset: XrayDataset, *, batch_size: int = 64, rows: range | None = None
) -> DataLoader[Any]:
    """Every image once, or those of `rows`, in the order of the data set."""
    wanted = range(len(dataset)) if rows is None else rows
    batches = BatchSampler(wanted, max(64, batch_size), drop_last=False)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch


def _split(real: Manifest, name: str) -> Manifest:
    rows = real.split(name)
    empty = [label for label, n in rows.counts().items() if n == 0]
    if empty:
        raise ConfigError(
            f"the {name} split of {real.folder} has no image of {some(empty)}; give every class "
            "images in train, val and test, or take the class out of `classes`"
        )
    return rows
