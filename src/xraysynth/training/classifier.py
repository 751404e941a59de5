"""A timm backbone as a radiograph classifier: its training step, its file, and how it is fitted."""

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
from safetensors.torch import load_file, save_file
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.files import atomic_path
from xraysynth.records import to_json
from xraysynth.seeds import derive_seed
from xraysynth.training.recipe import ClassifierRecipe


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
        self.backbone = _create_backbone(self.recipe, len(classes), seed)
        self.register_buffer(
            "class_weights", self._compute_class_weights(class_counts), persistent=False
        )
        scores: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(num_classes=len(classes), average="micro"),
            "macro_f1": MulticlassF1Score(num_classes=len(classes)),
        }
        self.scores: Any = torch.nn.ModuleDict(
            {stage: MetricCollection(dict(scores), prefix=f"{stage}/") for stage in ("val", "test")}
        )

    class_weights: torch.Tensor

    def _compute_class_weights(self, class_counts: list[int] | None) -> torch.Tensor:
        if self.recipe["class_weighting"] == "none":
            return torch.ones(len(self.classes))
        if not class_counts or min(class_counts) < 1:
            raise ConfigError(
                "classifier.class_weighting=balanced needs training images of every class; got "
                f"class_counts={class_counts}"
            )
        counts = torch.tensor(class_counts, dtype=torch.float32)
        return counts.sum() / (len(counts) * counts)

    def _preprocess(self, images: torch.Tensor) -> torch.Tensor:
        # About the mean and deviation of ImageNet in grey, and of radiographs: fits either start.
        images = (images - 0.5) / 0.25
        images = images.expand(-1, self.recipe["channels"], -1, -1)
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, C)`."""
        logits: torch.Tensor = self.backbone(self._preprocess(images))
        return logits

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled penultimate features `(B, d)`."""
        maps = self.backbone.forward_features(self._preprocess(images))
        features: torch.Tensor = self.backbone.forward_head(maps, pre_logits=True)
        return features

    def _shared_step(self, batch: Mapping[str, torch.Tensor], stage: str) -> torch.Tensor:
        logits, target = self(batch["image"]), batch["target"]
        smoothing = self.recipe["label_smoothing"] if stage == "train" else 0.0
        loss = F.cross_entropy(
            logits.float(), target, self.class_weights, label_smoothing=smoothing
        )
        if stage == "train":
            return loss * self._loss_scale(target)
        self.scores[stage].update(logits, target)
        self.log_dict(self.scores[stage], on_step=False, on_epoch=True)
        # A mean weighted by class: that over all batches does not depend on how they are cut.
        options: Any = {"sync_dist": True, "batch_size": self.class_weights[target].sum().item()}
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, **options)
        return loss

    def _loss_scale(self, target: torch.Tensor) -> torch.Tensor | float:
        """What a mean over a process's images counts in that over all: the ratio of class weights."""
        if self.recipe["class_weighting"] == "none" or process_count() == 1:
            return 1.0
        own = self.class_weights[target].sum()
        whole = own.clone()
        torch.distributed.all_reduce(whole)
        return own * process_count() / whole

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout that depends on step and process alone, so that a resumed run repeats it."""
        process = [self.global_rank] if self.global_rank else []
        torch.manual_seed(derive_seed(self.seed, "step", self.global_step, *process))

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of a training batch."""
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Score a validation batch."""
        self._shared_step(batch, "val")

    def test_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Score a test batch."""
        self._shared_step(batch, "test")

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


def _create_backbone(recipe: Mapping[str, Any], n_classes: int, seed: int) -> Any:
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


def process_count() -> int:
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


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
