"""Synthetic images against real ones: every measure of a set of images, in one call.

`evaluate` takes manifests, of a study's pools or of any two folders (`from_folder`):

    real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
    found = evaluate(real=real, synthetic=synthetic, encoders=[build("embedded")], size_px=256,
                     cache=Path("cache"))

Without `train` it says how far the images are from real ones; with it, whether they are copies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.data.audit import person_keys
from xraysynth.data.pixels import pixels
from xraysynth.data.sources.base import IMAGE_SUFFIXES, files_below
from xraysynth.errors import DataNotFoundError, ManifestError, some
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.metrics import appearance, diversity
from xraysynth.evaluation.metrics.class_mix import class_shares, shared_classes, weighted_mean
from xraysynth.evaluation.metrics.features import FEATURES, Features, cached_features, image_set
from xraysynth.evaluation.metrics.measures import Measure, measure_copying, measure_sets
from xraysynth.evaluation.metrics.memorization import LEVEL, Memorization, memorization
from xraysynth.evaluation.metrics.neighbours import nearest
from xraysynth.images import read_colour
from xraysynth.manifest import Manifest
from xraysynth.records import require_inside, sha256_bytes
from xraysynth.seeds import derive_seed

CLOSEST = 6
"""Pairs of a synthetic image and its nearest training image that are shown."""

ONE_CLASS = "all"
"""The class of images in folders that do not tell classes apart."""


@dataclass(frozen=True)
class Precision:
    """How much work goes into intervals: `splits` of the real images, bootstrap `replicates`."""

    splits: int = 20
    replicates: int = 1000
    pairs_per_class: int = 200


def evaluate(
    *,
    real: Manifest,
    synthetic: Manifest,
    encoders: Sequence[Encoder],
    size_px: int,
    cache: Path,
    train: Manifest | None = None,
    held_out: Manifest | None = None,
    originals: Sequence[Path] | None = None,
    precision: Precision | None = None,
    linked: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """Measures of `synthetic` beside `real` images that its generator has not learned from.

    All images are put into the study's format at `size_px` first. `train` are the images that may
    have been copied, `held_out` real ones of other patients (`real` by default) that show how near
    images lie that are no copies. `originals` are the files as the generator made them, for
    `appearance`. `linked` are keys (source/patient_id) of real patients who are one person, a sequence
    for each person (`audit.linked_patients`). Pixels and features are kept in `cache`.

    Keys: `images`; `measures` (`metrics.measures.Measure` as dictionaries, by encoder, metric and
    class); `diversity`; `nearest_similarity` and `closest` (empty without `train`); `appearance`; and
    `flags`, which of the synthetic images count as copies by the first encoder, `(N,)` bool in the order
    of `synthetic`, or None where that cannot be said. Means over all classes are in the class mix of
    the real images that they stand beside, whatever that of `synthetic` is; a class that one of the
    two lacks is left out of both.
    """
    precision = precision or Precision()
    sets = {"synthetic": synthetic, "real": real}
    if train is not None:
        sets |= {"train": train, "held_out": held_out or real}
    images = {name: pixels(found, size_px=size_px, folder=cache) for name, found in sets.items()}
    held_rows = _rows_within(real, sets.get("held_out"))

    def features(encoder: Encoder) -> dict[str, Features]:
        found: dict[str, Features] = {}
        for name, one in reversed(sets.items()):
            if name == "real" and held_rows is not None:  # encoded among the held-out ones
                found[name] = found["held_out"].of(held_rows)
                continue
            digest = image_set(one.digest(), size_px=size_px)
            found[name] = cached_features(
                encoder, images[name], digest=digest, folder=cache / FEATURES
            )
        return found

    measures: list[Measure] = []
    copying: _Copies | None = None
    for encoder in encoders:
        found = features(encoder)
        measures += measure_sets(
            real=found["real"],
            synthetic=found["synthetic"],
            real_labels=real.table["label"].to_numpy(),
            synthetic_labels=synthetic.table["label"].to_numpy(),
            patients=person_keys(real.table, linked),
            classes=real.classes,
            splits=precision.splits,
        )
        if train is None:
            continue
        of_copies: dict[str, Any] = {
            "train": found["train"],
            "held_out": found["held_out"],
            "synthetic": found["synthetic"],
            "patients": person_keys(sets["held_out"].table, linked),
            "held_out_labels": sets["held_out"].table["label"].to_numpy(),
            "synthetic_labels": synthetic.table["label"].to_numpy(),
            "replicates": precision.replicates,
        }
        measures += measure_copying(**of_copies)
        copying = copying or _copying(of_copies, images, sets, precision)
    return {
        "images": len(synthetic),
        "measures": [asdict(measure) for measure in measures],
        "diversity": _diversity(sets, images, precision, linked),
        "nearest_similarity": copying.similarity if copying else [],
        "closest": copying.closest if copying else [],
        "appearance": _appearance(real, synthetic, originals, size_px, precision),
        "flags": copying.flags if copying else None,
    }


def _rows_within(part: Manifest, whole: Manifest | None) -> np.ndarray | None:
    """Where the images of `part` lie in `whole`, if all of them do."""
    if whole is None or part.folder != whole.folder:
        return None
    rows = pd.Index(whole.table["image_id"]).get_indexer(pd.Index(part.table["image_id"]))
    return None if (rows < 0).any() else rows


@dataclass(frozen=True)
class _Copies:
    """SSIM to the nearest training image, beside held-out ones; the closest pairs; `flags` `(N,)`."""

    similarity: list[dict[str, Any]]
    closest: list[dict[str, Any]]
    flags: np.ndarray | None


def _copying(
    of_copies: dict[str, Any],
    images: dict[str, np.ndarray],
    sets: dict[str, Manifest],
    precision: Precision,
) -> _Copies:
    near = {
        name: nearest(of_copies[name].values, of_copies["train"].values)
        for name in ("synthetic", "held_out")
    }
    alike = {
        name: diversity.nearest_real_similarity(images[name], images["train"], rows[:, 0])
        for name, (_, rows) in near.items()
    }
    labels, held_labels = (sets[name].table["label"].to_numpy(str) for name in near)
    shared = np.isin(held_labels, shared_classes(labels, held_labels))
    similarity: list[dict[str, Any]] = []
    for n, name in enumerate(("SSIM", diversity.ms_ssim_name(images["train"].shape[1]))):
        if shared.any():
            values = alike["synthetic"][:, n], alike["held_out"][:, n]
            similarity.append({"metric": name} | _beside(*values, labels, held_labels, precision))
    found = None
    if shared.sum() >= 1 / LEVEL:
        found = memorization(**of_copies)
    flags = None if found is None else found.flags
    return _Copies(similarity, _closest(near["synthetic"], found, sets), flags)


def _beside(
    values: np.ndarray,
    real_values: np.ndarray,
    labels: np.ndarray,
    real_labels: np.ndarray,
    precision: Precision,
) -> dict[str, float]:
    """The mean of synthetic images' values `(N,)` beside that of real ones `(M,)`, in their class mix.

    Both are over the classes that both have.
    """
    shared = np.isin(real_labels, shared_classes(labels, real_labels))
    mix = class_shares(real_labels[shared])
    mean = weighted_mean(values, labels, mix, replicates=precision.replicates)
    return mean.as_dict() | {"real": float(real_values[shared].mean())}


def _closest(
    near: tuple[np.ndarray, np.ndarray], found: Memorization | None, sets: dict[str, Manifest]
) -> list[dict[str, Any]]:
    distances, rows = (values[:, 0] for values in near)
    threshold = found.threshold if found else float("nan")
    files, trained = sets["synthetic"].files, sets["train"].files
    return [
        {
            "synthetic": str(files[one]),
            "train": str(trained[rows[one]]),
            "distance": float(distances[one]),
            "threshold": threshold,
            "flagged": bool(distances[one] < threshold),
        }
        for one in np.argsort(distances, kind="stable")[:CLOSEST]
    ]


def _diversity(
    sets: dict[str, Manifest],
    images: dict[str, np.ndarray],
    precision: Precision,
    linked: Sequence[Sequence[str]],
) -> list[dict[str, Any]]:
    real, synthetic = sets["real"], sets["synthetic"]
    options: dict[str, Any] = {
        "classes": real.classes,
        "max_pairs": precision.pairs_per_class,
        "replicates": precision.replicates,
    }
    alike = diversity.within_class(images["synthetic"], synthetic.targets, **options)
    patients = person_keys(real.table, linked).to_numpy()
    beside = diversity.within_class(images["real"], real.targets, patients=patients, **options)
    return [
        dict(zip(("metric", "label"), name.split("/", 1), strict=True))
        | found.as_dict()
        | {"real": beside[name].value}
        for name, found in alike.items()
    ]


def _appearance(
    real: Manifest,
    synthetic: Manifest,
    originals: Sequence[Path] | None,
    size_px: int,
    precision: Precision,
) -> list[dict[str, Any]]:
    """What gives images away, on originals where they are kept, beside real images."""
    if size_px < appearance.SMALLEST_PX:
        return []
    sides = (originals or synthetic.files, synthetic), (real.files, real)
    (made, made_labels), (beside, labels) = (_looks(files, one) for files, one in sides)
    if not shared_classes(made_labels, labels):
        return []
    return [
        {"measure": name, "meaning": meaning}
        | _beside(made[name], beside[name], made_labels, labels, precision)
        for name, meaning in appearance.MEASURES.items()
    ]


def _looks(files: Sequence[Path], of: Manifest) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The measures of some images, `(N,)` each, and their labels `(N,)`."""
    rows = _some(files)
    labels = of.table["label"].to_numpy(str)[rows]
    return appearance.of_images(read_colour(files[row]) for row in rows), labels


