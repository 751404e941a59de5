"""How a classifier is fitted: steps, validations, early stopping, what is kept, and going on after a kill."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    TorchElasticEnvironment,
)
from safetensors.torch import load_file
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

from xraysynth.files import atomic_path, remove_leftovers
from xraysynth.jobs.distributed import is_main, local_world_size
from xraysynth.progress import progress_bar
from xraysynth.training.classifier import XrayClassifier, process_count
from xraysynth.training.recipe import KeptWeights, TrainerRecipe

CHECKPOINT_FILE = "last.ckpt"
"""What a training that was killed goes on from."""


MONITOR = "val/macro_f1"
"""What decides early stopping and the best weights, on real validation images only."""


@dataclass(frozen=True)
class FitResult:
    """How training went.

    `score` is the validation score of the weights kept, `step` the optimiser step that they are of.
    `seconds` is the time of training, that before an interruption included; None where that is not
    known. `history` has every validation. `first_real_step` is the number of steps before the first
    that showed real images: up to it no validation counts.
    """

    score: float
    step: int
    seconds: float | None
    history: list[dict[str, float]]
    processes: int
    first_real_step: int = 0


def fit(
    module: XrayClassifier,
    datamodule: pl.LightningDataModule,
    recipe: TrainerRecipe,
    *,
    folder: Path,
    logger: Logger | None = None,
) -> FitResult:
    """Train `module`, and leave the weights that `recipe.keep` asks for in it.

    Of a data module that says so (`first_real_step`), patience and the best weights are counted
    from the first step that shows real images on.

    `folder` gets `best.safetensors` and `last.ckpt`. A run that was killed and is started again
    with the same folder goes on from `last.ckpt`, also in another number of processes.

    All processes of a process group train together (DDP), and the first one writes: its module and
    its result count. Steps, learning rates, images and their augmentation are those of one process,
    and so is the gradient, but for two things: dropout, and the statistics of BatchNorm, which are
    those of the whole batch on GPUs and of each process's images on CPUs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keeper = _FitRecorder(folder)
    if process_count() > 1 and not runs_on_cpu(
        recipe
    ):  # Lightning's own loses timm's fused activations
        module.backbone = convert_sync_batchnorm(module.backbone)  # type: ignore[no-untyped-call]
    with (
        _silence_lightning(),
        torch.random.fork_rng(),
        _progress_callbacks(recipe.max_steps) as bars,
    ):
        trainer = _create_trainer(recipe, [*bars, *_early_stopping(recipe), keeper], logger)
        last = folder / CHECKPOINT_FILE
        resume = str(last) if last.exists() else None
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        if not keeper.history or keeper.history[-1]["step"] < trainer.global_step:
            trainer.validate(module, datamodule=datamodule, verbose=False)
    kept = keeper.history[-1]
    if (
        recipe.keep is KeptWeights.best and keeper.best_validation is not None
    ):  # the last validation counts always
        kept = keeper.best_validation
        if trainer.is_global_zero:
            module.load_state_dict(load_file(folder / "best.safetensors"))
    return FitResult(
        score=kept[MONITOR],
        step=int(kept["step"]),
        seconds=keeper.seconds,
        history=keeper.history,
        processes=process_count(),
        first_real_step=keeper.first_real_step,
    )


def runs_on_cpu(recipe: TrainerRecipe) -> bool:
    """Whether training runs without a GPU."""
    return recipe.accelerator == "cpu" or not torch.cuda.is_available()


