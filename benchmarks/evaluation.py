"""Seconds for FD, KD, precision, recall, density and coverage of two sets of images.

Ours runs the encoder once and shares the distances. Theirs are the same metrics one by one, as one
would run them: torchmetrics' FrechetInceptionDistance and KernelInceptionDistance, torch-fidelity's
precision and recall, prdc's density and coverage, each of which runs the encoder itself. The encoder
is a ResNet-18 at 64 px with random weights on both sides. A second call of ours measures another
synthetic set against the same real one. With --large, also: FD of 50,000 x 2048 features against one
general eigen-decomposition of a 2048 x 2048 matrix, which is what the libraries' FID ends with, and
the peak memory of the nearest-neighbour metrics on these features.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from prdc import compute_prdc
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics, register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from xraysynth.evaluation.encoders.base import encode_in_batches
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.fidelity import Moments, frechet_from_moments
from xraysynth.evaluation.metrics.manifold import compute_manifold_scores
from xraysynth.evaluation.metrics.point_estimates import RealReference, compute_point_estimates

SIDE_PX, BATCH = 64, 32
LARGE, DIMENSIONS = 50_000, 2048


def resnet() -> torch.nn.Module:
    """The same random weights each time."""
    torch.manual_seed(0)
    network: torch.nn.Module = timm.create_model("resnet18", num_classes=0)
    return network.eval().requires_grad_(False)


NETWORK = resnet()


class Extractor(torch.nn.Module):
    """`(B, 3, H, W)` uint8 -> `(B, 512)`, as torchmetrics wants it."""

    num_features = 512

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = NETWORK(images.float() / 255)
        return found


class RegisteredExtractor(FeatureExtractorBase):  # type: ignore[misc]
    """The same, as torch-fidelity wants it."""

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:
        return ("pooled",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "pooled"

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (NETWORK(images.float() / 255),)


class Images(Dataset[torch.Tensor]):
    """Grey images `(N, H, W)` uint8 as items `(3, H, W)`."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index].expand(3, -1, -1)


def batches(images: np.ndarray) -> Any:
    """Batches `(B, 3, H, W)` uint8."""
    parts = torch.from_numpy(images).split(BATCH)
    return (part[:, None].expand(-1, 3, -1, -1) for part in parts)


def of_torchmetrics(metric: Any, real: np.ndarray, synthetic: np.ndarray) -> Any:
    """A torchmetrics metric, updated batch by batch."""
    for images, is_real in ((real, True), (synthetic, False)):
        for batch in batches(images):
            metric.update(batch, real=is_real)
    return metric.compute()


def of_torch_fidelity(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    """Precision and recall."""
    found: dict[str, float] = calculate_metrics(
        input1=Images(synthetic),
        input2=Images(real),
        feature_extractor="benchmark-resnet18",
        batch_size=BATCH,
        prc=True,
        cuda=False,
        cache=False,
        verbose=False,
    )
    return found


def of_prdc(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    """Density and coverage, of features from a plain loop."""
    extractor = Extractor()
    sides = (torch.cat([extractor(b) for b in batches(s)]).numpy() for s in (real, synthetic))
    found: dict[str, float] = compute_prdc(*sides, nearest_k=5)
    return found


def features(images: np.ndarray) -> Features:
    """Ours, through the code that all encoders share."""
    to_rgb = Preprocessing(scale=(1.0,) * 3, shift=(0.0,) * 3)
    values = encode_in_batches("benchmark", NETWORK, NETWORK, to_rgb, images)
    return Features(values, Identity("benchmark", "random", to_rgb))


def timed(what: str, call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and its result, both printed."""
    begun = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - begun
    shown = found if isinstance(found, dict | tuple | float | torch.Tensor) else ""
    print(f"{seconds:8.1f} s  {what}  {shown}", file=sys.stderr, flush=True)
    return seconds, found


def compare(n: int) -> dict[str, Any]:
    """Both ways on `n` real and as many synthetic images."""
    rng = np.random.default_rng(0)
    real, synthetic, other = rng.integers(0, 256, (3, n, SIDE_PX, SIDE_PX), np.uint8)
    features(real[:BATCH])  # warm
    kid = KernelInceptionDistance(Extractor(), subset_size=min(1000, n // 2))
    their_s = sum(
        timed(what, call)[0]
        for what, call in {
            "torchmetrics FID": lambda: of_torchmetrics(
                FrechetInceptionDistance(Extractor(), input_img_size=(3, SIDE_PX, SIDE_PX)),
                real,
                synthetic,
            ),
            "torchmetrics KID": lambda: of_torchmetrics(kid, real, synthetic),
            "torch-fidelity precision, recall": lambda: of_torch_fidelity(real, synthetic),
            "prdc density, coverage": lambda: of_prdc(real, synthetic),
        }.items()
    )
    real_s, side = timed("ours: the real side", lambda: RealReference.from_features(features(real)))
    first_s, second_s = (
        timed("ours", lambda y=y: compute_point_estimates(real=side, synthetic=features(y)))[0]  # type: ignore[misc]
        for y in (synthetic, other)
    )
    our_s = real_s + first_s
    return {
        "ratio": round(their_s / our_s, 2),
        "ours": round(our_s, 1),
        "theirs": round(their_s, 1),
        "second_call_ratio": round(our_s / second_s, 2),
    }


def fd_at_size() -> dict[str, float]:
    """FD of large sets, given their features, against what libraries do on them."""
    x, y = np.random.default_rng(0).standard_normal((2, LARGE, DIMENSIONS))
    ours, _ = timed(
        "FD", lambda: frechet_from_moments(Moments.from_features(x), Moments.from_features(y))
    )
    covariances, product = timed(
        "two covariances by NumPy", lambda: np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)
    )
    general, _ = timed("general eigen-decomposition", lambda: np.linalg.eigvals(product))
    return {
        "fd_over_eigvals": round(ours / general, 2),
        "fd_ratio": round((covariances + general) / ours, 2),
    }


def neighbours_at_size() -> dict[str, float]:
    """Precision, recall, density and coverage of large sets; the process's peak memory."""
    x, y = np.random.default_rng(0).standard_normal((2, LARGE, DIMENSIONS))
    seconds, _ = timed("nearest neighbours", lambda: compute_manifold_scores(real=x, synthetic=y))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"neighbours_seconds": round(seconds, 1), "neighbours_peak_gb": round(peak, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    torch.set_num_interop_threads(1)
    register_feature_extractor("benchmark-resnet18", RegisteredExtractor)
    # the peak is that of the whole process, so neighbours come first
    extra = neighbours_at_size() | fd_at_size() if options.large else {}
    result = {
        "name": "evaluation",
        **compare(options.images),
        "unit": "s",
        "device": f"cpu, {torch.get_num_threads()} threads",
        "n": options.images,
        **extra,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
