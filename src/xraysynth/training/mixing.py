"""Which images a classifier is trained on at a synthetic share, and what must not be among them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from xraysynth.data.leakage import _known_patient_keys
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
    """What of a cohort is trained, validated and tested on.

    The data set `leave_out` goes from train and val; with `size_matched` it stays, and as many
    images of each class go from all data sets instead (`_match_sizes`). Of the train split
    `real_fraction` stays, class by class; the parts of one seed are nested, and their sizes do not
    depend on it. Raises `ConfigError` naming the classes that would go.
    """
    rest = _leave_out_source(real, leave_out)
    if size_matched:
        rest = _match_sizes(real, rest, seed)
    return _subsample_train(rest, real_fraction, seed)


def _leave_out_source(real: Manifest, source: str) -> Manifest:
    if not source:
        return real
    known = sorted(real.table["source"].unique())
    if source not in known:
        raise ConfigError(
            f"data.leave_out={source!r} is no data set of this cohort; there is {', '.join(known)}"
        )
    gaps = classes_missing_without(real, source)
    if gaps:
        raise ConfigError(
            f"data.leave_out={source} leaves no image of {', '.join(gaps)}; only a data set whose "
            "classes are in others too can be left out"
        )
    return real.where(~_is_left_out(real, source))


def _match_sizes(real: Manifest, smaller: Manifest, seed: int) -> Manifest:
    """As many images of each class, in train and val alike, as `smaller` has; all of the test split.

    Those that go are whole patients in an order by hash, and of the last patient the images that
    are too many, so that about as many patients go as well: images drawn one by one would leave
    nearly every patient in, and with them more than a smaller data set has.
    """
    table, group = real.table, ["split", "label"]
    surplus = table.groupby(group).size() - smaller.table.groupby(group).size()
    who = [derive_seed(seed, "size_matched", patient) for patient in _known_patient_keys(real)]
    which = [derive_seed(seed, "size_matched", image_id) for image_id in table["image_id"]]
    ordered = table[group].assign(who=who, which=which).sort_values(["who", "which"])
    turn = ordered.groupby(group).cumcount().reindex(table.index)
    places = pd.MultiIndex.from_frame(table[group])
    return real.where(turn >= surplus.reindex(places).to_numpy())


def classes_missing_without(real: Manifest, source: str) -> list[str]:
    """Classes that the train or the val split would lose with a data set, as "class in split"."""
    rest = real.table[~_is_left_out(real, source)]
    counts = rest.groupby(["label", "split"]).size()
    return [f"{c} in {s}" for s in ("train", "val") for c in real.classes if (c, s) not in counts]


def _is_left_out(real: Manifest, source: str) -> np.ndarray:
    table = real.table
    return np.asarray((table["source"] == source) & table["split"].isin(["train", "val"]))


def _subsample_train(real: Manifest, fraction: float, seed: int) -> Manifest:
    if fraction == 1:
        return real
    counts = real.split("train").class_counts()
    kept = _apportion(counts, round(fraction * sum(counts.values())))
    empty = [label for label, n in kept.items() if n == 0]
    if empty:
        raise ConfigError(
            f"data.real_fraction={fraction} leaves no training image of {format_some(empty)} "
            f"(of {', '.join(str(counts[label]) for label in empty)}); use a larger fraction"
        )
    train = real.table["split"] == "train"
    rank = _rank_by_hash(real.table[train], seed, "fraction").reindex(real.table.index)
    return real.where(~train | (rank <= real.table["label"].map(kept)))


def mix(
    real_train: Manifest,
    synthetic: Mapping[str, Manifest],
    *,
    synthetic_fraction: float,
    mode: MixMode,
    seed: int,
    control: Control = Control.none,
) -> list[Manifest]:
    """The training images: real rows first, then the rows taken from each pool.

    `replace` keeps the number of images and swaps `share` of them; `add` and `pretrain` keep all
    real rows and add synthetic ones until they are `share` of the total. The same fraction of every
    class is synthetic (to one image), so that being synthetic says nothing about the class and the
    real split's class proportions stay. Choices are nested: the real rows kept at a higher share are
    among those kept at a lower one, and the synthetic rows of a lower share are among those of a
    higher one. Pools share equally and give their first images in order of image id.

    Control `duplicate` puts repeats of the real rows kept in the place of the synthetic ones, needs
    no pool and gives two manifests: those rows, and the repeats. Control `permuted` deals the labels
    of the synthetic rows out anew among them, so that the number of each class stays.
    """
    wanted = synthetic_per_class(real_train, synthetic_fraction=synthetic_fraction, mode=mode)
    given_up = wanted if mode is MixMode.replace else dict.fromkeys(wanted, 0)
    kept = _drop_rows(real_train, given_up, seed)
    if control is Control.duplicate:
        return [kept, _repeat_rows(kept, wanted, seed)]
    if sum(wanted.values()) and not synthetic:
        raise ConfigError(
            f"data.synthetic_fraction={synthetic_fraction} needs a pool; name a generator or set "
            "data.synthetic_fraction=0"
        )
    parts = [_pool_quota(wanted, n, len(synthetic)) for n in range(len(synthetic))]
    pools = zip(synthetic.items(), parts, strict=True)
    made = [_take_from_pool(p, name, part) for (name, p), part in pools]
    return [kept, *(_permute_labels(made, seed) if control is Control.permuted and made else made)]


def _repeat_rows(real: Manifest, images_per_class: Mapping[str, int], seed: int) -> Manifest:
    """So many rows of each class once more, each as often as any other to one; `id#n` is a repeat."""
    order = _rank_by_hash(real.table, seed, "duplicate").sort_values().index
    labels = real.table["label"].reindex(order)
    rows, turns = [], []
    for label, n in images_per_class.items():
        own = order[labels == label]
        if n and not len(own):
            raise ConfigError(
                f"data.control=duplicate has no real image of {label} left to repeat; use a smaller "
                "data.synthetic_fraction, or data.mode=add"
            )
        turn = np.arange(n)
        rows.append(own.to_numpy()[turn % max(1, len(own))])
        turns.append(turn // max(1, len(own)) + 1)
    repeated = real.table.loc[np.concatenate(rows)].reset_index(drop=True)
    times = pd.Series(np.concatenate(turns)).astype("str")
    return replace(real, table=repeated.assign(image_id=repeated["image_id"] + "#" + times))


def _permute_labels(pools: Sequence[Manifest], seed: int) -> list[Manifest]:
    """The same rows, their labels dealt out anew among all of them."""
    labels = np.concatenate([part.table["label"].to_numpy() for part in pools])
    dealt = np.random.default_rng(derive_seed(seed, "permuted")).permutation(labels)
    ends = np.cumsum([len(part) for part in pools])[:-1]
    return [
        replace(part, table=part.table.assign(label=own))
        for part, own in zip(pools, np.split(dealt, ends), strict=True)
    ]


def required_per_class(
    real_train: Manifest, *, synthetic_fraction: float, mode: MixMode, n_pools: int = 1
) -> dict[str, int]:
    """Images of each class that each pool must hold."""
    return _pool_quota(
        synthetic_per_class(real_train, synthetic_fraction=synthetic_fraction, mode=mode),
        0,
        n_pools,
    )


def synthetic_per_class(
    real_train: Manifest, *, synthetic_fraction: float, mode: MixMode
) -> dict[str, int]:
    """Synthetic images of each class, all pools together."""
    counts = real_train.class_counts()
    empty = [label for label, n in counts.items() if n == 0]
    if empty:
        raise ConfigError(
            f"class {format_some(empty)} has no image in the real train split of {real_train.folder}; add "
            "images, take the class out of `classes`, or change the split"
        )
    if mode is MixMode.replace:
        return _apportion(counts, round(synthetic_fraction * len(real_train)))
    if synthetic_fraction == 1:
        raise ConfigError(
            "data.synthetic_fraction=1 leaves no real image: use data.mode=replace, or a share below 1"
        )
    return _apportion(
        counts, round(synthetic_fraction / (1 - synthetic_fraction) * len(real_train))
    )


def _apportion(counts: Mapping[str, int], total: int) -> dict[str, int]:
    # Webster's method with the real counts as populations. Unlike largest remainders it never takes
    # an image from a class when the total grows, which keeps the choices of all shares nested.
    # Turn t of a class of n comes at (t + 0.5) / n. Of k classes, all turns before `sure` are among
    # the first `total`, and these end before total / sum(n) + k / sum(n): only the few between are
    # put in order.
    whole, k = sum(counts.values()), len(counts)
    sure = (total - k) / whole
    taken = {label: max(0, int(n * sure) - 2) for label, n in counts.items()}
    turns = [
        ((turn + 0.5) / n, position, label)
        for position, (label, n) in enumerate(counts.items())
        for turn in range(taken[label], taken[label] + 2 * k * n // whole + 5)
        if n
    ]
    for _, _, label in sorted(turns)[: total - sum(taken.values())]:
        taken[label] += 1
    return taken


def _drop_rows(real_train: Manifest, dropped_per_class: Mapping[str, int], seed: int) -> Manifest:
    """Drop so many rows of each class: those whose hash with the seed comes first."""
    table = real_train.table
    return real_train.where(
        _rank_by_hash(table, seed, "mixing") > table["label"].map(dropped_per_class)
    )


def _rank_by_hash(table: pd.DataFrame, seed: int, purpose: str) -> pd.Series:
    """Place of every row among those of its class in an order by hash, from 1."""
    keys = [derive_seed(seed, purpose, image_id) for image_id in table["image_id"]]
    return table.assign(key=keys).groupby("label")["key"].rank(method="first")


def _pool_quota(
    images_per_class: Mapping[str, int], pool_index: int, n_pools: int
) -> dict[str, int]:
    """The n-th of equal parts; earlier pools take what is left over."""
    return {
        label: (total + n_pools - 1 - pool_index) // n_pools
        for label, total in images_per_class.items()
    }


def _take_from_pool(pool: Manifest, name: str, images_per_class: Mapping[str, int]) -> Manifest:
    available = pool.table["label"].value_counts()
    for label, needed in images_per_class.items():
        if available.get(label, 0) < needed:
            raise PoolError(
                f"pool {name} ({pool.folder}) has {available.get(label, 0)} images of {label}, but "
                f"{needed} are needed at this share; make more with generate.per_class="
                f"{max(images_per_class.values())}"
            )
    ordered = pool.table[["image_id", "label"]].sort_values("image_id")
    order = ordered.groupby("label").cumcount().reindex(pool.table.index)
    return pool.where(order < pool.table["label"].map(images_per_class).fillna(0))
