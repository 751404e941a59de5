"""The classifier: a timm backbone with training step and optimiser, saved as one file."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from xraysynth.errors import ConfigError, DamageError, DataNotFoundError
from xraysynth.files import explain_unreadable, write_atomically
from xraysynth.records import to_json
from xraysynth.seeds import derive_seed
from xraysynth.threads import LARGE_FLOPS, choose_threads, count_flops, torch_threads
from xraysynth.training.data_parallel import shard_loss_scale
from xraysynth.training.pretrained import create_pretrained
from xraysynth.training.recipe import ClassifierRecipe
from xraysynth.whole_weights import load_whole

_RETRAIN = "delete it and run again the training that wrote it"


class XrayClassifier(pl.LightningModule):
    """A timm backbone that maps images `(B, 1, H, W)` in [0, 1] to class logits `(B, C)`.

    Args:
        classes: The class vocabulary, in the order of the logits.
        recipe: Fields of `ClassifierRecipe` as plain values; fields left out have their defaults.
        max_steps: Length of the learning-rate schedule in optimiser steps.
        class_counts: Training images per class; needed for balanced class weighting.
        seed: Decides the initial weights and, together with the step, which units are dropped out.

    Raises:
        ConfigError: timm has no such backbone, or a class to be weighted has no image.
        DataNotFoundError: The pretrained weights are not on this machine and cannot be downloaded.
    """

    class_weights: torch.Tensor

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
        self.max_steps = max_steps
        self.seed = seed
        self.backbone = _create_backbone(self.recipe, len(classes), seed)
        weights = self._compute_class_weights(class_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.metrics: Any = torch.nn.ModuleDict(
            {
                "val": _create_metrics(len(classes), "val"),
                "test": _create_metrics(len(classes), "test"),
            }
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits `(B, C)` of images `(B, 1, H, W)` in [0, 1]."""
        logits: torch.Tensor = self.backbone(self._preprocess(images))
        return logits

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features `(B, d)` before the last layer, of images in [0, 1]."""
        feature_maps = self.backbone.forward_features(self._preprocess(images))
        features: torch.Tensor = self.backbone.forward_head(feature_maps, pre_logits=True)
        return features

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Returns the class-weighted cross-entropy of a training batch, with label smoothing."""
        logits, target = self(batch["image"]), batch["target"]
        loss = self._cross_entropy(logits, target, self.recipe["label_smoothing"])
        if self.recipe["class_weighting"] == "none":
            return loss
        return loss * shard_loss_scale(self.class_weights[target])

    def validation_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Scores a validation batch: val/accuracy, val/macro_f1 and val/loss."""
        self._score(batch, "val")

    def test_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Scores a test batch: test/accuracy, test/macro_f1 and test/loss."""
        self._score(batch, "test")

    def configure_optimizers(self) -> Any:
        """Returns AdamW without decay of norms and biases, with linear warmup and cosine decay."""
        groups = param_groups_weight_decay(self.backbone, self.recipe["weight_decay"])
        optimizer = torch.optim.AdamW(groups, lr=self.recipe["learning_rate"], fused=True)
        warmup_steps = max(1, round(self.recipe["warmup_fraction"] * self.max_steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup_steps, self.max_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds dropout by step and process, so that a resumed training drops the same units."""
        process = [self.global_rank] if self.global_rank else []
        seed = derive_seed(self.seed, "step", self.global_step, *process)
        if self.device.type == "cpu":  # to look for GPUs at every step takes longer than to seed
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradient here, as Lightning cannot for a fused optimiser in mixed precision."""
        max_norm = self.recipe["gradient_clip"]
        if max_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), max_norm)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically; its metadata holds what `load` needs."""
        weights = {}
        for name, tensor in self.state_dict().items():
            weights[name] = tensor.detach().cpu().contiguous()
        # To memory first: safetensors' own error on a full disk is no OSError.
        write_atomically(path, save(weights, {"hparams": json.dumps(dict(self.hparams))}))

    @classmethod
    def load(cls, path: Path, classes: Sequence[str] | None = None) -> "XrayClassifier":
        """Returns the classifier that `save` wrote, in evaluation mode.

        Args:
            path: The safetensors file.
            classes: The class vocabulary that the classifier must have; None takes any.

        Raises:
            DataNotFoundError: There is no such file.
            DamageError: The file is cut short or empty.
            ConfigError: The file is not a classifier, or its classes differ from `classes`.
        """
        if not Path(path).exists():
            raise DataNotFoundError(f"there is no classifier {path}; train it first")
        with explain_unreadable(path, _RETRAIN), safe_open(path, "pt") as file:
            hparams = json.loads((file.metadata() or {}).get("hparams", "null"))
        if hparams is None:
            raise ConfigError(
                f"{path} is not a classifier of this project: its metadata has no hparams; "
                "choose a file that xraysynth train has written"
            )
        if classes is not None and list(classes) != hparams["classes"]:
            raise ConfigError(
                f"{path} distinguishes {', '.join(hparams['classes'])}, in this order, but "
                f"`classes` is {', '.join(classes)}; set classes to match, or train again"
            )
        hparams["recipe"] = hparams["recipe"] | {"pretrained": False}  # the file has all weights
        module = cls(**hparams)
        with explain_unreadable(path, _RETRAIN):
            state = load_file(path)
        expected = f"the weights of a {hparams['recipe']['backbone']} classifier"
        load_whole(module, state, path, expected=expected, remedy=_RETRAIN, error=DamageError)
        return module.eval()

    def _preprocess(self, images: torch.Tensor) -> torch.Tensor:
        # Near the mean and standard deviation of radiographs and of ImageNet in grey, which suits
        # random and pretrained weights.
        images = (images - 0.5) / 0.25
        images = images.expand(-1, self.recipe["channels"], -1, -1)
        return images.contiguous(memory_format=torch.channels_last)

    def _cross_entropy(
        self, logits: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        return F.cross_entropy(
            logits.float(), target, self.class_weights, label_smoothing=label_smoothing
        )

    def _score(self, batch: Mapping[str, torch.Tensor], split: str) -> None:
        logits, target = self(batch["image"]), batch["target"]
        loss = self._cross_entropy(logits, target)
        self.metrics[split].update(logits, target)
        self.log_dict(self.metrics[split], on_step=False, on_epoch=True)
        # A batch's loss is a mean weighted by class weights. When the batches are averaged, each
        # counts by its sum of class weights, so the result does not depend on the batch size.
        options: Any = {"sync_dist": True, "batch_size": self.class_weights[target].sum().item()}
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, **options)

    def _compute_class_weights(self, class_counts: list[int] | None) -> torch.Tensor:
        """Returns `(C,)`: all 1, or if balanced N / (C n_c) for a class with n_c of the N images."""
        if self.recipe["class_weighting"] == "none":
            return torch.ones(len(self.classes))
        if not class_counts or min(class_counts) < 1:
            raise ConfigError(
                "classifier.class_weighting=balanced needs training images of every class, but "
                f"class_counts is {class_counts}; add images, or set classifier.class_weighting=none"
            )
        counts = torch.tensor(class_counts, dtype=torch.float32)
        return counts.sum() / (len(counts) * counts)


def warmup_cosine(step: int, warmup_steps: int, max_steps: int) -> float:
    """Returns the factor of the learning rate: a linear warmup to 1, then a cosine to 0.

    At step t of T it is (t + 1) / w during the w warmup steps, (1 + cos(π (t − w) / (T − w))) / 2
    after them, and 0 from step T on.

    >>> [warmup_cosine(step, 2, 4) for step in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return float((step + 1) / warmup_steps)
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return float(0.5 * (1 + math.cos(math.pi * min(progress, 1))))


def threads_for_batch(module: XrayClassifier, images: torch.Tensor) -> int:
    """Returns in how many threads batches like `images` `(B, 1, H, W)` go through the classifier."""
    if images.device.type != "cpu":
        return choose_threads(is_large=True)
    was_training = module.training
    module.eval()  # counting must not change the statistics of BatchNorm
    flops = count_flops(module, images[:1]) * len(images)
    module.train(was_training)
    return choose_threads(is_large=flops > LARGE_FLOPS)


def predict(
    module: XrayClassifier, loader: Iterable[Mapping[str, torch.Tensor]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classifies all images of a loader, on the device of the classifier.

    Returns:
        Class probabilities `(N, C)`, targets `(N,)` and row numbers in the data set `(N,)`, in the
        order of the loader.
    """
    module.eval()
    probabilities: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    indices: list[np.ndarray] = []
    with torch.inference_mode(), torch_threads(torch.get_num_threads()):
        for batch in loader:
            if not targets:
                torch.set_num_threads(threads_for_batch(module, batch["image"].to(module.device)))
            logits = module(batch["image"].to(module.device))
            probabilities.append(logits.float().softmax(1).cpu().numpy())
            targets.append(batch["target"].numpy())
            indices.append(batch["index"].numpy())
    return np.concatenate(probabilities), np.concatenate(targets), np.concatenate(indices)


def _create_metrics(n_classes: int, split: str) -> MetricCollection:
    metrics: dict[str, Any] = {
        "accuracy": MulticlassAccuracy(num_classes=n_classes, average="micro"),
        "macro_f1": MulticlassF1Score(num_classes=n_classes),
    }
    return MetricCollection(metrics, prefix=f"{split}/")


def _create_backbone(recipe: Mapping[str, Any], n_classes: int, seed: int) -> Any:
    """Builds the timm model; its initial weights depend on `seed` alone."""
    name = recipe["backbone"]
    if not timm.is_model(name):
        similar_names = ", ".join(timm.list_models(f"*{name[:6]}*")[:5]) or "none"
        raise ConfigError(
            f"classifier.backbone={name!r} is not a model of timm; similar models: {similar_names}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        options = {
            "num_classes": n_classes,
            "in_chans": recipe["channels"],
            "drop_rate": recipe["drop_rate"],
        }
        if recipe["pretrained"]:
            model = create_pretrained(name, **options)
        else:
            model = timm.create_model(name, **options)
    return model.to(memory_format=torch.channels_last)
