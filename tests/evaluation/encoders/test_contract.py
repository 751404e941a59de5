"""What holds for every encoder there is."""

import json
import re

import numpy as np
import pytest

from xraysynth.errors import ConfigError, DataNotFoundError, ImageError
from xraysynth.evaluation import encoders
from xraysynth.evaluation.encoders.identity import Identity
from xraysynth.records import from_json, to_json
from xraysynth.seeds import digest

WITH_WEIGHTS = [name for name in encoders.NAMES if name not in ("classifier", "embedded")]


@pytest.fixture(params=encoders.NAMES)
def encoder(request, built):
    return built(request.param)


def test_the_encoders_are_the_modules_of_the_package():
    expected = {"classifier", "clip", "dinov2", "embedded", "inception", "rad_dino", "xrv"}
    assert set(encoders.NAMES) == expected


def test_features_are_finite_doubles_the_same_in_any_batch(encoder, images, monkeypatch):
    values = encoder.features(images)
    assert values.ndim == 2
    assert len(values) == len(images)
    assert values.dtype == np.float64
    assert (values == encoder.features(images)).all()
    assert np.ptp(values, axis=0).max() > 1e-3  # else the comparison below shows nothing
    alone = np.concatenate([encoder.features(images[i : i + 1]) for i in range(len(images))])
    assert alone == pytest.approx(values, rel=1e-5, abs=1e-5 * np.abs(values).max())
    monkeypatch.setattr("xraysynth.evaluation.encoders.base.BATCH_SIZE", 2)
    assert encoder.features(images) == pytest.approx(
        alone, rel=1e-5, abs=1e-5 * np.abs(alone).max()
    )


def test_identity_is_json_and_names_what_decides(encoder, images):
    identity = json.loads(json.dumps(to_json(encoder.identity)))
    assert from_json(Identity, identity) == encoder.identity
    assert digest(identity) == encoder.identity.digest
    assert set(identity) == {"encoder", "weights", "preprocessing"}
    assert identity["encoder"] == encoder.name
    assert encoder.name in encoders.NAMES
    assert re.fullmatch("[0-9a-f]{64}", identity["weights"])
    assert encoder.identity.preprocessing == encoder.preprocessing


def test_images_need_not_be_square(encoder, images):
    for shape in ((30, 40), (40, 30)):
        part = images[:2, : shape[0], : shape[1]]
        channels = len(encoder.preprocessing.scale)
        batch = encoder.preprocessing(part)
        assert batch.shape == (2, channels, batch.shape[-1], batch.shape[-1])
        assert encoder.features(part).shape == encoder.features(images[:2]).shape


def test_images_of_another_scale_or_shape_are_refused(encoder, images):
    for wrong, message in (
        (images / 255, "float64"),
        (images[0], "uint8 grey"),
        (images[:0], "N > 0"),
        (images % 2, r"scaled to \[0, 1\]"),
    ):
        with pytest.raises(ImageError, match=message):
            encoder.features(wrong)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_missing_weights_say_what_to_put_where(name, tmp_path, images):
    found = {
        encoders.build(name): rf"no weights in .*cache.*\$XRAYSYNTH_WEIGHTS.*weights\.{name}",
        encoders.build(name, weights=tmp_path / "nowhere" / "w"): r"nowhere/w is not there\. Put ",
        encoders.build(name, weights=tmp_path): rf"{tmp_path} has no .*weights\.{name}",
    }
    for encoder, message in found.items():
        with pytest.raises(DataNotFoundError, match=message):
            encoder.features(images)
        with pytest.raises(DataNotFoundError, match=message):
            _ = encoder.identity


@pytest.mark.parametrize("name", [n for n in encoders.NAMES if n != "classifier"])
def test_weights_of_something_else_are_refused(name, tmp_path, images, given):
    from safetensors.torch import save_file
    from torch import zeros

    if name in ("inception", "xrv"):
        path = tmp_path / "other.safetensors"
        save_file({"other": zeros(1)}, path)
    else:
        path = tmp_path
        (path / "config.json").write_text("{}")
        source = "dinov2" if name == "clip" else "clip"
        (path / "preprocessor_config.json").write_bytes(
            (given(source)["weights"] / "preprocessor_config.json").read_bytes()
        )
        for file in ("model", "diffusion_pytorch_model"):
            save_file({"other": zeros(1)}, path / f"{file}.safetensors")
    with pytest.raises(DataNotFoundError, match=str(path)):
        encoders.build(name, weights=path).features(images)


def test_an_unknown_encoder_is_refused():
    for name in ("resnet", "base", "weights", "_transformer"):
        with pytest.raises(ConfigError, match=f"no encoder '{name}'.*inception"):
            encoders.build(name)


def test_an_encoder_leaves_the_global_generator_and_the_warnings_alone(given, images):
    import warnings

    import torch

    for name in ("inception", "xrv"):
        encoder = encoders.build(name, **given(name))
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        filters = list(warnings.filters)
        encoder.features(images[:1])
        assert warnings.filters == filters
        assert (torch.rand(3) == expected).all()