def _create_trainer(
    recipe: TrainerRecipe, callbacks: list[Callback], logger: Logger | None
) -> pl.Trainer:
    auto = "32-true" if runs_on_cpu(recipe) else "bf16-mixed"
    return pl.Trainer(
        max_steps=recipe.max_steps,
        val_check_interval=min(recipe.val_every_steps, recipe.max_steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        precision=auto if recipe.precision == "auto" else recipe.precision,  # type: ignore[arg-type]
        accelerator=recipe.accelerator,
        deterministic="warn",
        callbacks=callbacks,
        logger=logger or False,
        use_distributed_sampler=False,  # the data module shards its own batches
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **_distributed_options(),
    )


def _distributed_options() -> dict[str, Any]:
    """How Lightning finds the processes that train together: they and their group are there."""
    if process_count() == 1:
        return {"devices": 1}
    here = local_world_size()
    return {
        "devices": here,
        "num_nodes": process_count() // here,
        "strategy": "ddp",
        "plugins": [TorchElasticEnvironment()],
    }


def _early_stopping(recipe: TrainerRecipe) -> list[Callback]:
    if not recipe.patience:
        return []
    return [_RealImageEarlyStopping(MONITOR, mode="max", patience=recipe.patience)]


def _get_first_real_step(trainer: pl.Trainer) -> int:
    """Of the data module that is trained on; 0 where it knows no phases."""
    return int(getattr(trainer.datamodule, "first_real_step", 0))  # type: ignore[attr-defined]


class _RealImageEarlyStopping(EarlyStopping):
    """Early stopping that overlooks the scores of weights which have seen no real image."""

    @property
    def state_key(self) -> str:
        # The name that Lightning gives the class it derives from: checkpoints hold it.
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step > _get_first_real_step(trainer):
            super().on_validation_end(trainer, pl_module)


class _FitRecorder(Callback):
    """Records every validation, keeps the best weights, and saves what resuming needs."""

    @property
    def state_key(self) -> str:
        # Checkpoints of earlier versions hold this name.
        return "_Keeper"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = time.monotonic()
        self._seconds_before: float | None = 0.0
        self._losses: list[torch.Tensor] = []
        self.history: list[dict[str, float]] = []
        self.first_real_step = 0

    @property
    def best_validation(self) -> dict[str, float] | None:
        """The validation with the highest score, the latest of equals, of weights that have seen
        real images; None before there are any."""
        counted = [entry for entry in self.history if entry["step"] > self.first_real_step]
        return max(reversed(counted), key=lambda entry: entry[MONITOR], default=None)

    @property
    def seconds(self) -> float | None:
        """Time of training so far, that before an interruption included; None if unknown."""
        if self._seconds_before is None:
            return None
        return self._seconds_before + time.monotonic() - self._begun

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.first_real_step = _get_first_real_step(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self._seconds_before = state_dict.get("seconds")  # earlier versions kept none

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        if trainer.global_step == self.first_real_step + 1:
            self._losses = []  # a mean over both phases would be the loss of neither
        self._losses.append(outputs["loss"].detach())

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        entry = {"step": trainer.global_step, "seconds": time.time()}
        entry |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._losses:
            own = torch.stack(self._losses).mean()
            entry["train/loss"] = float(trainer.strategy.reduce(own, reduce_op="mean"))
            self._losses = []
        self.history.append(entry)
        if self.best_validation is entry and trainer.is_global_zero:
            module.save(self._folder / "best.safetensors")
        if trainer.state.fn == "fit":
            self._save_checkpoint(trainer)

    def _save_checkpoint(self, trainer: pl.Trainer) -> None:
        path = self._folder / CHECKPOINT_FILE
        if trainer.is_global_zero:
            remove_leftovers(path)
            with atomic_path(path) as partial:
                trainer.save_checkpoint(partial)
        else:
            trainer.save_checkpoint(path)  # writes nothing, and waits for the first process


@contextmanager
def _progress_callbacks(max_steps: int) -> Iterator[list[Callback]]:
    """Progress of training; of several processes the first one shows it."""
    if not is_main():
        yield []
        return
    with progress_bar("train", max_steps, "step") as bar:
        yield [_ProgressCallback(bar)]


class _ProgressCallback(Callback):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._bar.update()


@contextmanager
def _silence_lightning() -> Iterator[None]:
    """Keep Lightning's tips about loaders, devices and intervals off the screen."""
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
