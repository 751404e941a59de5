"""Patient-grouped, label-stratified splits."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xraysynth.errors import ManifestError
from xraysynth.records import SPLITS
from xraysynth.seeds import derive_seed


def assign_splits(
    labels: Sequence[str], groups: Sequence[str], *, fractions: Mapping[str, float], seed: int
) -> np.ndarray:
    """A split name per image, `(N,)`; images of one group (a patient) share it.

    Groups are put in an order that depends only on the seed and the group's own name, class by class,
    and cut at the wanted fractions of that class's images: other patients that come or go move
    no more than the ones at the cuts.

    >>> assign_splits(["a"] * 4, ["1", "1", "2", "3"], fractions={"test": 0.5}, seed=0).tolist()
    ['test', 'test', 'train', 'train']
    """
    table = pd.DataFrame({"label": list(labels), "group": list(groups)})
    chosen: dict[str, str] = {}
    by_group = table.groupby("group", sort=True)["label"]
    summary = pd.DataFrame({"label": by_group.agg(_most_frequent), "images": by_group.size()})
    for label, members in summary.groupby("label", sort=True):
        order = sorted(members.index, key=lambda group: derive_seed(seed, str(label), str(group)))
        sizes = members["images"].loc[order].to_numpy()
        middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        chosen |= dict(zip(order, _cut(middle, fractions), strict=True))
    return np.asarray(table["group"].map(chosen), dtype=object)


def _most_frequent(labels: pd.Series) -> str:
    return str(labels.mode().iloc[0])


def _cut(position: np.ndarray, fractions: Mapping[str, float]) -> list[str]:
    """Split name for each position in (0, 1): test first, then val, the rest is train."""
    test = fractions.get("test", 0.0)
    val = fractions.get("val", 0.0)
    return ["test" if p < test else "val" if p < test + val else "train" for p in position]


def require_images(labels: pd.Series, classes: Sequence[str], *, minimum: int) -> None:
    """Raise `ManifestError` when a class has too few images to be split at all."""
    counts = {name: int((labels == name).sum()) for name in classes}
    rare = {name: count for name, count in counts.items() if count < minimum}
    if rare:
        listed = ", ".join(
            f"{name} has {count} image{'s' * (count != 1)}" for name, count in rare.items()
        )
        rest = ",".join(name for name in classes if name not in rare)
        raise ManifestError(
            f"{listed}, but at least {minimum} per class are needed for train, val and test "
            f"(splits.minimum_per_class); leave the class out with 'classes=[{rest}]' or add a source "
            "that has more"
        )


def require_splits(table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Raise `ManifestError` when a class is missing from a split."""
    counts = table.groupby(["label", "split"]).size()
    gaps = [f"{c} in {s}" for c in classes for s in SPLITS if counts.get((c, s), 0) == 0]
    if gaps:
        raise ManifestError(
            f"every class must be in every split, but there is no {', no '.join(gaps)}; it has too few "
            "patients: add data, or change splits.val_fraction and splits.test_fraction"
        )
