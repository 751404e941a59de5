import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from xraysynth.errors import DataNotFoundError, ImageError
from xraysynth.evaluation.encoders import build
from xraysynth.evaluation.encoders.xrv import require_xrv_range


def test_features_equal_torchxrayvision(given, built, images):
    from torchxrayvision.models import DenseNet

    values = built("xrv").features(images)
    assert values.shape == (5, 1024)
    state = load_file(given("xrv")["weights"])
    state.pop("op_threshs")
    network = DenseNet().eval()
    network.load_state_dict(state)
    resized = [Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC) for i in images]
    batch = torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in resized]))[:, None]
    with torch.inference_mode():
        expected = network.features2((2 * batch / 255 - 1) * 1024).numpy()
    assert values == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_network_takes_its_own_range_only():
    full = torch.linspace(-1024, 1024, 50)
    assert require_xrv_range(full) is full
    for other in (full / 1024, full.clamp(min=0) / 1024, (full + 1024) / 2048 * 255 * 9):
        with pytest.raises(ImageError, match=r"\(2 img - 1\) \* 1024"):
            require_xrv_range(other)


def test_the_weights_are_to_be_given_by_hand(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(DataNotFoundError, match=r"not downloaded\. Put .*save_file\("):
        _ = build("xrv").identity
