"""Decoded images as a data set, and the batches of every step."""

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

    `parts` are `(pixels, rows, targets)`: an array `(N, H, W)` uint8, which of its rows belong
    to the data set, and their class indices.
    """

    def __init__(self, subsets: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        self._arrays = [array for array, _, _ in subsets]
        self._part: np.ndarray = np.repeat(
            np.arange(len(subsets)), [len(rows) for _, rows, _ in subsets]
        )
        self._row = np.concatenate([rows for _, rows, _ in subsets])
        self.targets = np.concatenate([targets for _, _, targets in subsets])

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
        pretrain_phase: tuple[int, int] = (0, 0),
    ) -> None:
        self._size, self._seed, self._start = batch_size, seed, start
        self._rank, self._world = shard
        row, self._first_steps = pretrain_phase
        self._first = np.arange(row, n_images)
        self._rest = np.arange(row if self._first_steps else n_images)

    def __iter__(self) -> Iterator[list[int]]:
        step = self._start()
        if step < self._first_steps:
            yield from islice(self._iter_batches(self._first, step), self._first_steps - step)
        yield from self._iter_batches(self._rest, max(0, step - self._first_steps))

    def _iter_batches(self, rows: np.ndarray, step: int) -> Iterator[list[int]]:
        epoch, offset = divmod(step * self._size, len(rows))
        stream = self._shuffle(rows, epoch)[offset:]
        while True:
            while len(stream) < self._size:
                epoch += 1
                stream = np.concatenate([stream, self._shuffle(rows, epoch)])
            yield stream[self._rank : self._size : self._world].tolist()
            stream = stream[self._size :]

    def _shuffle(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        return np.random.default_rng(derive_seed(self._seed, "epoch", epoch)).permutation(rows)


def sequential_loader(
    dataset: XrayDataset, *, batch_size: int = 64, rows: range | None = None
) -> DataLoader[Any]:
    """Every image once, or those of `rows`, in the order of the data set."""
    wanted = range(len(dataset)) if rows is None else rows
    batches = BatchSampler(wanted, max(64, batch_size), drop_last=False)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=identity_collate)


def identity_collate(batch: Any) -> Any:
    return batch
