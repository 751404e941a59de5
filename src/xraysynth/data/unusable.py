"""How many images of a source may be unusable before the run stops."""

import math
from collections.abc import Iterable

from xraysynth.data.recipe import Screening, UnusableImages
from xraysynth.data.screening import ScreenedImage
from xraysynth.errors import ImageError

MAX_LISTED_IMAGES = 20
"""Number of unusable images that an error lists."""


def count_unusable(images: Iterable[ScreenedImage]) -> int:
    """Count the images that should be used and cannot be."""
    return sum(image.status == "unusable" for image in images)


def require_few_unusable(
    images: Iterable[ScreenedImage], *, source: str, listed: int, policy: Screening
) -> None:
    """Require that not too many images of a source are unusable.

    Args:
        images: Images of the source that are not simply used; only unusable ones count.
        source: Name of the source.
        listed: Number of images of the source that should be used, the unusable ones included.
        policy: What is allowed.

    Raises:
        ImageError: More images are unusable than the policy allows; the message names the first and
            what to do.
    """
    unusable = [image for image in images if image.status == "unusable"]
    if not unusable:
        return
    stops_at_first = policy.unusable is UnusableImages.stop
    if not stops_at_first and len(unusable) <= policy.most_left_out * listed:
        return
    rule = f"more than screening.most_left_out={policy.most_left_out:g} allows"
    if stops_at_first:
        rule = "and with screening.unusable=stop the first one stops"
    lines = [_describe(image) for image in unusable[:MAX_LISTED_IMAGES]]
    if len(unusable) > MAX_LISTED_IMAGES:
        lines.append(f"and {len(unusable) - MAX_LISTED_IMAGES} more")
    listing = "\n  ".join(lines)
    raise ImageError(
        f"source {source}: {len(unusable)} of {listed} images cannot be used, {rule}; "
        f"{_format_remedies(len(unusable), listed, policy)}:\n  {listing}"
    )


def _describe(image: ScreenedImage) -> str:
    """The file of an image and its reasons, which may name the file themselves."""
    reasons = ", ".join(image.reasons)
    return reasons if image.file and image.file in reasons else f"{image.file}: {reasons}"


def _format_remedies(n_unusable: int, listed: int, policy: Screening) -> str:
    """The words on what to do: repair, or the options with which these images are left out."""
    remedies = "repair or remove them, and run it again (images that were read are kept)"
    if n_unusable >= listed:
        return remedies
    options = []
    if policy.unusable is UnusableImages.stop:
        options.append("screening.unusable=leave_out")
    if n_unusable > policy.most_left_out * listed:
        needed = math.ceil(100 * n_unusable / listed) / 100
        options.append(f"screening.most_left_out={needed:g}")
    return f"{remedies}, or leave them out with {' '.join(options)}"
