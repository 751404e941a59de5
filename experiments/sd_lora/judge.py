"""Do generated images show what was asked for? The opinion of a classifier that knows other patients.

Trains a resnet10t on 2,000 simulated images of other patients (the seed 12, which no study uses; its
accuracy on further ones is printed), then shows it every pool below paths.output: the share of images
in which it sees the prompted class, and the Frechet distance in its features to the test images.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from xraysynth.evaluation.metrics.fidelity import frechet_distance
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import percentile_interval
from xraysynth.manifest import Manifest
from xraysynth.records import CLASSES

sys.path.insert(0, str(Path(__file__).parent.parent / "embedded_sd"))
from check import TEST_SEED, TRAIN_SEED, cohort, fit, score


def judge(work: Path) -> torch.nn.Module:
    """The classifier, trained once (some minutes) and kept in `work`."""
    path = work / "judge.safetensors"
    from safetensors.torch import load_file, save_file

    if not path.exists():
        images, targets = cohort(TRAIN_SEED, 500, work)
        save_file(fit(images, targets, 1100).state_dict(), path)
    import timm

    model = timm.create_model("resnet10t", in_chans=1, num_classes=len(CLASSES)).eval()
    model.load_state_dict(load_file(path))
    return model


@torch.no_grad()
def seen(model: torch.nn.Module, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Features `(N, d)` and the class seen `(N,)` of every image."""
    pixels = np.stack([np.asarray(Image.open(file).convert("L")) for file in manifest.files])
    images = torch.from_numpy(pixels)[:, None].float() / 127.5 - 1
    maps = torch.cat([model.forward_features(part) for part in images.split(64)])
    features = model.forward_head(maps, pre_logits=True)
    classes = model.get_classifier()(features).argmax(1)
    return features.double().numpy(), classes.numpy()


def recipe(output: Path, store: dict) -> dict:
    """The settings of the fine-tuning behind a pool."""
    by = store["generator"].get("taught_by")
    if by is None:
        return {}
    identity = json.loads((output / "finetune" / by / "run.json").read_text())["identity"]
    chosen = identity["learner"]["recipe"]
    found = {name: chosen[name] for name in ("per_class", "steps", "rank", "learning_rate", "seed")}
    return found | {"targets": " ".join(chosen["targets"])}


def row(model: torch.nn.Module, folder: Path, output: Path, real: np.ndarray) -> dict:
    """What the judge says of one pool."""
    store = json.loads((folder / "store.json").read_text())
    manifest = Manifest.read(folder / "manifest.parquet", classes=CLASSES)
    features, classes = seen(model, manifest)
    hits = classes == manifest.targets
    weights = cluster_bootstrap_weights(manifest.table["image_id"], targets=manifest.targets)
    found = percentile_interval(hits.mean(), (weights * hits).sum(1) / weights.sum(1), n=len(hits))
    by_class = {
        name: round(hits[manifest.targets == i].mean(), 3) for i, name in enumerate(CLASSES)
    }
    return {
        "generator": store["generator"]["name"],
        "drawing_steps": store["generator"]["steps"],
        "guidance": store["generator"]["guidance"],
        "scale": store["generator"].get("scale"),
        **recipe(output, store),
        "images": found.n,
        "intended_class": round(found.value, 3),
        "low": round(found.low, 3),
        "high": round(found.high, 3),
        **by_class,
        "fd_judge": round(frechet_distance(real=real, synthetic=features), 2),
        "pool": folder.name,
    }


def main() -> None:
    """Print and write one row a pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs"))
    parser.add_argument("--work", type=Path, default=Path("outputs/judge"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = judge(args.work)
    print(f"the judge on 1,000 other images: {score(model, *cohort(TEST_SEED, 250, args.work))}")
    (path,) = (args.output / "cohorts").glob("cohort-*.parquet")
    test = Manifest.read(path, classes=CLASSES).split("test")
    real, classes = seen(model, test)
    print(f"and on the study's test images: {(classes == test.targets).mean():.3f}, N {len(test)}")
    folders = sorted(p.parent for p in (args.output / "pools").glob("*/manifest.parquet"))
    table = pd.DataFrame([row(model, folder, args.output, real) for folder in folders])
    print(table.to_string(index=False))
    if args.csv:
        table.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
