import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraysynth.data import audit, duplicates, persons
from xraysynth.data.leakage import require_no_leakage
from xraysynth.errors import ConfoundingError, LeakageError
from xraysynth.images import pad_and_resize
from xraysynth.manifest import ListedFile, Manifest, patient_keys
from xraysynth.records import to_json
from xraysynth.seeds import digest


def smooth(seed, size=96):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (12, 12)).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def prints_of(images):
    hashes, thumbnails = zip(*map(duplicates.fingerprint_pixels, images), strict=True)
    return duplicates.Fingerprints(np.stack(hashes), np.stack(thumbnails))


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_recompressed_resized_and_reexposed_copies_are_found_and_others_not():
    images = [smooth(seed) for seed in range(40)]
    half = np.asarray(Image.fromarray(images[1]).resize((48, 48), Image.Resampling.BICUBIC))
    brighter = (images[2] * 0.9 + 15).astype(np.uint8)
    copies = [jpeg(images[0], 70), pad_and_resize(half, 96), brighter, images[3]]
    found = duplicates.find_near_duplicates(prints_of([*images, *copies]))
    assert found.tolist() == [[0, 40], [1, 41], [2, 42], [3, 43]]


def test_many_identical_images_are_linked_without_comparing_all_pairs():
    image = smooth(0)
    pairs = duplicates.find_near_duplicates(prints_of([image] * 300), window=4)
    assert len(pairs) < 300 * 4
    assert len(set(duplicates.cluster_pairs(300, pairs))) == 1


def test_clusters_are_connected_components():
    numbers = duplicates.cluster_pairs(5, [(0, 1), (1, 4)])
    assert numbers[0] == numbers[1] == numbers[4]
    assert len(set(numbers)) == 3
    assert len(set(duplicates.cluster_pairs(3, []))) == 3


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
    report = audit.audit_cohort(manifest, [])
    assert report.cramers_v == pytest.approx(1.0)
    with pytest.raises(ConfoundingError, match="acknowledge_confounding=true"):
        audit.require_no_confounding(report, acknowledged=False)
    assert len(audit.require_no_confounding(report, acknowledged=True)) == 2


def test_sources_that_share_their_classes_do_not_stop():
    manifest = cohort(["x", "y"] * 10, (["covid19"] * 2 + ["normal"] * 2) * 5)
    report = audit.audit_cohort(manifest, [])
    assert report.cramers_v == pytest.approx(0.0)
    assert audit.require_no_confounding(report, acknowledged=False) == []


def test_one_source_tells_nothing():
    report = audit.audit_cohort(cohort(["x"] * 4, ["a", "b", "a", "b"]), [])
    assert report.cramers_v == 0.0
    assert report.source_confounding["a"]["balanced_accuracy"] == 0.5


def test_a_rare_class_from_a_source_of_its_own_is_found_although_accuracy_is_always_high():
    sources, labels = ["x"] * 97 + ["y"] * 3, ["normal"] * 97 + ["tuberculosis"] * 3
    tells = audit.compute_source_confounding(cohort(sources, labels).table)
    assert tells["tuberculosis"]["balanced_accuracy"] == 1.0


def test_many_small_sources_that_know_nothing_of_the_class_are_not_confounding():
    told = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sources = [f"hospital-{n}" for n in range(60)]  # of one image or two
        places = [*sources, *rng.choice(sources, 40)]
        manifest = cohort(places, rng.permutation(["a"] * 10 + ["b"] * 45 + ["c"] * 45).tolist())
        report = audit.audit_cohort(manifest, [])
        assert report.source_confounding["a"]["balanced_accuracy"] > 0.8
        told += audit.require_no_confounding(report, acknowledged=True)
    assert len(told) <= 2  # of 60 classes
    alone = cohort([f"s{n}" for n in range(40)], ["a", "b"] * 20)  # a source for each image
    assert audit.require_no_confounding(audit.audit_cohort(alone, []), acknowledged=False) == []


def test_what_an_audit_of_an_earlier_version_found_is_found_again():
    report = audit.audit_cohort(cohort(["x"] * 10 + ["y"] * 10, ["a"] * 10 + ["b"] * 10), [])
    assert report.source_confounding["a"]["by_chance"] < 0.9
    for tells in report.source_confounding.values():
        del tells["by_chance"]
    assert len(audit.require_no_confounding(report, acknowledged=True)) == 2


