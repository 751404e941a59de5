"""The self-test passes, and fails when what it tests is broken."""

import numpy as np
import pytest

from xraysynth import compose
from xraysynth.evaluation import selftest
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.stages import Workspace
from xraysynth.stages import selftest as stage


def test_every_check_passes(capsys):
    result = stage.run(Workspace(compose([]), []))
    assert result["failed"] == []
    assert result["state"] == "done"
    assert result["checks"] >= 35
    assert capsys.readouterr().err.count("ok ") == result["checks"]


@pytest.mark.parametrize(
    ("broken", "wrong", "noticed"),
    [
        ("frechet_distance", lambda real, synthetic: 3.0, "FD of a shifted set"),
        ("vendi_score", lambda features: 2.0, "Vendi of n equal"),
        ("precision_recall", lambda real, synthetic: (0.1, 0.0), "precision and recall 0"),
        ("cmmd", lambda real, synthetic: 0.1, "CMMD of a set"),
    ],
)
def test_a_broken_measure_fails_its_check(monkeypatch, broken, wrong, noticed):
    monkeypatch.setattr(selftest, broken, wrong)
    failed = [check.name for check in selftest.check_golden_values() if not check.passed]
    assert any(noticed in name for name in failed)


def test_an_encoder_that_sees_nothing_fails(monkeypatch):
    rng = np.random.default_rng(0)

    class Blind:
        identity = Identity("blind", "", Preprocessing())

        def features(self, images):
            return rng.normal(size=(len(images), 8))

    pixels = rng.integers(0, 255, (120, 64, 64)).astype(np.uint8)
    images = selftest.SimulatedImages(pixels, np.repeat(["normal", "covid19"], 60))
    found = list(selftest._check_degradation(lambda p: _features(Blind(), p), images, images))
    assert sum(not check.passed for check in found) >= len(found) / 2


def _features(encoder, pixels):
    from xraysynth.evaluation.metrics.features import Features

    return Features(encoder.features(pixels), encoder.identity)
