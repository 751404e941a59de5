"""Which images a classifier is trained on at a synthetic share, and what must not be among them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from xraysynth.errors import ConfigError, LeakageError, PoolError, some
from xraysynth.manifest import Manifest
from xraysynth.recipes import MixMode
from xraysynth.seeds import derive_seed


def mix(
    real_train: Manifest,
    synthetic: Mapping[str, Manifest],
    *,
    share: float,
    mode: MixMode,
    seed: int,
) -> list[Manifest]:
    """The training images: real rows first, then the rows taken from each pool.

    `replace` keeps the number of images and swaps `share` of them; `add` keeps all real rows and
    adds synthetic ones until they are `share` of the total. The same fraction of every class is
    synthetic (to one image), so that being synthetic says nothing about the class and the real
    split's class proportions stay. Choices are nested: the real rows kept at a higher share are
    among those kept at a lower one, and the synthetic rows of a lower share are among those of a
    higher one. Pools share equally and give their first images in order of image id.
    """
    wanted = synthetic_per_class(real_train, share=share, mode=mode)
    if sum(wanted.values()) and not synthetic:
        raise ConfigError(f"data.share={share} needs a pool; name a generator or set data.share=0")
    given_up = wanted if mode is MixMode.replace else dict.fromkeys(wanted, 0)
    parts = [_part(wanted, n, len(synthetic)) for n in range(len(synthetic))]
    pools = zip(synthetic.items(), parts, strict=True)
    return [
        _keep(real_train, given_up, seed),
        *(_first(p, name, part) for (name, p), part in pools),
    ]


def required_per_class(
    real_train: Manifest, *, share: float, mode: MixMode, n_pools: int = 1
) -> dict[str, int]:
    """Images of each class that each pool must hold."""
    return _part(synthetic_per_class(real_train, share=share, mode=mode), 0, n_pools)


def synthetic_per_class(real_train: Manifest, *, share: float, mode: MixMode) -> dict[str, int]:
    """Synthetic images of each class, all pools together."""
    counts = real_train.counts()
    empty = [label for label, n in counts.items() if n == 0]
    if empty:
        raise ConfigError(
            f"class {some(empty)} has no image in the real train split of {real_train.folder}; add "
            "images, take the class out of `classes`, or change the split"
        )
    if mode is MixMode.replace:
        return _apportion(counts, round(share * len(real_train)))
    if share == 1:
        raise ConfigError(
            "data.share=1 leaves no real image: use data.mode=replace, or a share below 1"
        )
    return _apportion(counts, round(share / (1 - share) * len(real_train)))


def _apportion(counts: Mapping[str, int], total: int) -> dict[str, int]:
    # Webster's method with the real counts as populations. Unlike largest remainders it never takes
    # an image from a class when the total grows, which keeps the choices of all shares nested.
    rounds = total // sum(counts.values()) + 1
    turns = [
        ((turn + 0.5) / n, position, label)
        for position, (label, n) in enumerate(counts.items())
        for turn in range(n * rounds)
    ]
    taken = Counter(label for _, _, label in sorted(turns)[:total])
    return {label: taken[label] for label in counts}


def _keep(real_train: Manifest, given_up: Mapping[str, int], seed: int) -> Manifest:
    """Drop so many rows of each class: those whose hash with the seed comes first."""
    table = real_train.table
    keys = [derive_seed(seed, "mixing", image_id) for image_id in table["image_id"]]
    rank = table.assign(key=keys).groupby("label")["key"].rank(method="first")
    return real_train.where(rank > table["label"].map(given_up))


def _part(wanted: Mapping[str, int], n: int, n_pools: int) -> dict[str, int]:
    """The n-th of equal parts; earlier pools take what is left over."""
    return {label: (total + n_pools - 1 - n) // n_pools for label, total in wanted.items()}


def _first(pool: Manifest, name: str, wanted: Mapping[str, int]) -> Manifest:
    available = pool.table["label"].value_counts()
    for label, needed in wanted.items():
        if available.get(label, 0) < needed:
            raise PoolError(
                f"pool {name} ({pool.folder}) has {available.get(label, 0)} images of {label}, but "
                f"{needed} are needed at this share; make more with generate.per_class="
                f"{max(wanted.values())}"
            )
    ordered = pool.table.sort_values("image_id")
    order = ordered.groupby("label").cumcount().reindex(pool.table.index)
    return pool.where(order < pool.table["label"].map(wanted).fillna(0))


def learned_from(manifest: Manifest) -> dict[str, list[str]]:
    """The record of what a generator has seen, for `check_firewall`: patients and image hashes.

    Raises `LeakageError` naming images that are not of the train split, or not real.
    """
    outside = manifest.table["split"].ne("train").to_numpy()
    _refuse("a generator learns from the train split only, but got others", manifest, outside)
    synthetic = manifest.table["is_synthetic"].to_numpy()
    _refuse("a generator learns from real images only, but got others", manifest, synthetic)
    return {
        "patients": sorted(set(_patients(manifest)) - {""}),
        "sha256": sorted(set(manifest.table["sha256"]) - {""}),
    }


def check_firewall(
    real: Manifest,
    synthetic: Mapping[str, Manifest],
    learned: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> None:
    """Nothing of the real val and test splits reaches a pool, and nothing synthetic reaches them.

    `learned` maps a pool's name to the `learned_from` record of its generator. Raises
    `LeakageError` naming the offenders.
    """
    held_out = real.where(real.table["split"].isin(["val", "test"]).to_numpy())
    _refuse("val and test must be real", held_out, held_out.table["is_synthetic"].to_numpy())
    for name, pool in synthetic.items():
        _refuse(
            f"pool {name} holds images that are not synthetic",
            pool,
            ~pool.table["is_synthetic"].to_numpy(),
        )
        copies = _is_in(pool.table["sha256"], held_out.table["sha256"])
        _refuse(f"pool {name} holds exact copies of val or test images", pool, copies)
    for name, record in (learned or {}).items():
        if not record:
            continue
        rule = f"the generator of pool {name} has learned from val or test"
        _refuse(f"{rule} patients", held_out, _is_in(_patients(held_out), record["patients"]))
        _refuse(f"{rule} images", held_out, _is_in(held_out.table["sha256"], record["sha256"]))


def _patients(manifest: Manifest) -> list[str]:
    # A patient id means something only within its data set.
    rows = zip(manifest.table["source"], manifest.table["patient_id"], strict=True)
    return [f"{source}/{patient}" if patient else "" for source, patient in rows]


def _is_in(values: Iterable[str], forbidden: Iterable[str]) -> np.ndarray:
    known = set(forbidden) - {""}
    return np.array([value in known for value in values], bool)


def _refuse(rule: str, manifest: Manifest, offends: np.ndarray) -> None:
    if offends.any():
        rows = manifest.table.loc[offends]
        who = (f"{r.image_id} (patient {r.patient_id or 'unknown'})" for r in rows.itertuples())
        raise LeakageError(
            f"{rule}: {some(who)}; remove them, or make the pool from the train split"
        )
