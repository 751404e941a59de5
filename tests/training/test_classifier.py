"""Classifier: learns, is reproducible, survives being killed, and its file holds all it needs."""

import json
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from test_datamodule import CLASSES, as_pool, shapes

import xraysynth.training.callbacks as callbacks
import xraysynth.training.fitting as fitting
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.training.classifier import XrayClassifier, predict
from xraysynth.training.datamodule import XrayDataModule
from xraysynth.training.fitting import MONITOR, fit
from xraysynth.training.recipe import (
    ClassifierRecipe,
    DataRecipe,
    KeptWeights,
    MixMode,
    TrainerRecipe,
)

SMALL = ClassifierRecipe(backbone="test_resnet", learning_rate=3e-3, drop_rate=0.1)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return shapes(tmp_path_factory.mktemp("real"), {"train": 8, "val": 6, "test": 6}, size_px=32)


def data(real: Manifest, tmp_path: Path) -> XrayDataModule:
    return XrayDataModule(
        real=real,
        synthetic={},
        recipe=DataRecipe(batch_size=8),
        size_px=32,
        cache_folder=tmp_path / "cache",
        seed=0,
    )


def model(recipe: ClassifierRecipe = SMALL, max_steps: int = 40, **more: Any) -> XrayClassifier:
    return XrayClassifier(
        classes=list(CLASSES), recipe=to_json(recipe), max_steps=max_steps, **more
    )


def trainer(**settings: Any) -> TrainerRecipe:
    return TrainerRecipe(
        **{"max_steps": 40, "val_every_steps": 10, "accelerator": "cpu"} | settings
    )


def weights(module: XrayClassifier) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in module.backbone.parameters()])


@pytest.mark.parametrize("keep", list(KeptWeights))
def test_it_learns_shapes_and_reports_what_it_kept(
    real: Manifest, tmp_path: Path, keep: KeptWeights
) -> None:
    module, datamodule = model(), data(real, tmp_path)
    result = fit(module, datamodule, trainer(keep=keep), folder=tmp_path / "run")
    probabilities, targets, index = predict(module, datamodule.test_dataloader())
    assert (probabilities.argmax(1) == targets).mean() >= 0.9
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert index.tolist() == list(range(12))
    assert [entry["step"] for entry in result.history] == [10, 20, 30, 40]
    scores = {entry["step"]: entry[MONITOR] for entry in result.history}
    assert result.score == (scores[40] if keep is KeptWeights.last else max(scores.values()))
    assert result.score == scores[result.step]
    assert {"val/loss", "val/accuracy", "train/loss"} <= set(result.history[0])
    best = XrayClassifier.load(tmp_path / "run" / "best.safetensors", CLASSES)
    if keep is KeptWeights.best:
        assert np.array_equal(weights(best), weights(module))
        assert np.array_equal(predict(best, datamodule.test_dataloader())[0], probabilities)
    assert not (Path.cwd() / "lightning_logs").exists()


def test_the_same_seed_gives_the_same_weights(real: Manifest, tmp_path: Path) -> None:
    found = []
    for number in (0, 1):
        torch.manual_seed(number)  # the global generator must not matter
        module = model()
        fit(module, data(real, tmp_path), trainer(max_steps=12), folder=tmp_path / str(number))
        found.append(weights(module))
    assert np.array_equal(*found)
    assert not np.array_equal(weights(model(seed=1)), weights(model(seed=0)))


