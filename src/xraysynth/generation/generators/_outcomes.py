"""Turns sampled images into results: grey pixels, or a failure where the image is unusable."""

import numpy as np

from xraysynth.records import GenerationResult, Request

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""

MIN_BRIGHTEST_PIXEL = 8
"""Grey value that the brightest pixel must reach; an image below is black."""


def outcome_from_image(request: Request, image: np.ndarray, **facts: float) -> GenerationResult:
    """Convert a sampled image to a result.

    Args:
        request: Request that the image was sampled for.
        image: Image `(H, W, C)` in [0, 1], with one channel or three.
        **facts: Measurements of the result, such as `seconds`.

    Returns:
        A result with pixels `(H, W)` uint8; a failure without pixels if the image is black or has
        values that are not finite.
    """
    if not np.isfinite(image).all():
        reason = "the model returned NaN or infinity"
        return GenerationResult(request, "failed", reason=reason, facts=facts)
    weights = LUMA_WEIGHTS if image.shape[-1] == 3 else (1.0,)
    grey = (image @ np.asarray(weights, np.float32)).clip(0, 1)
    pixels = np.rint(grey * 255).astype(np.uint8)
    if pixels.max() < MIN_BRIGHTEST_PIXEL:
        return GenerationResult(request, "failed", reason="the image is black", facts=facts)
    return GenerationResult(request, "image", pixels, facts=facts)
