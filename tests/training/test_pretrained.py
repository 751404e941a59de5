"""Pretrained weights of timm's models, and weights of classifiers: whole, or refused by name."""

import pytest
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xraysynth.errors import DamageError, DataNotFoundError
from xraysynth.training.classifier import XrayClassifier

CLASSES = ["normal", "pneumonia"]


@pytest.fixture
def published(monkeypatch):
    """The weights of the Hub, which a test may change; timm gets them without a network."""
    torch.manual_seed(3)
    state = timm.create_model("test_resnet", num_classes=1000).state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(state)
    )
    return state


def pretrained(n_classes=2, **recipe):
    recipe = {"backbone": "test_resnet", "pretrained": True, "channels": 1} | recipe
    classes = [f"class{number}" for number in range(n_classes)]
    return XrayClassifier(classes=classes, recipe=recipe, max_steps=1, class_counts=[1] * n_classes)


def test_all_weights_but_the_last_layer_are_those_of_the_file(published):
    state = pretrained(channels=3).backbone.state_dict()
    head = {"fc.weight", "fc.bias"}
    assert head < state.keys() == published.keys()
    for name in state.keys() - head:
        assert torch.equal(state[name], published[name]), name
    grey = pretrained(channels=1).backbone.state_dict()
    first = "conv1.0.weight"
    assert torch.allclose(grey[first], published[first].sum(1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 1000])
def test_a_file_that_lacks_a_layer_is_refused(published, n_classes):
    published.pop("layer1.0.conv1.weight")
    with pytest.raises(
        DataNotFoundError, match=r"layer1\.0\.conv1\.weight.*hf cache rm model/timm/"
    ):
        pretrained(n_classes)


def test_a_file_with_weights_of_another_model_is_refused(published):
    published["blocks.0.weight"] = torch.zeros(1)
    with pytest.raises(
        DataNotFoundError, match=r"1 weights belong to another model \(blocks\.0\.w"
    ):
        pretrained()


def test_a_file_of_another_shape_is_refused(published):
    published["layer1.0.conv1.weight"] = torch.zeros(7, 7, 3, 3)
    with pytest.raises(DataNotFoundError, match=r"size mismatch for layer1\.0\.conv1\.weight"):
        pretrained()


def test_a_truncated_file_is_named(monkeypatch):
    def cut(*_, **__):
        raise SafetensorError("incomplete metadata, file not fully covered")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", cut)
    with pytest.raises(DataNotFoundError, match=r"incomplete metadata.*hf cache rm model/timm/"):
        pretrained()


@pytest.fixture
def classifier(tmp_path):
    recipe = {"backbone": "test_resnet"}
    module = XrayClassifier(classes=CLASSES, recipe=recipe, max_steps=1, class_counts=[1, 1])
    module.save(tmp_path / "classifier.safetensors")
    return tmp_path / "classifier.safetensors"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: s.pop("backbone.conv1.0.weight"),
            r"1 weights are missing \(backbone\.conv1\.0\.w",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 weights belong to another model \(extra\)"),
        (
            lambda s: s.update({"backbone.fc.bias": torch.zeros(3)}),
            r"1 weights have another shape \(backbone\.fc\.bias\)",
        ),
    ],
)
def test_a_classifier_that_is_not_whole_is_refused(classifier, edit, message):
    from safetensors import safe_open

    with safe_open(classifier, "pt") as file:
        metadata = file.metadata()
    state = load_file(classifier)
    edit(state)
    save_file(state, classifier, metadata)
    with pytest.raises(DamageError, match=message) as refused:
        XrayClassifier.load(classifier)
    assert str(classifier) in str(refused.value)
    assert "run again the training" in str(refused.value)


def test_it_is_refused_with_all_logs_switched_off_as_in_a_command(published, monkeypatch):
    import logging

    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    published.pop("layer1.0.conv1.weight")
    with pytest.raises(DataNotFoundError, match="1 weights are missing"):
        pretrained()
    timm.create_model("test_resnet", num_classes=3)  # which no longer records anything