def test_the_global_random_state_is_left_alone(real: Manifest, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(model(), data(real, tmp_path), trainer(max_steps=2), folder=tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state())


class Kill(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 27:
            raise KeyError("killed")


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model()
    expected = fit(whole, data(real, tmp_path), trainer(), folder=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_early_stopping", lambda recipe: [Kill()])
        with pytest.raises(KeyError):
            fit(model(), data(real, tmp_path), trainer(), folder=tmp_path / "killed")
    resumed = model()
    found = fit(resumed, data(real, tmp_path), trainer(), folder=tmp_path / "killed")
    assert [entry["step"] for entry in found.history] == [10, 20, 30, 40]
    assert found.score == expected.score
    assert np.array_equal(weights(resumed), weights(whole))
    assert found.history[-1]["val/loss"] == pytest.approx(expected.history[-1]["val/loss"])
    last = [torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "killed")]
    assert last[0]["global_step"] == last[1]["global_step"] == 40
    for name, tensor in last[0]["state_dict"].items():
        assert torch.equal(tensor, last[1]["state_dict"][name]), name


def test_training_stops_early_and_scores_the_last_step(real: Manifest, tmp_path: Path) -> None:
    frozen = model(ClassifierRecipe(backbone="test_resnet", learning_rate=1e-12))
    recipe = trainer(max_steps=60, val_every_steps=2, patience=2)
    result = fit(frozen, data(real, tmp_path), recipe, folder=tmp_path / "early")
    assert result.history[-1]["step"] < 60
    odd = fit(
        model(),
        data(real, tmp_path),
        trainer(max_steps=5, val_every_steps=2),
        folder=tmp_path / "odd",
    )
    assert [entry["step"] for entry in odd.history] == [2, 4, 5]


def phases(real: Manifest, tmp_path: Path, *, share: float = 0.5) -> XrayDataModule:
    """Half of the steps with synthetic images that teach the classes, then real ones dealt wrong."""
    pool = as_pool(shapes(tmp_path / "pool", {"train": 8}, size_px=32, seed=9))
    swapped = real.table["label"].map(dict(zip(CLASSES, reversed(CLASSES), strict=True)))
    labels = real.table["label"].where(real.table["split"] != "train", swapped)
    return XrayDataModule(
        real=Manifest(real.table.assign(label=labels), real.folder, CLASSES),
        synthetic={"pool": pool},
        recipe=DataRecipe(batch_size=8, synthetic_fraction=share, mode=MixMode.pretrain),
        size_px=32,
        cache_folder=tmp_path / "cache",
        seed=0,
    )


FROZEN = ClassifierRecipe(backbone="test_resnet", learning_rate=1e-12)


def test_patience_counts_from_the_first_real_image_on(real: Manifest, tmp_path: Path) -> None:
    recipe = trainer(max_steps=20, val_every_steps=2, patience=2)
    result = fit(model(FROZEN), phases(real, tmp_path), recipe, folder=tmp_path / "run")
    assert result.first_real_step == 10
    # The best score is that of step 12, and two more bring no better one.
    assert [entry["step"] for entry in result.history] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_patience_is_the_same_after_an_interruption(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = trainer(max_steps=20, val_every_steps=2, patience=2)
    stopping = fitting._early_stopping

    class KillLate(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 15:
                raise KeyError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_early_stopping", lambda recipe: [*stopping(recipe), KillLate()])
        with pytest.raises(KeyError):
            fit(model(FROZEN), phases(real, tmp_path), recipe, folder=tmp_path / "run")
    result = fit(model(FROZEN), phases(real, tmp_path), recipe, folder=tmp_path / "run")
    assert result.history[-1]["step"] == 16
    states = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["callbacks"]
    assert any(name.startswith("EarlyStopping") for name in states)  # as earlier versions wrote


@pytest.mark.parametrize(("val_every_steps", "kept"), [(20, 60), (1000, 80)])
def test_weights_that_have_seen_no_real_image_are_never_the_best(
    real: Manifest, tmp_path: Path, val_every_steps: int, kept: int
) -> None:
    recipe = trainer(max_steps=80, val_every_steps=val_every_steps, keep=KeptWeights.best)
    module = model(max_steps=80)
    result = fit(module, phases(real, tmp_path), recipe, folder=tmp_path / "run")
    scores = {entry["step"]: entry[MONITOR] for entry in result.history}
    if val_every_steps == 20:
        assert scores[40] > scores[60] > scores[80]  # the weights at the switch would be the best
    assert (result.step, result.score) == (kept, scores[kept])
    best = XrayClassifier.load(tmp_path / "run" / "best.safetensors", CLASSES)
    assert np.array_equal(weights(best), weights(module))


def test_a_training_loss_is_of_one_phase(real: Manifest, tmp_path: Path) -> None:
    """Of a classifier that cannot learn, on images of two losses that lie far apart."""
    losses = {}
    for name, every in (("each", 1), ("across", 4)):
        recipe = trainer(max_steps=12, val_every_steps=every)
        result = fit(model(FROZEN), phases(real, tmp_path), recipe, folder=tmp_path / name)
        losses[name] = {int(e["step"]): e["train/loss"] for e in result.history}
    assert losses["across"][8] == pytest.approx(
        np.mean([losses["each"][step] for step in (7, 8)]), abs=1e-6
    )


def test_the_time_of_training_includes_that_before_an_interruption(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000_000, 100))  # 100 s pass whenever somebody looks
    clocks = SimpleNamespace(monotonic=lambda: next(clock), time=time.time)
    monkeypatch.setattr(callbacks, "time", clocks)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_early_stopping", lambda recipe: [Kill()])
        with pytest.raises(KeyError):
            fit(model(), data(real, tmp_path), trainer(), folder=tmp_path / "killed")
    saved = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["callbacks"]
    (before,) = (state["seconds"] for name, state in saved.items() if "_Keeper" in name)
    resumed = fit(model(), data(real, tmp_path), trainer(), folder=tmp_path / "killed")
    assert resumed.seconds > before > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv3_small_050"])
def test_any_backbone_gives_logits_and_features(backbone: str, channels: int) -> None:
    module = model(ClassifierRecipe(backbone=backbone, channels=channels)).eval()
    images = torch.rand(2, 1, 64, 64)
    assert module(images).shape == (2, 2)
    features = module.forward_features(images)
    assert features.ndim == 2
    head = module.backbone.get_classifier()
    assert torch.allclose(head(features), module(images), atol=1e-5)


def test_a_file_holds_everything_and_refuses_other_classes(tmp_path: Path) -> None:
    module = model(ClassifierRecipe(backbone="test_resnet", channels=3), class_counts=[3, 9]).eval()
    module.save(tmp_path / "model.safetensors")
    loaded = XrayClassifier.load(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(images), module(images))
    assert json.loads(json.dumps(dict(loaded.hparams)))["class_counts"] == [3, 9]
    with pytest.raises(
        ConfigError, match=r"distinguishes normal, pneumonia,.*is pneumonia, normal"
    ):
        XrayClassifier.load(tmp_path / "model.safetensors", ["pneumonia", "normal"])
    with pytest.raises(DataNotFoundError, match="train it first"):
        XrayClassifier.load(tmp_path / "none.safetensors")


def test_balanced_weights_are_inverse_to_the_counts() -> None:
    recipe = to_json(SMALL) | {"class_weighting": "balanced"}
    build = lambda counts: XrayClassifier(  # noqa: E731
        classes=list(CLASSES), recipe=recipe, max_steps=1, class_counts=counts
    )
    assert torch.allclose(build([30, 10]).class_weights, torch.tensor([2 / 3, 2.0]))
    with pytest.raises(ConfigError, match="class_weighting=balanced"):
        build(None)


def test_weights_that_are_not_there_are_a_clear_and_fast_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataNotFoundError, match="weights of test_resnet"):
        model(ClassifierRecipe(backbone="test_resnet", pretrained=True))
    with pytest.raises(ConfigError, match=r"'resnet10x' is not a model.*: .*resnet"):
        model(ClassifierRecipe(backbone="resnet10x"))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = model(max_steps=100).configure_optimizers()
    schedule = config["lr_scheduler"]["scheduler"]
    factors = [schedule.lr_lambdas[0](step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(factors[10:]))
