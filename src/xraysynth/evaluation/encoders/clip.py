"""CLIP ViT-L/14 at 336 px (Radford et al., arXiv:2103.00020), projected image embeddings: CMMD's.

d = 768. The embeddings are not normalised; CMMD (Jayasumana et al., arXiv:2401.09603) divides each by
its L2 norm.
"""

from pathlib import Path
from typing import Any

import torch

from xraysynth.evaluation.encoders._transformer import VisionTransformer
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.encoders.weights import PublishedWeights

PUBLISHED = PublishedWeights(
    encoder="clip",
    repository="openai/clip-vit-large-patch14-336",
    revision="ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
    files={
        "config.json": "51b1c14aabcdf639c4a0370eeda1010b773bbe1df78319c7d0f5882c22ac0ac0",
        "preprocessor_config.json": (
            "d253881f65322dc546df59cf925a408e5538b8ecb5a1b496cdd36af9992686d4"
        ),
        # Published without safetensors; read as tensors only, so that nothing in it is executed.
        "pytorch_model.bin": "c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
    },
)


def image_embedding(output: Any) -> torch.Tensor:
    """Return the embedding in the space shared with text: `(B, d)`, not normalised."""
    embedding: torch.Tensor = output.image_embeds
    return embedding


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of CLIP; see `encoders.build`."""
    architecture = "CLIPVisionModelWithProjection"
    return VisionTransformer(PUBLISHED, architecture, image_embedding, weights, device)
