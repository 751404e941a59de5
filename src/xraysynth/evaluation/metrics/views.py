"""What a probe is shown of images `(N, H, W)` uint8: parts that show no disease, and coarse ones."""

import numpy as np


def thumbnail(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """The whole image, small: `(N, H, W)` uint8 to `(N, size_px²)` float32 in [0, 1]."""
    return _downsample(images, size_px).reshape(len(images), -1)


def borders(images: np.ndarray, *, width: float = 0.08) -> np.ndarray:
    """The outer frame alone, `width` of the side, at no more than 64 px: markers, bars, padding."""
    x, y = _pixel_grid(min(64, *images.shape[1:]))
    inside = (np.abs(x - 0.5) < 0.5 - width) & (np.abs(y - 0.5) < 0.5 - width)
    return _downsample(images, len(inside))[:, ~inside]


def background(images: np.ndarray, *, size_px: int = 32) -> np.ndarray:
    """What lies around the lungs: shoulders, neck, arms, abdomen, and the space beside the body.

    There is no segmentation: one fixed superellipse is blanked, which covers 66 % of the image and
    the lungs of an upright, closely framed radiograph but for a few percent of their area.
    """
    x, y = _pixel_grid(size_px)
    lungs = np.abs((x - 0.5) / 0.46) ** 3 + np.abs((y - 0.47) / 0.41) ** 3 <= 1
    return _downsample(images, size_px)[:, ~lungs]


def radial_power_spectrum(images: np.ndarray) -> np.ndarray:
    """Radially averaged log power spectrum of each standardised image: `(N, min(H, W) // 2)`.

    Sharpness, noise, compression and interpolation, whatever the image shows and its exposure.
    """
    rows, columns = images.shape[1:]
    window = np.outer(np.hanning(rows), np.hanning(columns))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(rows), np.fft.fftfreq(columns), indexing="ij"))
    n_rings = min(rows, columns) // 2
    ring = np.minimum((radius * 2 * n_rings).round().astype(int), n_rings).ravel()
    return np.stack([_log_power_by_ring(image, window, ring, n_rings) for image in images])


def _log_power_by_ring(
    image: np.ndarray, window: np.ndarray, ring: np.ndarray, n_rings: int
) -> np.ndarray:
    values = image.astype(np.float64)
    values = (values - values.mean()) / max(float(values.std()), 1e-6)
    power = np.abs(np.fft.fft2(values * window)).ravel() ** 2
    sums = np.bincount(ring, power, minlength=n_rings + 1) / np.bincount(ring)
    # Ring 0 is the mean; the last one also takes the corners, beyond half a cycle a pixel.
    return np.asarray(np.log(sums[1:] + 1e-6))


def _downsample(images: np.ndarray, size_px: int) -> np.ndarray:
    """`(N, size_px, size_px)` float32 in [0, 1], each pixel the mean of the area it covers."""
    from PIL import Image

    size, box = (size_px, size_px), Image.Resampling.BOX
    return (
        np.stack([np.asarray(Image.fromarray(i).resize(size, box), np.float32) for i in images])
        / 255
    )


def _pixel_grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions x and y of pixel centres in fractions of the side, `(size_px, size_px)` each."""
    at = (np.arange(size_px) + 0.5) / size_px
    x, y = np.meshgrid(at, at)
    return x, y
