import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import Small

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.encoders import base, build
from xraysynth.evaluation.encoders.base import Preprocessing


def test_preprocessing_scales_each_channel_and_resizes(images):
    batch = Preprocessing(size_px=20, scale=(2.0, 1.0), shift=(-1.0, 0.5))(images)
    assert batch.shape == (5, 2, 20, 20)
    assert batch.dtype == torch.float32
    small = np.asarray(Image.fromarray(images[1]).resize((20, 20), Image.Resampling.BICUBIC))
    assert batch[1, 0].numpy() == pytest.approx(small / 255 * 2 - 1, abs=1e-6)
    assert batch[1, 1].numpy() == pytest.approx(small / 255 + 0.5, abs=1e-6)


def test_preprocessing_normalises_as_torchvision(images):
    from torchvision.transforms.functional import normalize

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    made = Preprocessing.from_mean_std(mean=mean, std=deviation, size_px=40, crop=False)
    colour = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1) / 255
    assert torch.allclose(made(images), normalize(colour, mean, deviation), atol=1e-5)


@pytest.mark.parametrize("size_px", [None, 30])
def test_preprocessing_pads_or_crops_to_a_square(size_px):
    wide = np.full((1, 10, 30), 255, np.uint8)
    wide[..., :10] = wide[..., 20:] = 60
    for image in (wide, wide.transpose(0, 2, 1)):
        padded = Preprocessing(size_px=size_px)(image)[0, 0]
        assert padded.shape == (30, 30)
        assert (padded[0] == 0).all() or (padded[:, 0] == 0).all()  # black bar
        cropped = Preprocessing(size_px=size_px, crop=True)(image)[0, 0]
        assert cropped.shape == ((size_px or 10),) * 2
        assert (cropped == 1).all()


def test_the_digest_is_of_every_setting():
    changed = [
        Preprocessing(),
        Preprocessing(size_px=9),
        Preprocessing(crop=True),
        Preprocessing(scale=(2.0,)),
        Preprocessing(shift=(2.0,)),
        Preprocessing(scale=(1.0,) * 3, shift=(0.0,) * 3),
    ]
    assert len({p.digest for p in changed}) == len(changed)
    assert Preprocessing().digest == Preprocessing().digest


def test_channels_need_a_scale_and_a_shift_each():
    with pytest.raises(ConfigError, match="got 3 and 1"):
        Preprocessing(scale=(1.0,) * 3)


def test_images_are_read_a_batch_at_a_time(tmp_path, images, monkeypatch):
    monkeypatch.setattr(base, "BATCH_SIZE", 2)
    shape = (7, 40, 40)
    stored = np.memmap(tmp_path / "images", np.uint8, "w+", shape=shape)
    stored[:] = np.resize(images, shape)

    class Watched:
        dtype, ndim, shape = stored.dtype, 3, stored.shape
        read: tuple = ()

        def __len__(self):
            return len(stored)

        def __getitem__(self, index):
            part = stored[index]
            self.read += (len(part) if part.ndim == 3 else 1,)
            return part

    watched = Watched()
    encoder = build("classifier", classifier=Small())
    assert (encoder.features(watched) == encoder.features(np.asarray(stored))).all()
    assert watched.read == (1, 2, 2, 2, 1)  # one image to see its scale, then the batches


def test_a_bar_appears_where_it_takes_long_only(images, monkeypatch, capsys):
    encoder = build("classifier", classifier=Small())
    encoder.features(images)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(base, "BATCH_SIZE", 2)
    monkeypatch.setattr(base, "DELAY_SECONDS", 0.0)
    encoder.features(images)
    shown = capsys.readouterr().err
    assert "features of classifier" in shown
    assert "5/5" in shown


def test_features_that_are_not_finite_are_refused(images):
    module = Small()
    torch.nn.init.constant_(module.layer.bias, float("nan"))
    with pytest.raises(XraysynthError, match=r"classifier gave.*finite"):
        build("classifier", classifier=module).features(images)
