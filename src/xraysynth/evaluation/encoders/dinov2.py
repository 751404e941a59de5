"""DINOv2 ViT-L/14 (Oquab et al., arXiv:2304.07193), CLS token: natural images, no labels.

d = 1024 at 224 px. Among the encoders that Stein et al. (arXiv:2306.04675) compare, its distances follow
human judgement best. As in their work, the whole image is resized to 224 px, whereas the model's image
processor would cut off a margin.
"""

from pathlib import Path
from typing import Any

from xraysynth.evaluation.encoders._transformer import VisionTransformer, cls_token
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.encoders.weights import PublishedWeights

PUBLISHED = PublishedWeights(
    encoder="dinov2",
    repository="facebook/dinov2-large",
    revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    files={
        "config.json": "12df51c069a2dc1305e34ba71ef58bc2407ea553b75f4722a1715c1bce3bbed0",
        "preprocessor_config.json": (
            "14e780d86fa1861f8751f868d7f45425b5feb55c38ca26f152ca5097ab30f828"
        ),
        "model.safetensors": "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
    },
)


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of DINOv2; see `encoders.build`."""
    return VisionTransformer(PUBLISHED, "Dinov2Model", cls_token, weights, device)
