import warnings

import numpy as np
import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3 as theirs
from PIL import Image
from safetensors.torch import save_file

from xraysynth.errors import DataNotFoundError, ImageError, XraysynthError
from xraysynth.metrics.encoders import (
    ClassifierEncoder,
    Inception,
    Preprocessing,
    RadDino,
    XrvDenseNet,
    require_xrv_range,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 40), np.uint8)


class Small(torch.nn.Module):
    """Two layers with a dropout that must be off."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 4, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward_features(self, batch):
        assert batch.shape[1] == 1
        assert 0 <= batch.min() <= batch.max() <= 1
        return self.drop(self.layer(batch)).amax((2, 3))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """A state dict of the right shapes with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight *= 6**0.5  # keeps the signal's size over 48 layers
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def xrv_file(tmp_path_factory):
    from torchxrayvision.models import DenseNet

    torch.manual_seed(0)
    state = DenseNet().state_dict() | {"op_threshs": torch.zeros(18)}
    path = tmp_path_factory.mktemp("xrv") / "densenet.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=518, patch_size=14)).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 518},
        crop_size={"height": 518, "width": 518},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    ).save_pretrained(folder)
    return folder


def test_classifier_features_are_deterministic_and_leave_the_module_as_it_was():
    module = Small().train()
    encoder = ClassifierEncoder(module)
    values = encoder.features(IMAGES)
    assert values.shape == (3, 4)
    assert values.dtype == np.float64
    assert (values == encoder.features(IMAGES)).all()
    assert module.training
    assert encoder.name == "classifier"


def test_a_classifier_is_identified_by_its_weights():
    module = Small()
    before = ClassifierEncoder(module).identity
    assert before == ClassifierEncoder(module).identity
    with torch.no_grad():
        module.layer.bias += 1
    after = ClassifierEncoder(module).identity
    assert before["weights"] != after["weights"]
    assert before["preprocessing"] == after["preprocessing"]


def test_batches_do_not_matter():
    many = np.tile(IMAGES, (30, 1, 1))
    encoder = ClassifierEncoder(Small())
    assert encoder.features(many) == pytest.approx(np.tile(encoder.features(IMAGES), (30, 1)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES / 255, "float64"),
        (IMAGES[0], "uint8 grey"),
        (IMAGES[:0], "N > 0"),
        (IMAGES % 2, r"scaled to \[0, 1\]"),
    ],
)
def test_images_of_another_scale_or_shape_are_refused(images, message):
    with pytest.raises(ImageError, match=message):
        ClassifierEncoder(Small()).features(images)


def test_features_that_are_not_finite_are_refused():
    module = Small()
    torch.nn.init.constant_(module.layer.bias, float("nan"))
    with pytest.raises(XraysynthError, match="finite"):
        ClassifierEncoder(module).features(IMAGES)


def test_preprocessing_scales_repeats_and_resizes():
    batch = Preprocessing(size_px=20, channels=3, scale=2.0, shift=-1.0)(IMAGES)
    assert batch.shape == (3, 3, 20, 20)
    assert (batch[:, 0] == batch[:, 2]).all()
    small = np.asarray(Image.fromarray(IMAGES[1]).resize((20, 20), Image.Resampling.BICUBIC))
    assert batch[1, 0].numpy() == pytest.approx(small / 255 * 2 - 1, abs=1e-6)


def test_preprocessing_pads_or_crops_to_a_square():
    wide = np.full((1, 10, 30), 255, np.uint8)
    wide[..., :10] = wide[..., 20:] = 60
    assert Preprocessing(size_px=30)(wide)[0, 0, 0].max() == 0  # black bar
    assert (Preprocessing(size_px=10, crop=True)(wide) == 1).all()
    tall = wide.transpose(0, 2, 1)
    assert (Preprocessing(size_px=10, crop=True)(tall) == 1).all()


