import numpy as np
import pytest
import torch
from PIL import Image

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders import build
from xraysynth.evaluation.metrics.fidelity import frechet_distance


def test_features_equal_torch_fidelity(given, built, images):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = given("inception")["weights"]
    network = FeatureExtractorInceptionV3("i", ["2048"], feature_extractor_weights_path=str(file))
    resized = [Image.fromarray(i).resize((299, 299), Image.Resampling.BICUBIC) for i in images[:2]]
    batch = torch.from_numpy(np.stack([np.asarray(i) for i in resized]))[:, None]
    with torch.inference_mode():
        expected = network(batch.expand(-1, 3, -1, -1))[0].numpy()
    values = built("inception").features(images[:2])
    assert values.shape == (2, 2048)
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.filterwarnings("ignore:the Frechet distance of")
def test_the_fid_equals_torchmetrics(given, built):
    from torchmetrics.image.fid import FrechetInceptionDistance

    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (4, 299, 299), np.uint8)
    synthetic = (real[::-1] // 2 + rng.integers(0, 90, real.shape, np.uint8)).astype(np.uint8)
    theirs = FrechetInceptionDistance(
        feature=2048, feature_extractor_weights_path=str(given("inception")["weights"])
    )
    for images, is_real in ((real, True), (synthetic, False)):
        colour = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1)
        theirs.update(colour, real=is_real)
    encoder = built("inception")
    found = frechet_distance(real=encoder.features(real), synthetic=encoder.features(synthetic))
    assert found == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert found > 1e-2


def test_no_pickled_code_is_executed(tmp_path, images):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Bomb()}, path)
    with pytest.raises(DataNotFoundError, match=f"{path}.*[Ww]eights.only"):
        build("inception", weights=path).features(images)
    assert not (tmp_path / "executed").exists()
