"""Splits into train, val and test, grouped by patient and stratified by class."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from xraysynth.data.screening import ScreenedImage, summarize_reason
from xraysynth.errors import ManifestError, format_some
from xraysynth.quoting import quote_override
from xraysynth.records import SPLITS
from xraysynth.seeds import derive_seed


def assign_splits(
    labels: Sequence[str], groups: Sequence[str], *, fractions: Mapping[str, float], seed: int
) -> np.ndarray:
    """Assign every image to a split; images of one group (a patient) share it.

    Class by class, groups are sorted by a hash of the seed and the group's own name, and cut at the
    fractions of that class's images. When patients are added or removed, only patients near the
    cuts change their split.

    Args:
        labels: Class per image, `(N,)`.
        groups: Group per image, `(N,)`.
        fractions: Fractions in [0, 1] of the splits "val" and "test"; the rest is "train".
        seed: Seed of the order.

    Returns:
        "train", "val" or "test" per image, `(N,)` objects.

    >>> assign_splits(["a"] * 4, ["1", "1", "2", "3"], fractions={"test": 0.5}, seed=0).tolist()
    ['test', 'test', 'train', 'train']
    """
    table = pd.DataFrame({"label": pd.Series(labels).array, "group": pd.Series(groups).array})
    counts = table.groupby(["group", "label"]).size().rename("images").reset_index()
    split_of_group = []
    for label, members in _summarise_groups(counts).groupby("label", sort=True):
        order = [derive_seed(seed, str(label), str(group)) for group in members["group"]]
        members = members.iloc[np.argsort(order, kind="stable")]
        sizes = members["images"].to_numpy()
        middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        splits = _cut_into_splits(middles, fractions)
        split_of_group.append(pd.Series(splits, index=members["group"].array))
    return np.asarray(table["group"].map(pd.concat(split_of_group)), dtype=object)


def _summarise_groups(counts: pd.DataFrame) -> pd.DataFrame:
    """Return each group's number of images and most frequent label (the first by name of several)."""
    most_frequent = counts.sort_values("images", ascending=False, kind="stable").drop_duplicates(
        "group"
    )
    sizes = counts.groupby("group", as_index=False)["images"].sum()
    return sizes.merge(most_frequent[["group", "label"]], on="group")


def _cut_into_splits(positions: np.ndarray, fractions: Mapping[str, float]) -> np.ndarray:
    """The split at each position in (0, 1): test comes first, then val, then train."""
    test = fractions.get("test", 0.0)
    val = fractions.get("val", 0.0)
    names = np.array(["test", "val", "train"], dtype=object)
    return names[np.where(positions < test, 0, np.where(positions < test + val, 1, 2))]


def require_enough_images(
    labels: pd.Series,
    classes: Sequence[str],
    *,
    minimum: int,
    not_used: Iterable[ScreenedImage] = (),
) -> None:
    """Require that every class has enough images to be split.

    Args:
        labels: Class per image.
        classes: The study's classes.
        minimum: Number of images that each class needs.
        not_used: Images that are not used, for the message.

    Raises:
        ManifestError: A class has fewer; the message names each with its number of images.
    """
    counts = labels.value_counts().reindex(list(classes), fill_value=0)
    rare = counts[counts < minimum]
    if rare.empty:
        return
    reasons = _count_reasons(not_used)
    listed = []
    for label, count in rare.items():
        listed.append(_format_count(str(label), count) + _format_not_used(reasons[str(label)]))
    unlabelled = f"; {reasons[''].total()} images have no label" if reasons[""] else ""
    common_classes = counts.index.difference(rare.index, sort=False).tolist()
    leave_out = f"leave the class out with {quote_override('classes', common_classes)} or "
    raise ManifestError(
        f"{', '.join(listed)}, but at least {minimum} per class are needed for train, val and test "
        f"(splits.minimum_per_class){unlabelled}; {leave_out if len(common_classes) > 1 else ''}add a "
        "source that has more"
    )


def _count_reasons(images: Iterable[ScreenedImage]) -> defaultdict[str, Counter[str]]:
    """Label -> why images with it are not used -> number of images."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        for reason in image.reasons:
            counts[image.label][summarize_reason(reason, image.file)] += 1
    return counts


def _format_not_used(reasons: Counter[str]) -> str:
    """The images of a class that are not used, in brackets; "" if there are none."""
    if not reasons:
        return ""
    listed = [f"{reason} ({count})" for reason, count in reasons.most_common()]
    return f" ({reasons.total()} more are not used: {format_some(listed)})"


def _format_count(label: str, count: int) -> str:
    return f"{label} has {count} image" if count == 1 else f"{label} has {count} images"


def require_classes_in_splits(table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Require that every class is in every split.

    Args:
        table: One row per image with the columns `label` and `split`.
        classes: The study's classes.

    Raises:
        ManifestError: A split has no image of a class; the message names all such pairs.
    """
    counts = table.groupby(["label", "split"]).size()
    missing = []
    for label in classes:
        for split in SPLITS:
            if counts.get((label, split), 0) == 0:
                missing.append(f"{label} in {split}")
    if missing:
        raise ManifestError(
            f"every class must be in every split, but there is no {', no '.join(missing)}; the class "
            "has too few patients: add data, or change splits.val_fraction and splits.test_fraction"
        )
