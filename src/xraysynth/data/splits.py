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
    table = pd.DataFrame({"label": pd.Series(labels).array, "group": pd.Series(groups).array})
    counts = table.groupby(["group", "label"]).size().rename("images").reset_index()
    chosen = []
    for label, members in _summarise_groups(counts).groupby("label", sort=True):
        seeds = [derive_seed(seed, str(label), str(group)) for group in members["group"]]
        members = members.iloc[np.argsort(seeds, kind="stable")]
        sizes = members["images"].to_numpy()
        middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        chosen.append(pd.Series(_cut_into_splits(middle, fractions), index=members["group"].array))
    return np.asarray(table["group"].map(pd.concat(chosen)), dtype=object)


def _summarise_groups(counts: pd.DataFrame) -> pd.DataFrame:
    """Per group its most frequent label, the first in the alphabet of several, and its images."""
    common = counts.sort_values("images", ascending=False, kind="stable").drop_duplicates("group")
    sizes = counts.groupby("group", as_index=False)["images"].sum()
    return sizes.merge(common[["group", "label"]], on="group")


def _cut_into_splits(positions: np.ndarray, fractions: Mapping[str, float]) -> np.ndarray:
    """Split name for each position in (0, 1): test first, then val, the rest is train."""
    test = fractions.get("test", 0.0)
    val = fractions.get("val", 0.0)
    names = np.array(["test", "val", "train"], dtype=object)
    return names[np.where(positions < test, 0, np.where(positions < test + val, 1, 2))]


def require_enough_images(labels: pd.Series, classes: Sequence[str], *, minimum: int) -> None:
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


def require_classes_in_splits(table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Raise `ManifestError` when a class is missing from a split."""
    counts = table.groupby(["label", "split"]).size()
    gaps = [f"{c} in {s}" for c in classes for s in SPLITS if counts.get((c, s), 0) == 0]
    if gaps:
        raise ManifestError(
            f"every class must be in every split, but there is no {', no '.join(gaps)}; it has too few "
            "patients: add data, or change splits.val_fraction and splits.test_fraction"
        )
