import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xraysynth.errors import ManifestError
from xraysynth.splits import assign_splits, require_images, require_splits

FRACTIONS = {"val": 0.15, "test": 0.25}


def cohort(patients=200, classes=3):
    rng = np.random.default_rng(0)
    groups = np.repeat([f"p{n}" for n in range(patients)], rng.integers(1, 4, patients))
    labels = [f"c{int(group[1:]) % classes}" for group in groups]
    return labels, list(groups)


def test_patients_stay_together_and_classes_are_stratified():
    labels, groups = cohort()
    splits = assign_splits(labels, groups, fractions=FRACTIONS, seed=0)
    table = pd.DataFrame({"label": labels, "group": groups, "split": splits})
    assert table.groupby("group")["split"].nunique().max() == 1
    shares = pd.crosstab(table["label"], table["split"], normalize="index")
    assert (shares["test"] - 0.25).abs().max() < 0.05
    assert (shares["val"] - 0.15).abs().max() < 0.05


def test_the_split_depends_on_the_seed_and_not_on_the_row_order():
    labels, groups = cohort()
    splits = assign_splits(labels, groups, fractions=FRACTIONS, seed=0)
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = assign_splits(
        np.array(labels)[order], np.array(groups)[order], fractions=FRACTIONS, seed=0
    )
    assert (splits[order] == shuffled).all()
    assert (assign_splits(labels, groups, fractions=FRACTIONS, seed=1) != splits).any()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), min_size=1, max_size=80))
def test_no_group_is_ever_torn(rows):
    labels, groups = zip(*[(label, str(group)) for label, group in rows], strict=True)
    splits = assign_splits(labels, groups, fractions=FRACTIONS, seed=0)
    assert pd.Series(splits).groupby(list(groups)).nunique().max() == 1


def test_a_class_that_is_too_small_is_named_with_the_way_out():
    labels = pd.Series(["normal"] * 50 + ["tuberculosis"] * 3)
    with pytest.raises(ManifestError, match=r"tuberculosis has 3 images.*classes=\[normal\]"):
        require_images(labels, ["normal", "tuberculosis"], minimum=15)
    require_images(labels[:50], ["normal"], minimum=15)


def test_a_class_missing_from_a_split_is_named():
    table = pd.DataFrame({"label": ["a", "a", "a"], "split": ["train", "val", "train"]})
    with pytest.raises(ManifestError, match="no a in test"):
        require_splits(table, ["a"])
