import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xraysynth.data.splits import assign_splits, require_classes_in_splits, require_enough_images
from xraysynth.errors import ManifestError
from xraysynth.seeds import derive_seed, digest

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
    labels = pd.Series(["normal"] * 50 + ["no TB, sure"] * 20 + ["tuberculosis"] * 3)
    classes = ["normal", "no TB, sure", "tuberculosis"]
    with pytest.raises(ManifestError, match="tuberculosis has 3 images") as error:
        require_enough_images(labels, classes, minimum=15)
    assert """'classes=[normal, "no TB, sure"]'""" in str(error.value)
    require_enough_images(labels[:70], classes[:2], minimum=15)


def test_no_way_out_is_offered_that_leaves_one_class():
    labels = pd.Series(["normal"] * 50 + ["tuberculosis"] * 3)
    with pytest.raises(ManifestError, match=r"tuberculosis has 3 images.*add a source") as error:
        require_enough_images(labels, ["normal", "tuberculosis"], minimum=15)
    assert "classes=" not in str(error.value)


def test_a_class_missing_from_a_split_is_named():
    table = pd.DataFrame({"label": ["a", "a", "a"], "split": ["train", "val", "train"]})
    with pytest.raises(ManifestError, match="no a in test"):
        require_classes_in_splits(table, ["a"])


@pytest.mark.parametrize(("seed", "expected"), [(0, "477a2ed44916"), (7, "be407fa652bf")])
def test_a_seed_goes_on_giving_the_split_it_has_always_given(seed, expected):
    labels, groups = cohort()
    splits = assign_splits(labels, groups, fractions=FRACTIONS, seed=seed)
    assert digest(splits.tolist()).startswith(expected)


def one_group_at_a_time(labels, groups, seed):
    table = pd.DataFrame({"label": labels, "group": groups})
    common = {name: str(g["label"].mode().iloc[0]) for name, g in table.groupby("group")}
    sizes = table["group"].value_counts()
    split = {}
    for label in sorted(set(common.values())):
        members = [name for name in sorted(common) if common[name] == label]
        members.sort(key=lambda name: derive_seed(seed, label, name))
        before, total = 0, sum(sizes[name] for name in members)
        for name in members:
            middle = (before + sizes[name] / 2) / total
            split[name] = "test" if middle < 0.25 else "val" if middle < 0.25 + 0.15 else "train"
            before += sizes[name]
    return [split[name] for name in groups]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9).map(str)), min_size=1, max_size=40)
)
def test_it_is_the_split_that_a_loop_over_the_groups_gives(rows):
    labels, groups = map(list, zip(*rows, strict=True))
    found = assign_splits(labels, groups, fractions=FRACTIONS, seed=3)
    assert found.tolist() == one_group_at_a_time(labels, groups, 3)
