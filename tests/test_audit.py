import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraysynth import audit
from xraysynth.errors import ConfoundingError, LeakageError
from xraysynth.images import study_format
from xraysynth.manifest import Manifest


def smooth(seed, size=96):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (12, 12)).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def prints_of(images):
    hashes, thumbnails = zip(*map(audit.fingerprint_pixels, images), strict=True)
    return audit.Fingerprints(np.stack(hashes), np.stack(thumbnails))


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_recompressed_resized_and_reexposed_copies_are_found_and_others_not():
    images = [smooth(seed) for seed in range(40)]
    half = np.asarray(Image.fromarray(images[1]).resize((48, 48), Image.Resampling.BICUBIC))
    brighter = (images[2] * 0.9 + 15).astype(np.uint8)
    copies = [jpeg(images[0], 70), study_format(half, 96), brighter, images[3]]
    found = audit.near_duplicates(prints_of([*images, *copies]))
    assert found == [(0, 40), (1, 41), (2, 42), (3, 43)]


def test_many_identical_images_are_linked_without_comparing_all_pairs():
    image = smooth(0)
    pairs = audit.near_duplicates(prints_of([image] * 300), window=4)
    assert len(pairs) < 300 * 4
    assert len(set(audit.clusters(300, pairs))) == 1


def test_clusters_are_connected_components():
    numbers = audit.clusters(5, [(0, 1), (1, 4)])
    assert numbers[0] == numbers[1] == numbers[4]
    assert len(set(numbers)) == 3
    assert len(set(audit.clusters(3, []))) == 3


def cohort(sources, labels, splits=None):
    n = len(labels)
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "path": [f"{k}.png" for k in range(n)],
            "label": labels,
            "source": sources,
            "patient_id": [f"p{k}" for k in range(n)],
            "split": splits or ["train"] * n,
            "sha256": [str(k) for k in range(n)],
        }
    )
    return Manifest(table, "folder", tuple(sorted(set(labels))))


def test_a_class_known_by_its_source_stops_unless_acknowledged():
    manifest = cohort(["x"] * 10 + ["y"] * 10, ["covid19"] * 10 + ["normal"] * 10)
    report = audit.audit(manifest, [])
    assert report["cramers_v"] == pytest.approx(1.0)
    with pytest.raises(ConfoundingError, match="acknowledge_confounding=true"):
        audit.require_no_confounding(report, acknowledged=False)
    assert len(audit.require_no_confounding(report, acknowledged=True)) == 2


def test_sources_that_share_their_classes_do_not_stop():
    manifest = cohort(["x", "y"] * 10, (["covid19"] * 2 + ["normal"] * 2) * 5)
    report = audit.audit(manifest, [])
    assert report["cramers_v"] == pytest.approx(0.0)
    assert audit.require_no_confounding(report, acknowledged=False) == []


def test_one_source_tells_nothing():
    report = audit.audit(cohort(["x"] * 4, ["a", "b", "a", "b"]), [])
    assert report["cramers_v"] == 0.0
    assert report["source_tells"]["a"]["balanced_accuracy"] == 0.5


def test_a_rare_class_from_a_source_of_its_own_is_found_although_accuracy_is_always_high():
    sources, labels = ["x"] * 97 + ["y"] * 3, ["normal"] * 97 + ["tuberculosis"] * 3
    tells = audit.source_tells(cohort(sources, labels).table)
    assert tells["tuberculosis"]["balanced_accuracy"] == 1.0


def test_near_duplicates_across_splits_are_leakage():
    manifest = cohort(["x"] * 3, ["a"] * 3, ["train", "test", "test"])
    audit.require_no_leakage(manifest, [(1, 2)])
    with pytest.raises(LeakageError, match=r"i0 \(train\) ~ i1 \(test\)"):
        audit.require_no_leakage(manifest, [(0, 1)])


def test_of_a_pair_across_splits_the_lesser_image_goes():
    manifest = cohort(["x"] * 5, ["a"] * 5, ["train", "test", "val", "train", "train"])
    pairs = [(0, 1), (1, 2), (3, 4)]
    table, left = audit.drop_crossing(manifest.table, pairs)
    assert table["image_id"].tolist() == ["i1", "i3", "i4"]
    assert left == [(1, 2)]


def test_the_real_mini_cohort_is_confounded(shared_data):
    table = pd.read_csv(shared_data / "cxr-mini" / "manifest.csv", dtype=str)
    table = table[table["label"] != "tuberculosis"].rename(columns={"source_dataset": "source"})
    tells = audit.source_tells(table)
    assert tells["covid19"]["accuracy"] == pytest.approx(0.95, abs=0.005)
    assert (
        tells["covid19"]["balanced_accuracy"] > audit.TELLING > tells["normal"]["balanced_accuracy"]
    )