def test_inception_equals_torch_fidelity(inception_file):
    values = Inception(inception_file).features(IMAGES)
    assert values.shape == (3, 2048)
    network = theirs.FeatureExtractorInceptionV3(
        "i", ["2048"], feature_extractor_weights_path=str(inception_file)
    )
    resized = [Image.fromarray(i).resize((299, 299), Image.Resampling.BICUBIC) for i in IMAGES]
    batch = torch.from_numpy(np.stack([np.asarray(i) for i in resized]))[:, None]
    with torch.inference_mode():
        expected = network(batch.expand(-1, 3, -1, -1))[0].numpy()
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert np.ptp(expected, axis=0).max() > 1e-3  # else the comparison shows nothing


def test_inception_executes_no_pickled_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Bomb()}, path)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        Inception(path).features(IMAGES)
    assert not (tmp_path / "executed").exists()


def test_xrv_equals_torchxrayvision(xrv_file):
    from torchxrayvision.models import DenseNet

    values = XrvDenseNet(xrv_file).features(IMAGES)
    assert values.shape == (3, 1024)
    torch.manual_seed(0)
    network = DenseNet().eval()  # the same initial weights as in the file
    resized = [Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC) for i in IMAGES]
    batch = torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in resized]))[:, None]
    with torch.inference_mode():
        expected = network.features2((2 * batch / 255 - 1) * 1024).numpy()
    assert values == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_xrv_takes_its_own_range_only():
    full = torch.linspace(-1024, 1024, 50)
    assert require_xrv_range(full) is full
    for other in (full / 1024, full.clamp(min=0) / 1024, (full + 1024) / 2048 * 255 * 9):
        with pytest.raises(ImageError, match=r"\(2 img - 1\) \* 1024"):
            require_xrv_range(other)


def test_an_encoder_leaves_the_global_generator_and_the_warnings_alone(xrv_file):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    filters = list(warnings.filters)
    XrvDenseNet(xrv_file).features(IMAGES[:1])
    assert warnings.filters == filters
    assert (torch.rand(3) == expected).all()


def test_rad_dino_uses_the_preprocessing_of_its_folder(dino_folder):
    from transformers import Dinov2Model

    values = RadDino(dino_folder).features(IMAGES[:2])
    assert values.shape == (2, 16)
    resized = [Image.fromarray(i).resize((518, 518), Image.Resampling.BICUBIC) for i in IMAGES[:2]]
    batch = torch.from_numpy(np.stack([np.asarray(i) for i in resized])).float() / 255
    batch = ((batch - 0.5307) / 0.2583)[:, None].expand(-1, 3, -1, -1)
    network = Dinov2Model.from_pretrained(dino_folder, local_files_only=True).eval()
    with torch.inference_mode():
        expected = network(batch).last_hidden_state[:, 0].numpy()
    assert values == pytest.approx(expected, abs=0.05)
    assert np.abs(values).max() > 0.5


def test_identity_changes_with_weights_and_preprocessing(dino_folder, tmp_path):
    before = RadDino(dino_folder).identity
    assert before == RadDino(dino_folder).identity
    for file in dino_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.5307", "0.4"))
    after = RadDino(tmp_path).identity
    assert before["preprocessing"] != after["preprocessing"]
    assert before["weights"] == after["weights"]


def test_files_of_weights_are_identified_by_content(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, (b"1", b"1", b"2"), strict=True):
        path.write_bytes(content)
    first, same, other = (XrvDenseNet(path).identity for path in paths)
    assert first == same
    assert first["weights"] != other["weights"]
    assert first["preprocessing"] != Inception(paths[0]).identity["preprocessing"]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Inception("nowhere/i.pth"), r"nowhere/i.pth.*weights-inception-2015-12-05-6726825d.pth"),
        (XrvDenseNet("nowhere/x.safetensors"), r"nowhere/x.*densenet121-res224-all"),
        (RadDino("nowhere"), r"nowhere/.*microsoft/rad-dino"),
    ],
)
def test_missing_weights_say_what_to_put_where(encoder, message):
    with pytest.raises(DataNotFoundError, match=message):
        encoder.features(IMAGES)
    with pytest.raises(DataNotFoundError, match=message):
        _ = encoder.identity
