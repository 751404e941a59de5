import numpy as np
import pytest
from PIL import Image, ImageFilter
from tiny_sd import save_tiny_sd

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders import build
from xraysynth.evaluation.metrics.fidelity import frechet_distance
from xraysynth.images import pad_and_resize, read_image


def smooth_images(count: int, size_px: int = 64) -> np.ndarray:
    """Shapes with edges and texture, all different, `(N, H, W)` uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    images = []
    for a, b, c, d in rng.uniform(0.3, 0.6, (count, 4)):
        lungs = sum(((x - s * a) / c) ** 2 + (y / (b + c)) ** 2 < 1 for s in (-1, 1))
        images.append(
            140 + 60 * d - 90 * lungs + 20 * np.sin(20 * d * y) + rng.normal(0, 4, x.shape)
        )
    return np.stack(images).clip(0, 255).astype(np.uint8)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(radius))) for i in images]
    )


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, deviation, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def steps(encoder, real, other, worsen, strengths) -> np.ndarray:
    """Differences of the distance from `real` as the other images are made worse, step by step."""
    reference = encoder.features(real)
    distances = [
        frechet_distance(real=reference, synthetic=encoder.features(worsen(other, s)))
        for s in strengths
    ]
    return np.diff(distances)


@pytest.mark.filterwarnings("ignore:the Frechet distance of")
@pytest.mark.parametrize(
    ("worsen", "strengths"), [(noisy, (0, 8, 16, 32)), (blurred, (0, 1, 2, 3))]
)
def test_the_distance_grows_with_noise_and_blur(worsen, strengths):
    images = smooth_images(60)
    assert (steps(build("embedded"), images, images, worsen, strengths) > 0).all()


@pytest.mark.filterwarnings("ignore:the Frechet distance of")
def test_the_distance_between_real_sets_grows_with_noise_and_blur(shared_data):
    files = sorted((shared_data / "cxr-mini").rglob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(files))[:160]
    images = np.stack([pad_and_resize(read_image(files[i]), 64) for i in order])
    encoder, real, other = build("embedded"), images[:80], images[80:]
    assert (steps(encoder, real, other, noisy, (0, 20, 40)) > 0).all()
    assert (steps(encoder, real, other, blurred, (0, 1, 2)) > 0).all()


def test_it_is_there_without_any_weights(images):
    encoder = build("embedded")
    assert encoder.features(images).shape == (5, 128)
    assert encoder.preprocessing.size_px == 64


def test_another_autoencoder_brings_its_size_and_channels(tmp_path, images):
    folder = save_tiny_sd(tmp_path, channels=3)
    encoder = build("embedded", weights=folder)  # the pipeline, or its part
    assert (encoder.preprocessing.size_px, len(encoder.preprocessing.scale)) == (32, 3)
    same = build("embedded", weights=folder / "vae")
    assert (encoder.features(images) == same.features(images)).all()
    assert encoder.identity == same.identity != build("embedded").identity


def test_a_folder_without_an_autoencoder_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"has no config.json.*weights\.embedded"):
        _ = build("embedded", weights=tmp_path).identity


@pytest.mark.parametrize("is_missing", [True, False])
def test_an_autoencoder_that_is_not_whole_is_refused(tmp_path, is_missing):
    from safetensors.torch import load_file, save_file

    folder = save_tiny_sd(tmp_path / "model") / "vae"
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    weight = state.pop("encoder.conv_in.weight") if is_missing else state["encoder.conv_in.weight"]
    if not is_missing:
        state["another.weight"] = weight.clone()
    save_file(state, file, {"format": "pt"})
    name = "encoder.conv_in.weight" if is_missing else "another.weight"
    with pytest.raises(DataNotFoundError, match=f"not hold an AutoencoderKL: 1 weights .*{name}"):
        build("embedded", weights=folder).features(smooth_images(2))