def test_near_duplicates_across_splits_are_leakage():
    manifest = cohort(["x"] * 3, ["a"] * 3, ["train", "test", "test"])
    require_no_leakage(manifest, [(1, 2)])
    with pytest.raises(LeakageError, match=r"of 2 patients, .* i0 \(train\) ~ i1 \(test\)"):
        require_no_leakage(manifest, [(0, 1)])


def test_of_a_pair_across_splits_the_lesser_image_goes():
    manifest = cohort(["x"] * 5, ["a"] * 5, ["train", "test", "val", "train", "train"])
    pairs = [(0, 1), (1, 2), (3, 4)]
    table, left = audit.drop_cross_split_images(manifest.table, pairs)
    assert table["image_id"].tolist() == ["i1", "i3", "i4"]
    assert left.tolist() == [[1, 2]]


def test_of_a_person_in_two_splits_every_image_of_the_lesser_goes():
    splits = ["train", "train", "train", "val", "test", "train", "train"]
    table = cohort(["x"] * 7, ["a"] * 7, splits).table
    # i0 and i1 are of one patient, as are i2 and i3 by name alone: these are of two sources.
    patients = ["p", "p", "q", "q", "r", "s", "t"]
    table = table.assign(patient_id=patients, source=["x", "x", "x", "y", "x", "x", "x"])
    pairs = [(0, 4), (1, 5)]  # p is the test patient r, and s is p
    left, pairs_left = audit.drop_cross_split_images(table, pairs)
    assert left["image_id"].tolist() == ["i2", "i3", "i4", "i6"]
    assert len(pairs_left) == 0
    report = Manifest(left, "folder", ("a",))
    require_no_leakage(report, pairs_left)


def test_patients_who_share_near_duplicates_are_one_person():
    table = cohort(["x"] * 5 + ["y"], ["a"] * 6).table
    table = table.assign(patient_id=["p", "p", "q", "r", "s", "p"])
    person = persons.assign_persons(table, [(1, 2), (2, 3)])
    assert len(set(person[:4])) == 1
    assert len(set(person)) == 3
    assert len(set(persons.assign_persons(table, []))) == 5
    linked = persons.find_linked_patients(table, [(0, 1), (1, 2), (2, 3)])
    assert linked == [["x/p", "x/q", "x/r"]]
    keys = persons.person_keys(table, linked).tolist()
    assert keys == ["x/p", "x/p", "x/p", "x/p", "x/s", "y/p"]
    assert persons.person_keys(table, []).tolist() == patient_keys(table).tolist()


def test_the_real_mini_cohort_is_confounded(shared_data):
    table = pd.read_csv(shared_data / "cxr-mini" / "manifest.csv", dtype=str)
    table = table[table["label"] != "tuberculosis"].rename(columns={"source_dataset": "source"})
    tells = audit.compute_source_confounding(table)
    assert tells["covid19"]["accuracy"] == pytest.approx(0.95, abs=0.005)
    assert (
        tells["covid19"]["balanced_accuracy"]
        > audit.CONFOUNDING_THRESHOLD
        > tells["normal"]["balanced_accuracy"]
    )