def _some(files: Sequence[Path], most: int = 2000) -> list[int]:
    """Rows of all files, or of `most` by hash: a mean needs no more, and originals are large."""
    return sorted(range(len(files)), key=lambda row: derive_seed(0, files[row].name))[:most]


def from_folder(folder: Path, *, is_synthetic: bool = False) -> Manifest:
    """All images below a folder; the classes are its sub-folders, where all images lie in one.

    A file `manifest.csv` in it with the columns path and label, and patient_id where known, is
    followed instead. Without patients each image counts as a patient of its own.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder.absolute()} is no folder; name a folder of images")
    listed = folder / "manifest.csv"
    table = pd.read_csv(listed, dtype=str) if listed.is_file() else _listed(folder)
    if table.empty or {"path", "label"} - set(table.columns):
        raise DataNotFoundError(
            f"{folder.absolute()}: no images ({', '.join(IMAGE_SUFFIXES)}) below it"
            if table.empty
            else f"{listed}: needs the columns path and label, but has {some(table.columns)}"
        )
    patients = table["patient_id"].fillna("") if "patient_id" in table else ""
    table = table.assign(
        image_id=table["path"],
        source=folder.name,
        patient_id="" if is_synthetic else patients,
        is_synthetic=is_synthetic,
        split="train" if is_synthetic else "test",
        sha256=[sha256_bytes(require_inside(folder, p).read_bytes()) for p in table["path"]],
    )
    if not is_synthetic:
        table["patient_id"] = table["patient_id"].where(table["patient_id"] != "", table["path"])
    return Manifest(table, folder, tuple(sorted(set(table["label"]))))


def _listed(folder: Path) -> pd.DataFrame:
    paths = files_below(folder, IMAGE_SUFFIXES)
    in_folders = all("/" in path for path in paths)
    labels = [path.split("/")[0] if in_folders else ONE_CLASS for path in paths]
    return pd.DataFrame({"path": paths, "label": labels})


def same_classes(*manifests: Manifest) -> list[Manifest]:
    """The manifests under one vocabulary: their classes if all have the same, or else one class."""
    names = {manifest.classes for manifest in manifests}
    if len(names) == 1:
        return list(manifests)
    if any(set(one) & set(other) for one in names for other in names if one != other):
        raise ManifestError(
            f"the folders hold different classes: {', '.join('/'.join(n) for n in sorted(names))}; "
            "give all of them the same sub-folders, or none"
        )
    return [Manifest(m.table.assign(label=ONE_CLASS), m.folder, (ONE_CLASS,)) for m in manifests]


def common_size(*manifests: Manifest, most: int = 512) -> int:
    """A side in pixels at which no set is enlarged: the smallest median of the longer sides."""
    from PIL import Image

    def median_side(manifest: Manifest) -> float:
        sides = []
        for path in list(manifest.files)[:200]:
            with Image.open(path) as image:
                sides.append(max(image.size))
        return float(np.median(sides))

    return int(min(most, *(median_side(manifest) for manifest in manifests)))
