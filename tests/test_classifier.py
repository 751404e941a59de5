"""Classifier: learns, is reproducible, survives being killed, and its file holds all it needs."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from test_data import CLASSES, shapes

import xraysynth.classifier as classifier
from xraysynth.classifier import MONITOR, XrayClassifier, fit, predict
from xraysynth.data import XrayDataModule
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.manifest import Manifest
from xraysynth.recipes import ClassifierRecipe, DataRecipe, Keep, TrainerRecipe, plain

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
    return XrayClassifier(classes=list(CLASSES), recipe=plain(recipe), max_steps=max_steps, **more)


def trainer(**settings: Any) -> TrainerRecipe:
    return TrainerRecipe(
        **{"max_steps": 40, "val_every_steps": 10, "accelerator": "cpu"} | settings
    )


def weights(module: XrayClassifier) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in module.backbone.parameters()])


@pytest.mark.parametrize("keep", list(Keep))
def test_it_learns_shapes_and_reports_what_it_kept(
    real: Manifest, tmp_path: Path, keep: Keep
) -> None:
    module, datamodule = model(), data(real, tmp_path)
    result = fit(module, datamodule, trainer(keep=keep), folder=tmp_path / "run")
    probabilities, targets, index = predict(module, datamodule.test_dataloader())
    assert (probabilities.argmax(1) == targets).mean() >= 0.9
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert index.tolist() == list(range(12))
    assert [entry["step"] for entry in result.history] == [10, 20, 30, 40]
    scores = {entry["step"]: entry[MONITOR] for entry in result.history}
    assert result.score == (scores[40] if keep is Keep.last else max(scores.values()))
    assert result.score == scores[result.step]
    assert {"val/loss", "val/accuracy", "train/loss"} <= set(result.history[0])
    best = XrayClassifier.load(tmp_path / "run" / "best.safetensors", CLASSES)
    if keep is Keep.best:
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
        patch.setattr(classifier, "_stopping", lambda recipe: [Kill()])
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
    with pytest.raises(ConfigError, match=r"normal, pneumonia apart.*pneumonia, normal"):
        XrayClassifier.load(tmp_path / "model.safetensors", ["pneumonia", "normal"])
    with pytest.raises(DataNotFoundError, match="train it first"):
        XrayClassifier.load(tmp_path / "none.safetensors")


def test_balanced_weights_are_inverse_to_the_counts() -> None:
    recipe = plain(SMALL) | {"class_weighting": "balanced"}
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
    with pytest.raises(ConfigError, match=r"no model 'resnet10x' \(.*resnet"):
        model(ClassifierRecipe(backbone="resnet10x"))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = model(max_steps=100).configure_optimizers()
    schedule = config["lr_scheduler"]["scheduler"]
    factors = [schedule.lr_lambdas[0](step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(factors[10:]))
