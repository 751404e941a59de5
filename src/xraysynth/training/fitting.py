"""The training loop of a classifier, with validations, early stopping and a choice of weights."""

from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from safetensors.torch import load_file

from xraysynth.environment import hidden_variables
from xraysynth.freed_memory import freed_memory_kept
from xraysynth.threads import torch_threads
from xraysynth.training.callbacks import (
    MONITOR,
    FitRecorder,
    RealImageEarlyStopping,
    ThreadChooser,
    find_checkpoint,
)
from xraysynth.training.classifier import XrayClassifier
from xraysynth.training.data_parallel import (
    process_count,
    synchronize_batchnorm,
    trainer_options,
)
from xraysynth.training.display import progress_callbacks, silence_lightning
from xraysynth.training.recipe import KeptWeights, TrainerRecipe


@dataclass(frozen=True)
class FitResult:
    """How training went.

    Attributes:
        score: Macro-F1 of the chosen weights on the validation split.
        step: Optimiser step after which the classifier had these weights.
        seconds: Time of training, before and after interruptions; None if unknown.
        history: One entry per validation: step, scores, and the training loss since the previous one.
        processes: Number of processes that trained together.
        first_real_step: Number of steps before the first on real images. Validations of these steps
            do not count for early stopping and the best weights.
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
    """Trains a classifier, which afterwards has its last or its best weights (`recipe.keep`).

    A training that was killed resumes when it is started again with the same folder, even if the
    number of processes differs.

    All processes of a process group train together (DDP); use the classifier and the result of the
    first one. Steps, learning rates, images and augmentation do not depend on the number of
    processes. Neither does the gradient, with two exceptions: dropout, and BatchNorm on CPUs, whose
    statistics are those of each process's images (on GPUs they are of the whole batch).

    Args:
        module: The classifier; it is changed in place.
        datamodule: Training and validation images. If it has a `first_real_step`, earlier
            validations do not count for patience and the best weights.
        recipe: Number of steps and validations, patience, and whether the last or best weights stay.
        folder: Folder in which `best.safetensors` and the checkpoint `last.ckpt` are written.
        logger: A Lightning logger for losses and scores.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recorder = FitRecorder(folder)
    checkpoint = find_checkpoint(folder)
    if process_count() > 1 and not runs_on_cpu(recipe):
        module.backbone = synchronize_batchnorm(module.backbone)
    with (
        silence_lightning(),
        freed_memory_kept(),
        torch.random.fork_rng(),
        torch_threads(torch.get_num_threads()),
        progress_callbacks(recipe.max_steps) as progress,
    ):
        callbacks = [ThreadChooser(), *progress, *_early_stopping(recipe), recorder]
        trainer = _create_trainer(recipe, callbacks, logger)
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        if not recorder.history or recorder.history[-1]["step"] < trainer.global_step:
            trainer.validate(module, datamodule=datamodule, verbose=False)
    validation = recorder.history[-1]
    # In mode pretrain it may be that no validation counted; the classifier then has its last weights.
    if recipe.keep is KeptWeights.best and recorder.best_validation is not None:
        validation = recorder.best_validation
        if trainer.is_global_zero:
            module.load_state_dict(load_file(recorder.best_weights()))
    return FitResult(
        score=validation[MONITOR],
        step=int(validation["step"]),
        seconds=recorder.seconds,
        history=recorder.history,
        processes=process_count(),
        first_real_step=recorder.first_real_step,
    )


def runs_on_cpu(recipe: TrainerRecipe) -> bool:
    """Returns whether training runs without a GPU."""
    return recipe.accelerator == "cpu" or not torch.cuda.is_available()


def _create_trainer(
    recipe: TrainerRecipe, callbacks: list[Callback], logger: Logger | None
) -> pl.Trainer:
    default_precision = "32-true" if runs_on_cpu(recipe) else "bf16-mixed"
    precision = default_precision if recipe.precision == "auto" else recipe.precision
    with hidden_variables("PL_TRAINER_"):  # by which Lightning would fill in what is not given here
        return pl.Trainer(
            max_steps=recipe.max_steps,
            val_check_interval=min(recipe.val_every_steps, recipe.max_steps),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            precision=precision,  # type: ignore[arg-type]  # the recipe allows no other
            accelerator=recipe.accelerator,
            deterministic="warn",
            callbacks=callbacks,
            logger=logger or False,
            use_distributed_sampler=False,  # the data module shards its own batches
            enable_checkpointing=False,  # `FitRecorder` writes atomically
            enable_progress_bar=False,
            enable_model_summary=False,
            **trainer_options(),
        )


def _early_stopping(recipe: TrainerRecipe) -> list[Callback]:
    if not recipe.patience:
        return []
    return [RealImageEarlyStopping(MONITOR, mode="max", patience=recipe.patience)]
