import pytest
import torch
from tiny_encoders import Small

from xraysynth.errors import ConfigError
from xraysynth.evaluation.encoders import build


def test_the_module_is_left_as_it_was(images):
    module = Small().train()
    values = build("classifier", classifier=module).features(images)
    assert values.shape == (5, 4)
    assert module.training


def test_a_classifier_is_identified_by_its_weights():
    module = Small()
    encoder = build("classifier", classifier=module)
    before = encoder.identity
    assert before == encoder.identity
    with torch.no_grad():
        module.layer.bias += 1
    after = encoder.identity
    assert before.weights != after.weights
    assert before.preprocessing == after.preprocessing


def test_it_takes_a_classifier_and_nothing_else(tmp_path):
    for arguments in ({}, {"classifier": Small(), "weights": tmp_path}):
        with pytest.raises(ConfigError, match="takes a classifier"):
            build("classifier", **arguments)
