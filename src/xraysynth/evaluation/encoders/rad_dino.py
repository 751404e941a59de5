"""RAD-DINO (Perez-Garcia et al., arXiv:2401.10815): DINOv2 of chest radiographs, CLS token.

d = 768 at 518 px. It was trained on NIH ChestX-ray14, MIMIC-CXR, CheXpert, PadChest and BRAX: real images
of these sources are not held-out data for this encoder.
"""

from pathlib import Path
from typing import Any

from xraysynth.evaluation.encoders._transformer import VisionTransformer, cls_token
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.encoders.weights import PublishedWeights

PUBLISHED = PublishedWeights(
    encoder="rad_dino",
    repository="microsoft/rad-dino",
    revision="110cbc18d5133582e320b43d53bf5c44e410c936",
    files={
        "config.json": "89daf9751d9576d586dedf9543c1083211611fa3a36908db7a799b3ce7c68ede",
        "preprocessor_config.json": (
            "c537fc995c30e2353f07253899618d60e9eae3d5f82473778602c007c6523b56"
        ),
        "model.safetensors": "dbfb9f54459c38773505de64a6ab7807bdcb392610fe1e697166342e43fb91ae",
    },
)


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of RAD-DINO; see `encoders.build`."""
    return VisionTransformer(PUBLISHED, "Dinov2Model", cls_token, weights, device)
