"""Views of images for probes: parts and properties of an image that show little or no disease.

Each view maps images `(N, H, W)` uint8 to features `(N, d)`.
"""

import numpy as np


def thumbnail(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """Return the whole images, downsampled: `(N, size_px²)` float32 in [0, 1]."""
    return _downsample(images, size_px).reshape(len(images), -1)


def borders(images: np.ndarray, *, width: float = 0.08) -> np.ndarray:
    """Return the outer frame alone, which shows markers, bars and padding: `(N, d)` float32 in [0, 1].

    Args:
        images: Images `(N, H, W)` uint8, which are downsampled to at most 64 px.
        width: Width of the frame as a fraction of the side.
    """
    x, y = _pixel_grid(min(64, *images.shape[1:]))
    inside = (np.abs(x - 0.5) < 0.5 - width) & (np.abs(y - 0.5) < 0.5 - width)
    return _downsample(images, len(inside))[:, ~inside]


def background(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """Return the surroundings of the lungs: shoulders, neck, arms, abdomen, and the space around the body.

    There is no segmentation: one fixed superellipse is left out. It covers 66 % of the image, and all
    but a few percent of the area of the lungs of an upright, closely framed radiograph.

    Args:
        images: Images `(N, H, W)` uint8.
        size_px: Side to which they are downsampled.

    Returns:
        Pixels `(N, d)` float32 in [0, 1].
    """
    x, y = _pixel_grid(size_px)
    lungs = np.abs((x - 0.5) / 0.46) ** 3 + np.abs((y - 0.47) / 0.41) ** 3 <= 1
    return _downsample(images, size_px)[:, ~lungs]


def radial_power_spectrum(images: np.ndarray) -> np.ndarray:
    """Return the radially averaged log power spectrum of each standardised image: `(N, min(H, W) // 2)`.

    It shows sharpness, noise, compression and interpolation, independent of exposure.
    """
    rows, columns = images.shape[1:]
    window = np.outer(np.hanning(rows), np.hanning(columns))
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None])
    n_rings = min(rows, columns) // 2
    ring = np.minimum((radius * 2 * n_rings).round().astype(int), n_rings).ravel()
    return np.stack([_log_power_by_ring(image, window, ring, n_rings) for image in images])


def _log_power_by_ring(
    image: np.ndarray, window: np.ndarray, ring: np.ndarray, n_rings: int
) -> np.ndarray:
    """Return the log of the mean power in each ring but the first; `ring` is that of each pixel."""
    values = image.astype(np.float64)
    values = (values - values.mean()) / max(float(values.std()), 1e-6)
    power = np.abs(np.fft.fft2(values * window)).ravel() ** 2
    sums = np.bincount(ring, power, minlength=n_rings + 1) / np.bincount(ring)
    # Ring 0 is the mean; the last one also takes the corners, beyond half a cycle a pixel.
    return np.asarray(np.log(sums[1:] + 1e-6))


def _downsample(images: np.ndarray, size_px: int) -> np.ndarray:
    """Return `(N, size_px, size_px)` float32 in [0, 1], each pixel the mean of the area it covers."""
    from PIL import Image

    size = (size_px, size_px)
    resized = []
    for image in images:
        small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
        resized.append(np.asarray(small, np.float32))
    return np.stack(resized) / 255


def _pixel_grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of pixel centres in fractions of the side, `(size_px, size_px)` each."""
    centres = (np.arange(size_px) + 0.5) / size_px
    x, y = np.meshgrid(centres, centres)
    return x, y
