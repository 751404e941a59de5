"""A timm backbone as a radiograph classifier: its training step, its file, and how it is fitted."""

import json
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    TorchElasticEnvironment,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.files import atomic_path, remove_leftovers
from xraysynth.jobs.distributed import is_main, local_world_size
from xraysynth.progress import progress
from xraysynth.records import to_json
from xraysynth.seeds import derive_seed
from xraysynth.training.recipe import ClassifierRecipe, Keep, TrainerRecipe

CHECKPOINT = "last.ckpt"
"""What a training that was killed goes on from."""

MONITOR = "val/macro_f1"
"""What decides early stopping and the best weights, on real validation images only."""


class XrayClassifier(pl.LightningModule):
    """Images `(B, 1, H, W)` in [0, 1] to class logits `(B, C)`.

    `recipe` holds the fields of `ClassifierRecipe` as plain values; `max_steps` is the length of
    the learning-rate schedule; `class_counts` are the training images per class, needed for
    balanced class weighting. Initial weights depend on `seed` alone.
    """

    def __init__(
        self,
        *,
        classes: list[str],
        recipe: dict[str, Any],
        max_steps: int,
        class_counts: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.classes = list(classes)
        self.recipe = to_json(ClassifierRecipe()) | recipe
        self.max_steps, self.seed = max_steps, seed
        self.backbone = _backbone(self.recipe, len(classes), seed)
        self.register_buffer("class_weights", self._weights(class_counts), persistent=False)
        scores: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(num_classes=len(classes), average="micro"),
            "macro_f1": MulticlassF1Score(num_classes=len(classes)),
        }
        self.scores: Any = torch.nn.ModuleDict(
            {stage: MetricCollection(dict(scores), prefix=f"{stage}/") for stage in ("val", "test")}
        )

    class_weights: torch.Tensor

    def _weights(self, class_counts: list[int] | None) -> torch.Tensor:
        if self.recipe["class_weighting"] == "none":
            return torch.ones(len(self.classes))
        if not class_counts or min(class_counts) < 1:
            raise ConfigError(
                "classifier.class_weighting=balanced needs training images of every class; got "
                f"class_counts={class_counts}"
            )
        counts = torch.tensor(class_counts, dtype=torch.float32)
        return counts.sum() / (len(counts) * counts)

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        # About the mean and deviation of ImageNet in grey, and of radiographs: fits either start.
        images = (images - 0.5) / 0.25
        images = images.expand(-1, self.recipe["channels"], -1, -1)
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, C)`."""
        logits: torch.Tensor = self.backbone(self._prepared(images))
        return logits

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled penultimate features `(B, d)`."""
        maps = self.backbone.forward_features(self._prepared(images))
        features: torch.Tensor = self.backbone.forward_head(maps, pre_logits=True)
        return features

    def _step(self, batch: Mapping[str, torch.Tensor], stage: str) -> torch.Tensor:
        logits, target = self(batch["image"]), batch["target"]
        smoothing = self.recipe["label_smoothing"] if stage == "train" else 0.0
        loss = F.cross_entropy(
            logits.float(), target, self.class_weights, label_smoothing=smoothing
        )
        if stage == "train":
            return loss * self._part_of_batch(target)
        self.scores[stage].update(logits, target)
        self.log_dict(self.scores[stage], on_step=False, on_epoch=True)
        # A mean weighted by class: that over all batches does not depend on how they are cut.
        options: Any = {"sync_dist": True, "batch_size": self.class_weights[target].sum().item()}
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, **options)
        return loss

    def _part_of_batch(self, target: torch.Tensor) -> torch.Tensor | float:
        """What a mean over a process's images counts in that over all: the ratio of class weights."""
        if self.recipe["class_weighting"] == "none" or _processes() == 1:
            return 1.0
        own = self.class_weights[target].sum()
        whole = own.clone()
        torch.distributed.all_reduce(whole)
        return own * _processes() / whole

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout that depends on step and process alone, so that a resumed run repeats it."""
        process = [self.global_rank] if self.global_rank else []
        torch.manual_seed(derive_seed(self.seed, "step", self.global_step, *process))

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of a training batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Score a validation batch."""
        self._step(batch, "val")

    def test_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Score a test batch."""
        self._step(batch, "test")

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip here: Lightning's own clipping refuses the fused optimiser under mixed precision."""
        if self.recipe["gradient_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), self.recipe["gradient_clip"])

    def configure_optimizers(self) -> Any:
        """AdamW without decay of norms and biases; linear warmup, then cosine to zero."""
        groups = param_groups_weight_decay(self.backbone, self.recipe["weight_decay"])
        optimizer = torch.optim.AdamW(groups, lr=self.recipe["learning_rate"], fused=True)
        warmup = max(1, round(self.recipe["warmup_fraction"] * self.max_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return float((step + 1) / warmup)
            done = (step - warmup) / max(1, self.max_steps - warmup)
            return float(0.5 * (1 + math.cos(math.pi * min(done, 1))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def save(self, path: Path) -> None:
        """One safetensors file, written atomically; its metadata holds what `load` needs."""
        weights = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        with atomic_path(path) as partial:
            save_file(weights, partial, {"hparams": json.dumps(dict(self.hparams))})

    @classmethod
    def load(cls, path: Path, classes: Sequence[str] | None = None) -> "XrayClassifier":
        """The classifier of `save`, in evaluation mode; refuses one of another class vocabulary."""
        if not Path(path).exists():
            raise DataNotFoundError(f"no classifier {path}; train it first")
        with safe_open(path, "pt") as file:
            hparams = json.loads((file.metadata() or {}).get("hparams", "null"))
        if hparams is None:
            raise ConfigError(f"{path} is not a classifier of this project: it has no hparams")
        if classes is not None and list(classes) != hparams["classes"]:
            raise ConfigError(
                f"{path} tells {', '.join(hparams['classes'])} apart, in this order, but `classes` "
                f"is {', '.join(classes)}; set classes to match, or train again"
            )
        hparams["recipe"] = hparams["recipe"] | {"pretrained": False}  # the file has all weights
        module = cls(**hparams)
        module.load_state_dict(load_file(path))
        return module.eval()


def _backbone(recipe: Mapping[str, Any], n_classes: int, seed: int) -> Any:
    name, options = (
        recipe["backbone"],
        {"in_chans": recipe["channels"], "drop_rate": recipe["drop_rate"]},
    )
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5]) or "none similar"
        raise ConfigError(f"classifier.backbone: timm has no model {name!r} ({near})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        try:
            model = timm.create_model(
                name, pretrained=recipe["pretrained"], num_classes=n_classes, **options
            )
        except (OSError, RuntimeError) as error:
            if not recipe["pretrained"]:
                raise
            raise DataNotFoundError(
                f"classifier.pretrained=true: the weights of {name} are not in the Hugging Face "
                f"cache and cannot be reached ({type(error).__name__}); download them "
                "where there is a network, or set classifier.pretrained=false"
            ) from error
    return model.to(memory_format=torch.channels_last)


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
    keeper = _Keeper(folder)
    if _processes() > 1 and not on_cpu(recipe):  # Lightning's own loses timm's fused activations
        module.backbone = convert_sync_batchnorm(module.backbone)  # type: ignore[no-untyped-call]
    with _quiet(), torch.random.fork_rng(), _bars(recipe.max_steps) as bars:
        trainer = _trainer(recipe, [*bars, *_stopping(recipe), keeper], logger)
        last = folder / CHECKPOINT
        resume = str(last) if last.exists() else None
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        if not keeper.history or keeper.history[-1]["step"] < trainer.global_step:
            trainer.validate(module, datamodule=datamodule, verbose=False)
    kept = keeper.history[-1]
    if recipe.keep is Keep.best and keeper.best is not None:  # the last validation counts always
        kept = keeper.best
        if trainer.is_global_zero:
            module.load_state_dict(load_file(folder / "best.safetensors"))
    return FitResult(
        score=kept[MONITOR],
        step=int(kept["step"]),
        seconds=keeper.seconds,
        history=keeper.history,
        processes=_processes(),
        first_real_step=keeper.first_real_step,
    )


def on_cpu(recipe: TrainerRecipe) -> bool:
    """Whether training runs without a GPU."""
    return recipe.accelerator == "cpu" or not torch.cuda.is_available()


def _processes() -> int:
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def _trainer(recipe: TrainerRecipe, callbacks: list[Callback], logger: Logger | None) -> pl.Trainer:
    auto = "32-true" if on_cpu(recipe) else "bf16-mixed"
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
        **_together(),
    )


def _together() -> dict[str, Any]:
    """How Lightning finds the processes that train together: they and their group are there."""
    if _processes() == 1:
        return {"devices": 1}
    here = local_world_size()
    return {
        "devices": here,
        "num_nodes": _processes() // here,
        "strategy": "ddp",
        "plugins": [TorchElasticEnvironment()],
    }


def _stopping(recipe: TrainerRecipe) -> list[Callback]:
    if not recipe.patience:
        return []
    return [_Patience(MONITOR, mode="max", patience=recipe.patience)]


def _first_real_step(trainer: pl.Trainer) -> int:
    """Of the data module that is trained on; 0 where it knows no phases."""
    return int(getattr(trainer.datamodule, "first_real_step", 0))  # type: ignore[attr-defined]


class _Patience(EarlyStopping):
    """Early stopping that overlooks the scores of weights which have seen no real image."""

    @property
    def state_key(self) -> str:
        # The name that Lightning gives the class it derives from: checkpoints hold it.
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step > _first_real_step(trainer):
            super().on_validation_end(trainer, pl_module)


class _Keeper(Callback):
    """Records every validation, keeps the best weights, and saves what resuming needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = time.monotonic()
        self._seconds_before: float | None = 0.0
        self._losses: list[torch.Tensor] = []
        self.history: list[dict[str, float]] = []
        self.first_real_step = 0

    @property
    def best(self) -> dict[str, float] | None:
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
        self.first_real_step = _first_real_step(trainer)

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
        if self.best is entry and trainer.is_global_zero:
            module.save(self._folder / "best.safetensors")
        if trainer.state.fn == "fit":
            self._save_checkpoint(trainer)

    def _save_checkpoint(self, trainer: pl.Trainer) -> None:
        path = self._folder / CHECKPOINT
        if trainer.is_global_zero:
            remove_leftovers(path)
            with atomic_path(path) as partial:
                trainer.save_checkpoint(partial)
        else:
            trainer.save_checkpoint(path)  # writes nothing, and waits for the first process


@contextmanager
def _bars(max_steps: int) -> Iterator[list[Callback]]:
    """Progress of training; of several processes the first one shows it."""
    if not is_main():
        yield []
        return
    with progress("train", max_steps, "step") as bar:
        yield [_Bar(bar)]


class _Bar(Callback):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._bar.update()


@contextmanager
def _quiet() -> Iterator[None]:
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


def predict(
    module: XrayClassifier, loader: Iterable[Mapping[str, torch.Tensor]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class probabilities `(N, C)`, targets `(N,)` and row indices `(N,)`, in loader order."""
    module.eval()
    probabilities, targets, indices = [], [], []
    with torch.inference_mode():
        for batch in loader:
            logits = module(batch["image"].to(module.device))
            probabilities.append(logits.float().softmax(1).cpu().numpy())
            targets.append(batch["target"].numpy())
            indices.append(batch["index"].numpy())
    return np.concatenate(probabilities), np.concatenate(targets), np.concatenate(indices)
