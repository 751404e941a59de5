"""Selects the images that an arm's classifier is trained on: real ones, and those of its pools."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from xraysynth.data.leakage import known_patient_keys
from xraysynth.errors import ConfigError, PoolError, format_some
from xraysynth.manifest import Manifest
from xraysynth.seeds import derive_seed
from xraysynth.training.recipe import Control, MixMode


def select_cohort(
    real: Manifest,
    *,
    leave_out: str = "",
    real_fraction: float = 1.0,
    seed: int,
    size_matched: bool = False,
) -> Manifest:
    """Selects the rows of a cohort that an arm trains, validates and tests on.

    Args:
        real: The cohort, with the splits train, val and test.
        leave_out: Data set (column `source`) to take out of train and val; "" takes out none.
        real_fraction: Fraction of the train split to keep, class by class. Smaller fractions are
            nested in larger ones of the same seed, and their sizes do not depend on the seed.
        seed: Decides which rows are kept.
        size_matched: Keep the data set `leave_out`, and take as many images of each class out of
            all data sets instead.

    Raises:
        ConfigError: There is no such data set, or a class would lose all its images.
    """
    selected = _leave_out_source(real, leave_out)
    if size_matched:
        selected = _match_sizes(real, selected, seed)
    return _subsample_train(selected, real_fraction, seed)


def mix(
    real_train: Manifest,
    synthetic: Mapping[str, Manifest],
    *,
    synthetic_fraction: float,
    mode: MixMode,
    seed: int,
    control: Control = Control.none,
) -> list[Manifest]:
    """Selects the training images of an arm from its real train split and its pools.

    The same fraction of every class is synthetic, give or take one image. So the class proportions
    stay as in the real images, and whether an image is synthetic says nothing about its class.
    Selections are nested: a higher synthetic fraction keeps a subset of the real rows, and takes a
    superset of the synthetic ones.

    Args:
        real_train: The real train split.
        synthetic: Pools by name. The same number of images is taken from each, in order of image id.
        synthetic_fraction: Synthetic images per training image, in [0, 1].
        mode: `replace` keeps the number of images and swaps real ones for synthetic ones; `add`
            and `pretrain` keep all real rows, and add synthetic ones up to `synthetic_fraction`.
        seed: Decides which real rows are replaced, and what the controls repeat or permute.
        control: `duplicate` takes no synthetic rows, but repeats the remaining real rows instead;
            `permuted` permutes the labels of the synthetic rows, whose counts per class stay.

    Returns:
        The real rows, then the rows taken from each pool; with control `duplicate` the real rows,
        then their repeats.

    Raises:
        ConfigError: A class has no real image, there is no pool, or no real row is left.
        PoolError: A pool holds too few images of a class.
    """
    per_class = synthetic_per_class(real_train, synthetic_fraction=synthetic_fraction, mode=mode)
    replaced = per_class if mode is MixMode.replace else dict.fromkeys(per_class, 0)
    real_rows = _drop_rows(real_train, replaced, seed)
    if control is Control.duplicate:
        return [real_rows, _repeat_rows(real_rows, per_class, seed)]
    if any(per_class.values()) and not synthetic:
        raise ConfigError(
            f"data.synthetic_fraction={synthetic_fraction} needs a pool; name a generator, for example "
            "generator=stable_diffusion, or set data.synthetic_fraction=0"
        )
    pool_rows = []
    for pool_index, (name, pool) in enumerate(synthetic.items()):
        quota = _pool_quota(per_class, pool_index, len(synthetic))
        pool_rows.append(_take_from_pool(pool, name, quota))
    if control is Control.permuted and pool_rows:
        pool_rows = _permute_labels(pool_rows, seed)
    return [real_rows, *pool_rows]


def synthetic_per_class(
    real_train: Manifest, *, synthetic_fraction: float, mode: MixMode
) -> dict[str, int]:
    """Returns the number of synthetic images of each class, over all pools.

    For n real images and synthetic fraction f, the total is f n in mode replace, and
    f / (1 − f) n in the other modes.
    """
    counts = real_train.class_counts()
    empty = classes_without_images(counts)
    if empty:
        raise ConfigError(
            f"class {format_some(empty)} has no image in the real train split of "
            f"{real_train.folder}; add images, take the class out of `classes`, or change the split"
        )
    if mode is MixMode.replace:
        return _apportion(counts, round(synthetic_fraction * len(real_train)))
    if synthetic_fraction == 1:
        raise ConfigError(
            f"data.synthetic_fraction=1 leaves no real image with data.mode={mode.value}; set "
            "data.mode=replace, or a fraction below 1, for example data.synthetic_fraction=0.5"
        )
    synthetic_per_real = synthetic_fraction / (1 - synthetic_fraction)
    return _apportion(counts, round(synthetic_per_real * len(real_train)))


def required_per_class(
    real_train: Manifest, *, synthetic_fraction: float, mode: MixMode, n_pools: int = 1
) -> dict[str, int]:
    """Returns the number of images of each class that each of `n_pools` pools must hold."""
    per_class = synthetic_per_class(real_train, synthetic_fraction=synthetic_fraction, mode=mode)
    return _pool_quota(per_class, 0, n_pools)


def classes_missing_without(real: Manifest, source: str) -> list[str]:
    """Lists the classes that train or val would lose without a data set, as "class in split"."""
    remaining = real.table[~_is_left_out(real, source)]
    present = set(zip(remaining["split"], remaining["label"], strict=True))
    missing = []
    for split, label in product(("train", "val"), real.classes):
        if (split, label) not in present:
            missing.append(f"{label} in {split}")
    return missing


def classes_without_images(class_counts: Mapping[str, int]) -> list[str]:
    """Lists the classes whose count is 0."""
    return [label for label, count in class_counts.items() if count == 0]


def _leave_out_source(real: Manifest, source: str) -> Manifest:
    if not source:
        return real
    sources = sorted(real.table["source"].unique())
    if source not in sources:
        raise ConfigError(
            f"data.leave_out={source!r} is no data set of this cohort; choose one of "
            f"{', '.join(sources)}, or leave none out with data.leave_out="
        )
    missing = classes_missing_without(real, source)
    if missing:
        raise ConfigError(
            f"data.leave_out={source} leaves no image of {', '.join(missing)}; choose a data set "
            "whose classes other data sets have too"
        )
    return real.where(~_is_left_out(real, source))


def _is_left_out(real: Manifest, source: str) -> np.ndarray:
    table = real.table
    return np.asarray((table["source"] == source) & table["split"].isin(["train", "val"]))


def _match_sizes(real: Manifest, smaller: Manifest, seed: int) -> Manifest:
    """Reduces train and val to as many images of each class as `smaller` has there.

    Whole patients are removed in an order by hash; of the last patient only as many images as
    needed. About as many patients remain as in `smaller`. If single images were removed instead,
    nearly every patient would remain, and so more patients than a smaller data set has.
    """
    table, cell = real.table, ["split", "label"]
    surplus = table.groupby(cell).size() - smaller.table.groupby(cell).size()
    patient_order = _derive_seeds(known_patient_keys(real), seed, "size_matched")
    image_order = _derive_seeds(table["image_id"], seed, "size_matched")
    ordered = table[cell].assign(patient_order=patient_order, image_order=image_order)
    ordered = ordered.sort_values(["patient_order", "image_order"])
    order_in_cell = ordered.groupby(cell).cumcount().reindex(table.index)
    cell_of_row = pd.MultiIndex.from_frame(table[cell])
    return real.where(order_in_cell >= surplus.reindex(cell_of_row).to_numpy())


def _subsample_train(real: Manifest, fraction: float, seed: int) -> Manifest:
    if fraction == 1:
        return real
    counts = real.split("train").class_counts()
    images_per_class = _apportion(counts, round(fraction * sum(counts.values())))
    empty = classes_without_images(images_per_class)
    if empty:
        available = ", ".join(str(counts[label]) for label in empty)
        raise ConfigError(
            f"data.real_fraction={fraction} leaves no training image of {format_some(empty)} "
            f"(of {available}); set a larger fraction"
        )
    is_train = real.table["split"] == "train"
    rank = _rank_by_hash(real.table[is_train], seed, "fraction").reindex(real.table.index)
    return real.where(~is_train | (rank <= real.table["label"].map(images_per_class)))


def _drop_rows(real_train: Manifest, dropped_per_class: Mapping[str, int], seed: int) -> Manifest:
    """Drops a number of rows of each class: those whose hash with the seed comes first."""
    rank = _rank_by_hash(real_train.table, seed, "mixing")
    return real_train.where(rank > real_train.table["label"].map(dropped_per_class))


def _repeat_rows(real: Manifest, images_per_class: Mapping[str, int], seed: int) -> Manifest:
    """Returns a number of repeated rows per class.

    The rows of a class are repeated equally often, give or take once. Repeat n of the image `<id>`
    has the id `<id>#n`.
    """
    order = _rank_by_hash(real.table, seed, "duplicate").sort_values().index
    labels = real.table["label"].reindex(order)
    rows, repeat_numbers = [], []
    for label, n_repeats in images_per_class.items():
        class_rows = order[labels == label].to_numpy()
        if n_repeats and not len(class_rows):
            raise ConfigError(
                f"data.control=duplicate has no real image of {label} left to repeat; use a smaller "
                "data.synthetic_fraction, or data.mode=add"
            )
        turn = np.arange(n_repeats)
        turns_per_round = max(1, len(class_rows))
        rows.append(class_rows[turn % turns_per_round])
        repeat_numbers.append(turn // turns_per_round + 1)
    repeats = real.table.loc[np.concatenate(rows)].reset_index(drop=True)
    suffixes = pd.Series(np.concatenate(repeat_numbers)).astype("str")
    return replace(real, table=repeats.assign(image_id=repeats["image_id"] + "#" + suffixes))


def _permute_labels(pools: Sequence[Manifest], seed: int) -> list[Manifest]:
    """Permutes the labels among the rows of all pools together."""
    labels = np.concatenate([pool.table["label"].to_numpy() for pool in pools])
    permuted = np.random.default_rng(derive_seed(seed, "permuted")).permutation(labels)
    relabelled = []
    for pool in pools:
        pool_labels, permuted = np.split(permuted, [len(pool)])
        relabelled.append(replace(pool, table=pool.table.assign(label=pool_labels)))
    return relabelled


def _pool_quota(
    images_per_class: Mapping[str, int], pool_index: int, n_pools: int
) -> dict[str, int]:
    """Returns how many images of each class one of `n_pools` pools gives.

    All pools give the same number; where it does not come out even, the first pools give one more.
    """
    n_extra = n_pools - 1 - pool_index
    return {label: (total + n_extra) // n_pools for label, total in images_per_class.items()}


def _take_from_pool(pool: Manifest, name: str, images_per_class: Mapping[str, int]) -> Manifest:
    """Takes the first images of each class in the order of their ids."""
    available = pool.class_counts()
    for label, required in images_per_class.items():
        if available.get(label, 0) < required:
            raise PoolError(
                f"pool {name} ({pool.folder}) has {available.get(label, 0)} images of {label}, but "
                f"this synthetic fraction needs {required}; generate more with generate.per_class="
                f"{max(images_per_class.values())}"
            )
    ordered = pool.table[["image_id", "label"]].sort_values("image_id")
    order_in_class = ordered.groupby("label").cumcount().reindex(pool.table.index)
    return pool.where(order_in_class < pool.table["label"].map(images_per_class).fillna(0))


def _apportion(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Divides `total` images among the classes in proportion to `counts`, by Webster's method.

    Unlike the method of largest remainders, Webster's method never gives a class fewer images when
    the total grows, so the selections of all fractions are nested. Turn t of a class of n images
    comes at time (t + 0.5) / n, and the first `total` turns of all classes get one image each.
    """
    n_images, n_classes = sum(counts.values()), len(counts)
    # With k classes and N images, every turn before time (total - k) / N gets an image, and none
    # after (total + k) / N does. Only the few turns in between have to be sorted.
    safe_time = (total - n_classes) / n_images
    apportioned, open_turns = {}, []
    for position, (label, n) in enumerate(counts.items()):
        first = max(0, int(n * safe_time) - 2)
        apportioned[label] = first
        n_open = 2 * n_classes * n // n_images + 5 if n else 0
        for turn in range(first, first + n_open):
            open_turns.append(((turn + 0.5) / n, position, label))
    open_turns.sort()
    for _, _, label in open_turns[: total - sum(apportioned.values())]:
        apportioned[label] += 1
    return apportioned


def _rank_by_hash(table: pd.DataFrame, seed: int, purpose: str) -> pd.Series:
    """Ranks the rows of each class from 1, in an order by hash."""
    keys = _derive_seeds(table["image_id"], seed, purpose)
    return table.assign(key=keys).groupby("label")["key"].rank(method="first")


def _derive_seeds(names: Iterable[str], seed: int, purpose: str) -> list[int]:
    return [derive_seed(seed, purpose, name) for name in names]
