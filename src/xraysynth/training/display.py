"""What a training shows on the screen: a progress bar, and none of Lightning's tips."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from xraysynth.jobs.distributed import is_main
from xraysynth.progress import progress_bar


@contextmanager
def progress_callbacks(max_steps: int) -> Iterator[list[Callback]]:
    """Gives the callback that moves a progress bar; of several processes only the first gets one."""
    if not is_main():
        yield []
        return
    with progress_bar("train", max_steps, "step") as bar:
        yield [_ProgressCallback(bar)]


class _ProgressCallback(Callback):
    """Moves a progress bar by one per optimiser step."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._bar.update()


@contextmanager
def silence_lightning() -> Iterator[None]:
    """Keeps Lightning's tips about loaders, devices and intervals off the screen."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        log.setLevel(level)