def planted(count=3000, copies=400, seed=0):
    """Random prints, and copies of some with up to 14 hash bits flipped; the pairs that they make."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    thumbnails = rng.integers(0, 256, (count, 1024), dtype=np.uint8)
    of, flips = rng.choice(count, copies, replace=False), rng.integers(0, 15, copies)
    flipped = rng.random((copies, 256)).argsort(axis=1).argsort(axis=1) < flips[:, None]
    noise = rng.normal(0, 4, (copies, 1024))
    prints = duplicates.Fingerprints(
        np.concatenate([hashes, hashes[of] ^ np.packbits(flipped, axis=1)]),
        np.concatenate([thumbnails, np.clip(thumbnails[of] + noise, 0, 255).astype(np.uint8)]),
    )
    return prints, sorted(zip(of.tolist(), range(count, count + copies), strict=True))


def test_every_copy_within_14_bits_is_found_and_nothing_else():
    prints, pairs = planted()
    assert list(map(tuple, duplicates.find_near_duplicates(prints).tolist())) == pairs


def test_hash_and_thumbnail_must_both_be_alike():
    prints, _ = planted(300, 40)
    other = np.random.default_rng(1).integers(0, 256, (340, 1024), dtype=np.uint8)
    assert not len(duplicates.find_near_duplicates(duplicates.Fingerprints(prints.hashes, other)))
    assert len(
        duplicates.find_near_duplicates(duplicates.Fingerprints(prints.hashes, prints.thumbnails))
    )
    far = np.random.default_rng(1).integers(0, 256, (340, 32), dtype=np.uint8)
    assert not len(duplicates.find_near_duplicates(duplicates.Fingerprints(far, prints.thumbnails)))


def test_thumbnails_are_compared_by_their_pearson_correlation():
    thumbnails = np.random.default_rng(0).integers(0, 256, (50, 1024), dtype=np.uint8)
    thumbnails[1] = 255 - thumbnails[0]
    thumbnails[2] = 7
    thumbnails[3], thumbnails[4] = 0, 255
    thumbnails[3, 0], thumbnails[4, 0] = 255, 0
    one, other = np.divmod(np.arange(2500), 50)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.corrcoef(thumbnails))[one, other]
    expected[2 * 50 + 2] = 0
    assert duplicates._compute_correlations(thumbnails, one * 50 + other) == pytest.approx(
        expected, abs=1e-12
    )


def test_a_collapsed_pool_is_linked_as_one_in_bounded_work():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, 256, dtype=np.uint8) ^ (rng.random((2000, 256)) < 0.015)
    same = np.tile(rng.integers(0, 256, 1024, dtype=np.uint8), (2000, 1))
    pairs = duplicates.find_near_duplicates(
        duplicates.Fingerprints(np.packbits(bits, axis=1), same), window=16
    )
    assert len(pairs) < 2000 * 16
    assert len(set(duplicates.cluster_pairs(2000, pairs))) == 1


def test_a_closed_group_still_takes_in_a_copy_that_only_the_last_word_shows():
    base = np.random.default_rng(0).integers(0, 256, 32, dtype=np.uint8)
    far = base.copy()
    far[np.arange(0, 30, 2)] ^= 1  # one bit in each word but the last
    hashes = np.stack([base] * 40 + [far])
    thumbnails = np.tile(np.arange(1024, dtype=np.uint16).astype(np.uint8), (41, 1))
    pairs = duplicates.find_near_duplicates(duplicates.Fingerprints(hashes, thumbnails), window=8)
    assert 40 in pairs[:, 1]


def test_blank_images_and_no_images_are_alike_to_none():
    blank = duplicates.Fingerprints(np.zeros((500, 32), np.uint8), np.zeros((500, 1024), np.uint8))
    assert duplicates.find_near_duplicates(blank).shape == (0, 2)
    none = duplicates.Fingerprints(np.zeros((0, 32), np.uint8), np.zeros((0, 1024), np.uint8))
    assert duplicates.find_near_duplicates(none).shape == (0, 2)
    assert len(duplicates.fingerprint_files([]).hashes) == 0


def test_fingerprints_of_files_are_in_order_over_several_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK_SIZE", 2)
    images = [smooth(seed) for seed in range(5)]
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    found, expected = duplicates.fingerprint_files(map(ListedFile, paths)), prints_of(images)
    assert (found.hashes == expected.hashes).all()
    assert (found.thumbnails == expected.thumbnails).all()


def test_the_audit_of_a_cohort_stays_what_it_was():
    rng = np.random.default_rng(0)
    columns = (
        rng.choice(names, 60).tolist()
        for names in (list("xyz"), list("abc"), ("train", "val", "test"))
    )
    manifest = cohort(*columns)
    pairs = [(k, k + 3) for k in range(0, 50, 2)]
    for given in (pairs, np.array(pairs)):
        report = audit.audit_cohort(manifest, given)
        for tells in report.source_confounding.values():
            assert tells.pop("by_chance") < 0.75
        values = to_json(report)
        values["source_tells"] = values.pop("source_confounding")  # as the digest was taken
        for later in ("simulated", "linked_patients", "notes", "acknowledged", "screening"):
            del values[later]  # what prepare adds
        assert digest(values).startswith("8cb19a0c7160")
    table, left = audit.drop_cross_split_images(manifest.table, pairs)
    assert digest([table["image_id"].tolist(), left.tolist()]).startswith("3d2d88e5a217")
