import doctest

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from xraysynth.errors import ImageError
from xraysynth.evaluation.metrics import appearance
from xraysynth.evaluation.metrics.appearance import (
    MEASURES,
    colour_cast,
    count_letters,
    fit_power_spectrum,
    luma,
    measure_images,
    mirror_symmetry,
)


def chest(side=256, noise=4.0, seed=0):
    """A body with two dark lungs, ribs and a heart on one side: `(side, side)` uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    image = 190 * np.exp(-((x / 0.9) ** 6 + (y / 1.1) ** 8))
    for centre in (-0.42, 0.42):
        image -= 110 * np.exp(-(((x - centre) / 0.28) ** 4 + (y / 0.6) ** 4))
    image += 90 * np.exp(-(((x - 0.15) / 0.25) ** 2 + ((y - 0.3) / 0.3) ** 2))
    image += 12 * np.cos(22 * y + 3 * x**2)
    return (image + rng.normal(0, noise, image.shape)).clip(0, 255).astype(np.uint8)


def written(pixels, text, where, size=14):
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text(where, text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(image)


def test_doctests():
    assert doctest.testmod(appearance).failed == 0


def test_a_pool_has_every_measure_of_every_image():
    found = measure_images([chest(seed=n) for n in range(3)])
    assert list(found) == list(MEASURES)
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in found.values())
    assert measure_images([])["aspect"].shape == (0,)


def test_colour_cast_is_the_spread_of_the_channels_not_their_level():
    grey = np.stack([chest()] * 3, -1)
    assert colour_cast(grey) == 0
    blue = grey.copy()
    blue[..., 2] = np.minimum(grey[..., 2].astype(int) + 20, 255)
    assert 0.04 < colour_cast(blue) <= 20 / 255
    red_and_blue = grey.copy()  # half the image red, half blue: channel means alone would hide it
    red_and_blue[:, :128, 0] = 255
    red_and_blue[:, 128:, 2] = 255
    assert colour_cast(red_and_blue) > 0.3


@pytest.mark.parametrize("where", [(8, 8), (200, 8), (8, 234)])
@pytest.mark.parametrize("size", [12, 18])
def test_letters_near_the_border_are_found(where, size):
    assert count_letters(luma(written(chest(), "AP 12", where, size))) >= 3


def test_a_single_side_marker_is_found():
    assert count_letters(luma(written(chest(), "L", (225, 12), 20))) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 4.0, 12.0])
def test_anatomy_and_grain_are_no_letters(seed, noise):
    assert count_letters(luma(chest(noise=noise, seed=seed))) == 0


def test_letters_in_the_middle_and_long_lines_are_not_counted():
    assert count_letters(luma(written(chest(), "AP 12", (105, 120)))) == 0
    lines = chest()
    lines[10:13, :] = 255
    lines[:, 8:11] = 255
    assert count_letters(luma(lines)) == 0


def test_symmetry_falls_with_one_sided_change():
    image = luma(chest(noise=0.0))
    mirrored = (image + image[:, ::-1]) / 2
    assert mirror_symmetry(mirrored) == 1.0
    assert 0.5 < mirror_symmetry(image) < 0.99
    one_sided = mirrored.copy()
    one_sided[:, :128] *= 0.3
    assert mirror_symmetry(one_sided) < mirror_symmetry(image)
    assert mirror_symmetry(np.full((64, 64), 7.0)) == 1.0


@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_the_slope_of_a_made_spectrum_is_recovered(slope):
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.normal(size=(256, 256))) * frequency ** (-slope / 2)
    found, _ = fit_power_spectrum(np.fft.ifft2(spectrum).real)
    assert found == pytest.approx(slope, abs=0.15)


def test_smoothing_removes_fine_grain():
    from scipy.ndimage import gaussian_filter

    image = luma(chest(noise=10.0))
    smooth = gaussian_filter(image, 1.5)
    assert fit_power_spectrum(smooth)[1] < fit_power_spectrum(image)[1] / 3
    assert fit_power_spectrum(smooth)[0] > fit_power_spectrum(image)[0] + 0.5
    assert fit_power_spectrum(np.full((64, 64), 9.0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((64, 64)),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((8, 64), np.uint8),
        np.zeros(64, np.uint8),
    ],
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ImageError, match="appearance needs"):
        luma(wrong)


def test_the_smallest_images_have_a_slope_too():
    import warnings

    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = appearance.measure_appearance(rng.integers(0, 255, (32, 32)).astype(np.uint8))
    assert abs(found["spectral_slope"]) < 0.5
