"""How hard the simulated classes are to tell, and how much of them the autoencoder keeps.

Trains a resnet10t at 64 px on simulated patients, then scores it on other patients: on the images
as they are and, when `--work` holds an autoencoder, on their reconstructions.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F

from xraysynth.data.sources.simulated import render
from xraysynth.records import CLASSES

TRAIN_SEED, TEST_SEED = 12, 11


def cohort(seed: int, per_class: int, cache: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `(N, 1, 64, 64)` in -1..1 and class indices, classes interleaved."""
    path = cache / f"cohort-{seed}-{per_class}.npy"
    if not path.exists():
        images = [
            render(seed, label, number, 0, size_px=64)[0]
            for number in range(per_class)
            for label in CLASSES
        ]
        np.save(path, np.stack(images))
    images = torch.from_numpy(np.load(path))[:, None].float() / 127.5 - 1
    return images, torch.arange(len(images)) % len(CLASSES)


def moved(images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Turned by up to 6 degrees, scaled by 10 %, shifted by 5 %."""
    n = len(images)
    angle, scale = (torch.rand(2, n, generator=g) - 0.5) * 0.2
    scale = 1 + scale
    x, y = (torch.rand(2, n, generator=g) - 0.5) * 0.1
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cos, -sin, x, sin, cos, y], 1).view(n, 2, 3)
    grid = F.affine_grid(rows, images.shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="border")


def fit(images: torch.Tensor, targets: torch.Tensor, steps: int) -> torch.nn.Module:
    """AdamW, one cycle, batches of 32."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", in_chans=1, num_classes=len(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    began = time.monotonic()
    for step in range(steps):
        g = torch.Generator().manual_seed(step)
        index = torch.randint(len(images), (32,), generator=g)
        loss = F.cross_entropy(model(moved(images[index], g)), targets[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            rate = (step + 1) / (time.monotonic() - began)
            print(f"step {step + 1}/{steps}, loss {loss:.3f}, {rate:.1f} steps/s", flush=True)
    return model.eval()


@torch.no_grad()
def score(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> str:
    """Accuracy, and recall per class."""
    hits = torch.cat([model(part) for part in images.split(100)]).argmax(1) == targets
    recalls = {name: f"{hits[targets == i].float().mean():.2f}" for i, name in enumerate(CLASSES)}
    return f"accuracy {hits.float().mean():.3f}, recall {recalls}"


@torch.no_grad()
def reconstructed(images: torch.Tensor, work: Path) -> torch.Tensor:
    """The images once through the autoencoder."""
    from train import load_vae

    vae = load_vae(work)
    return torch.cat([vae.decode(vae.encode(x).latent_dist.mean).sample for x in images.split(50)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, targets = cohort(TRAIN_SEED, args.images // len(CLASSES), args.work)
    others, truth = cohort(TEST_SEED, args.test_images // len(CLASSES), args.work)
    path = args.work / f"classifier-{args.images}.pt"
    if path.exists():
        model = timm.create_model("resnet10t", in_chans=1, num_classes=len(CLASSES)).eval()
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        model = fit(images, targets, args.steps)
        torch.save(model.state_dict(), path)
    print(f"{len(images)} training images, originals: {score(model, others, truth)}")
    if (args.work / "vae.pt").exists():
        again = reconstructed(others, args.work)
        print(f"L1 {(again - others).abs().mean():.4f}")
        print(f"reconstructions: {score(model, again, truth)}")


if __name__ == "__main__":
    main()
