"""Decoded images as a data set, and the batch of every training step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from xraysynth.seeds import derive_seed

Batch = dict[str, torch.Tensor]
"""`image` `(B, 1, H, W)` float32 in [0, 1], `target` `(B,)` int64, `index` `(B,)` int64."""


class XrayDataset(Dataset[Any]):
    """Rows of decoded arrays, read a whole batch at a time.

    Args:
        subsets: One (pixels, rows, targets) per manifest: pixels `(N, H, W)` uint8, the numbers
            `(n,)` of its rows that belong to the data set, and their class indices `(n,)`.

    Attributes:
        targets: `(N,)` int64 class indices of all rows, subset after subset.
    """

    def __init__(self, subsets: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        arrays, rows, targets = zip(*subsets, strict=True)
        self._arrays: Sequence[np.ndarray] = arrays
        self._subset: np.ndarray = np.repeat(np.arange(len(subsets)), list(map(len, rows)))
        self._row = np.concatenate(rows)
        self.targets = np.concatenate(targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Returns the rows as one batch; torch calls this with all indices of a batch."""
        index = np.asarray(indices)
        images = np.empty((len(index), *self._arrays[0].shape[1:]), np.uint8)
        for number, array in enumerate(self._arrays):
            in_subset = self._subset[index] == number
            images[in_subset] = array[self._row[index[in_subset]]]
        return {
            "image": torch.from_numpy(images).unsqueeze(1).float().div_(255),
            "target": torch.from_numpy(self.targets[index]),
            "index": torch.from_numpy(index),
        }


class StepSampler(Sampler[list[int]]):
    """Endless batches of row numbers; a batch depends on the seed and the step alone.

    The data set is reshuffled for every epoch, and epochs follow each other without a gap: every
    arm of a study takes the same number of equally large steps however many images it has.

    Args:
        n_images: Size of the data set.
        batch_size: Images of a step, all processes together.
        seed: Decides the shuffling.
        start: Returns the step to begin with; asked when iteration starts.
        shard: (rank, world): the process of this rank gets every `world`-th image of a batch, from
            number `rank` on.
        pretrain_phase: (first_row, steps): the first `steps` steps draw only from the rows from
            `first_row` on, and all later steps only from the rows before it.
    """

    def __init__(
        self,
        n_images: int,
        *,
        batch_size: int,
        seed: int,
        start: Callable[[], int] = lambda: 0,
        shard: tuple[int, int] = (0, 1),
        pretrain_phase: tuple[int, int] = (0, 0),
    ) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self._start = start
        self._rank, self._world = shard
        first_pretrain_row, self._pretrain_steps = pretrain_phase
        self._pretrain_rows = np.arange(first_pretrain_row, n_images)
        self._main_rows = np.arange(first_pretrain_row if self._pretrain_steps else n_images)

    def __iter__(self) -> Iterator[list[int]]:
        step = self._start()
        pretrain_steps_left = self._pretrain_steps - step
        if pretrain_steps_left > 0:
            yield from islice(self._iter_batches(self._pretrain_rows, step), pretrain_steps_left)
        yield from self._iter_batches(self._main_rows, max(0, step - self._pretrain_steps))

    def _iter_batches(self, rows: np.ndarray, step: int) -> Iterator[list[int]]:
        """Yields batches from this step of a phase on; `rows` are the images of the phase."""
        epoch, n_shown = divmod(step * self._batch_size, len(rows))
        stream = self._shuffle(rows, epoch)[n_shown:]
        while True:
            while len(stream) < self._batch_size:
                epoch += 1
                stream = np.concatenate([stream, self._shuffle(rows, epoch)])
            yield stream[self._rank : self._batch_size : self._world].tolist()
            stream = stream[self._batch_size :]

    def _shuffle(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        return np.random.default_rng(derive_seed(self._seed, "epoch", epoch)).permutation(rows)


def sequential_loader(
    dataset: XrayDataset, *, batch_size: int = 64, rows: range | None = None
) -> DataLoader[Any]:
    """Returns a loader that gives every image once, in the order of the data set.

    Args:
        dataset: The images.
        batch_size: Images of a batch; fewer than 64 count as 64, since no gradient is kept.
        rows: Row numbers to load; None loads all.
    """
    sampled_rows = range(len(dataset)) if rows is None else rows
    batches = BatchSampler(sampled_rows, max(64, batch_size), drop_last=False)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=identity_collate)


def identity_collate(batch: Any) -> Any:
    """Returns the batch unchanged: `XrayDataset` has collated it already."""
    return batch
