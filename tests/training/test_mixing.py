"""Mixing: shares are exact, choices are nested, and nothing held out is trained on."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xraysynth.data.leakage import (
    build_learning_record,
    require_left_out_unseen,
    require_no_contamination,
)
from xraysynth.errors import ConfigError, LeakageError, PoolError
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.seeds import digest
from xraysynth.training.mixing import (
    _apportion,
    classes_missing_without,
    mix,
    required_per_class,
    select_cohort,
)
from xraysynth.training.recipe import ClassifierRecipe, Control, DataRecipe, MixMode, TrainerRecipe

CLASSES = ("normal", "pneumonia", "covid19")
SHARES = (0.0, 0.1, 0.25, 0.29, 0.5, 0.57, 0.75, 0.9, 1.0)


def manifest(counts: dict[str, int], *, split: str = "train", synthetic: bool = False) -> Manifest:
    rows = [
        {
            "image_id": f"{split}-{label}-{n:06d}",
            "path": f"{split}-{label}-{n}.png",
            "label": label,
            "source": "pool" if synthetic else "hospital",
            "patient_id": "" if synthetic else f"{split}-{label}-{n}",
            "split": split,
            "is_synthetic": synthetic,
            "sha256": f"{synthetic}-{split}-{label}-{n}",
        }
        for label, count in counts.items()
        for n in range(count)
    ]
    return Manifest(pd.DataFrame(rows), Path("data"), CLASSES)


REAL = manifest({"normal": 41, "pneumonia": 20, "covid19": 7})
POOL = manifest(dict.fromkeys(CLASSES, 200), synthetic=True)


def ids(part: Manifest) -> set[str]:
    return set(part.table["image_id"])


@pytest.mark.parametrize("share", SHARES)
def test_replace_keeps_the_number_of_images_and_the_class_proportions(share: float) -> None:
    real, synthetic = mix(REAL, {"a": POOL}, synthetic_fraction=share, mode=MixMode.replace, seed=0)
    assert len(real) + len(synthetic) == len(REAL)
    assert len(synthetic) == round(share * len(REAL))
    for label, n in REAL.class_counts().items():
        assert real.class_counts()[label] + synthetic.class_counts()[label] == n
        assert abs(synthetic.class_counts()[label] - share * n) <= 1


@pytest.mark.parametrize("mode", [MixMode.add, MixMode.pretrain])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_add_keeps_all_real_images_and_reaches_the_share(share: float, mode: MixMode) -> None:
    pool = manifest(dict.fromkeys(CLASSES, 500), synthetic=True)
    real, synthetic = mix(REAL, {"a": pool}, synthetic_fraction=share, mode=mode, seed=0)
    assert ids(real) == ids(REAL)
    total = len(real) + len(synthetic)
    assert abs(len(synthetic) - share * total) <= 1
    for label, n in REAL.class_counts().items():
        assert abs(synthetic.class_counts()[label] - n * share / (1 - share)) <= 1


@pytest.mark.parametrize("mode", list(MixMode))
def test_choices_of_a_higher_share_are_nested_in_those_of_a_lower_one(mode: MixMode) -> None:
    shares = [s for s in SHARES if s < 0.9]
    parts = [mix(REAL, {"a": POOL}, synthetic_fraction=s, mode=mode, seed=3) for s in shares]
    for (real_low, fake_low), (real_high, fake_high) in pairwise(parts):
        assert ids(real_high) <= ids(real_low)
        assert ids(fake_low) <= ids(fake_high)


def test_the_seed_chooses_the_real_rows_and_nothing_else_does() -> None:
    def kept(seed: int, real: Manifest = REAL) -> set[str]:
        return ids(
            mix(real, {"a": POOL}, synthetic_fraction=0.5, mode=MixMode.replace, seed=seed)[0]
        )

    shuffled = Manifest(REAL.table.sample(frac=1, random_state=1), REAL.folder, CLASSES)
    assert kept(0) == kept(0, shuffled)
    assert kept(0) != kept(1)


def test_pools_share_equally_and_give_their_first_images() -> None:
    shuffled = Manifest(POOL.table.sample(frac=1, random_state=1), POOL.folder, CLASSES)
    pools = {"a": POOL, "b": shuffled}
    _, a, b = mix(REAL, pools, synthetic_fraction=0.5, mode=MixMode.replace, seed=0)
    assert len(a) + len(b) == 34
    for label in CLASSES:
        assert a.class_counts()[label] - b.class_counts()[label] in (0, 1)
        expected = {f"train-{label}-{n:06d}" for n in range(b.class_counts()[label])}
        assert ids(b.where(b.table["label"] == label)) == expected


def test_required_per_class_is_enough_and_not_more() -> None:
    needed = required_per_class(REAL, synthetic_fraction=0.5, mode=MixMode.replace, n_pools=2)
    enough = manifest(needed, synthetic=True)
    mix(REAL, {"a": enough, "b": enough}, synthetic_fraction=0.5, mode=MixMode.replace, seed=0)
    short = manifest(needed | {"covid19": needed["covid19"] - 1}, synthetic=True)
    with pytest.raises(PoolError, match=r"pool a .* images of covid19.*generate\.per_class=11"):
        mix(REAL, {"a": short, "b": enough}, synthetic_fraction=0.5, mode=MixMode.replace, seed=0)


def test_what_cannot_be_mixed_is_refused() -> None:
    for mode in (MixMode.add, MixMode.pretrain):
        with pytest.raises(ConfigError, match=r"data\.mode=replace"):
            mix(REAL, {"a": POOL}, synthetic_fraction=1.0, mode=mode, seed=0)
    with pytest.raises(ConfigError, match="needs a pool"):
        mix(REAL, {}, synthetic_fraction=0.5, mode=MixMode.add, seed=0)
    without = REAL.where(REAL.table["label"] != "covid19")
    with pytest.raises(ConfigError, match="covid19 has no image in the real train split"):
        mix(without, {"a": POOL}, synthetic_fraction=0.5, mode=MixMode.replace, seed=0)


@pytest.mark.parametrize("mode", [MixMode.replace, MixMode.add])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_the_duplicate_control_repeats_the_arms_own_real_images_evenly(
    share: float, mode: MixMode
) -> None:
    def mixed(control: Control) -> list[Manifest]:
        return mix(REAL, {"a": POOL}, synthetic_fraction=share, mode=mode, seed=1, control=control)

    real, synthetic = mixed(Control.none)
    kept, repeats = mix(
        REAL, {}, synthetic_fraction=share, mode=mode, seed=1, control=Control.duplicate
    )
    assert ids(kept) == ids(real)
    assert repeats.class_counts() == synthetic.class_counts()
    assert not repeats.table["is_synthetic"].any()
    assert set(repeats.table["path"]) <= set(kept.table["path"])
    times = repeats.table["path"].value_counts().reindex(kept.table["path"], fill_value=0)
    labels = dict(zip(kept.table["path"], kept.table["label"], strict=True))
    for _, group in times.groupby(lambda path: labels[path]):
        assert group.max() - group.min() <= 1
    assert ids(
        mix(REAL, {}, synthetic_fraction=share, mode=mode, seed=1, control=Control.duplicate)[1]
    ) == ids(repeats)


def test_a_class_without_a_real_image_left_cannot_be_repeated() -> None:
    few = manifest({"normal": 40, "pneumonia": 20, "covid19": 1})
    with pytest.raises(ConfigError, match=r"duplicate has no real image of covid19"):
        mix(
            few, {}, synthetic_fraction=0.9, mode=MixMode.replace, seed=0, control=Control.duplicate
        )


def test_the_permuted_control_deals_the_labels_of_synthetic_images_anew() -> None:
    def mixed(control: Control, seed: int = 0) -> list[Manifest]:
        pools = {"a": POOL, "b": POOL}
        return mix(
            REAL, pools, synthetic_fraction=0.5, mode=MixMode.add, seed=seed, control=control
        )

    plain_real, *plain_made = mixed(Control.none)
    real, *made = mixed(Control.permuted)
    assert real.table.equals(plain_real.table)
    before, after = (pd.concat([part.table for part in parts]) for parts in (plain_made, made))
    assert before["image_id"].tolist() == after["image_id"].tolist()
    assert before["label"].value_counts().to_dict() == after["label"].value_counts().to_dict()
    moved = (before["label"] != after["label"]).mean()
    assert 0.3 < moved < 0.8  # at these proportions 56 % of the labels are expected to change
    again = pd.concat([part.table for part in mixed(Control.permuted)[1:]])
    other = pd.concat([part.table for part in mixed(Control.permuted, seed=5)[1:]])
    assert after["label"].tolist() == again["label"].tolist()
    assert after["label"].tolist() != other["label"].tolist()


def test_fractions_of_the_real_images_are_nested_and_apportioned_by_class() -> None:
    fractions = (0.25, 0.5, 0.8, 1.0)
    parts = [select_cohort(with_val(), real_fraction=f, seed=2) for f in fractions]
    for fraction, part in zip(fractions, parts, strict=True):
        assert ids(part.split("val")) == ids(with_val().split("val"))
        for label, n in REAL.class_counts().items():
            assert abs(part.split("train").class_counts()[label] - fraction * n) <= 1
    assert all(ids(low) < ids(high) for low, high in pairwise(parts))
    assert ids(parts[1]) != ids(select_cohort(with_val(), real_fraction=0.5, seed=3))
    counts = select_cohort(with_val(), real_fraction=0.5, seed=3).class_counts()
    assert counts == parts[1].class_counts()
    with pytest.raises(ConfigError, match=r"real_fraction=0\.05 .*covid19 \(of 7\)"):
        select_cohort(with_val(), real_fraction=0.05, seed=0)


def test_synthetic_images_are_counted_against_the_real_ones_used() -> None:
    half = select_cohort(with_val(), real_fraction=0.5, seed=0).split("train")
    real, synthetic = mix(half, {"a": POOL}, synthetic_fraction=0.5, mode=MixMode.add, seed=0)
    assert len(real) == len(synthetic) == len(half) == round(len(REAL) / 2)


def test_a_data_set_is_left_out_of_train_and_val_but_not_of_test() -> None:
    table = pd.concat(
        [
            manifest(dict.fromkeys(CLASSES, 6), split=split).table.assign(
                source=["here", "there"] * 9
            )
            for split in ("train", "val", "test")
        ]
    )
    real = Manifest(table, Path("data"), CLASSES)
    rest = select_cohort(real, leave_out="there", seed=0)
    sources = rest.table.groupby("split")["source"].unique().map(sorted).to_dict()
    assert sources == {"train": ["here"], "val": ["here"], "test": ["here", "there"]}
    with pytest.raises(ConfigError, match=r"'ther' is no data set.*choose one of here, there"):
        select_cohort(real, leave_out="ther", seed=0)
    assert classes_missing_without(real, "there") == []
    torn = Manifest(
        table.assign(source=["there" if x == "covid19" else "here" for x in table["label"]]),
        Path("d"),
        CLASSES,
    )
    with pytest.raises(ConfigError, match=r"leaves no image of covid19 in train, covid19 in val"):
        select_cohort(torn, leave_out="there", seed=0)


def hospitals(seed: int = 0, images_per_patient: int = 3) -> Manifest:
    """Three hospitals of unequal size and class mix; a patient has several images."""
    rng = np.random.default_rng(seed)
    rows = []
    for source, patients in {"a": 60, "b": 30, "c": 15}.items():
        for patient in range(patients):
            split = ("train", "val", "test", "train", "train")[patient % 5]
            label = rng.choice(CLASSES, p=[0.5, 0.3, 0.2] if source == "a" else [0.2, 0.3, 0.5])
            name = f"{source}-{patient}"
            rows += [
                {"image_id": f"{name}-{n}", "patient_id": name, "label": label, "split": split}
                | {"source": source, "path": f"{name}-{n}.png"}
                for n in range(images_per_patient)
            ]
    return Manifest(pd.DataFrame(rows), Path("data"), CLASSES)


@pytest.mark.parametrize("source", ["a", "b", "c"])
def test_a_size_matched_cohort_has_the_class_counts_of_one_without_a_data_set(source: str) -> None:
    real = hospitals()
    without = select_cohort(real, leave_out=source, seed=0)
    matched = select_cohort(real, leave_out=source, seed=0, size_matched=True)
    for split in ("train", "val"):
        assert matched.split(split).class_counts() == without.split(split).class_counts()
    assert set(matched.split("train").table["source"]) == {"a", "b", "c"}
    assert ids(matched.split("test")) == ids(real.split("test"))
    other = select_cohort(real, leave_out=source, seed=1, size_matched=True)
    assert other.class_counts() == matched.class_counts()
    assert ids(other) != ids(matched)
    again = Manifest(real.table.sample(frac=1, random_state=3), real.folder, CLASSES)
    assert ids(select_cohort(again, leave_out=source, seed=0, size_matched=True)) == ids(matched)


def test_a_size_matched_cohort_has_as_few_patients_too() -> None:
    real = hospitals(images_per_patient=6)
    for seed in range(5):
        without, matched = (
            select_cohort(real, leave_out="a", seed=seed, size_matched=alike).split("train").table
            for alike in (False, True)
        )
        torn = matched.groupby("patient_id").size() < 6
        assert torn.sum() <= len(CLASSES)
        assert 0 <= matched["patient_id"].nunique() - without["patient_id"].nunique() <= 3


def test_a_fraction_of_a_size_matched_cohort_is_one_of_its_images() -> None:
    real = hospitals()
    options = {"leave_out": "b", "seed": 2}
    half, whole = (
        select_cohort(real, real_fraction=f, size_matched=True, **options).split("train")
        for f in (0.5, 1)
    )
    assert ids(half) < ids(whole)
    assert (
        half.class_counts()
        == select_cohort(real, real_fraction=0.5, **options).split("train").class_counts()
    )


def test_size_matching_needs_a_data_set_and_real_images_alone() -> None:
    matched = Control.size_matched
    DataRecipe(control=matched, leave_out="a")
    with pytest.raises(ConfigError, match=r"data\.leave_out names none; name a data set"):
        DataRecipe(control=matched)
    with pytest.raises(
        ConfigError, match=r"got data\.synthetic_fraction=0\.5; set data\.synthetic"
    ):
        DataRecipe(control=matched, leave_out="a", synthetic_fraction=0.5)
    with pytest.raises(ConfigError, match=r"'d' is no data set of this cohort"):
        select_cohort(hospitals(), leave_out="d", seed=0, size_matched=True)


def test_a_generator_that_learned_from_what_is_left_out_is_refused() -> None:
    require_left_out_unseen("there", {"a": None})
    require_left_out_unseen("", {"a": build_learning_record(REAL)})
    with pytest.raises(LeakageError, match=r"leave_out=there, but the generator of pool a"):
        require_left_out_unseen("there", {"a": build_learning_record(REAL), "b": None})


def with_val() -> Manifest:
    val = manifest({"normal": 3, "pneumonia": 3, "covid19": 3}, split="val")
    return Manifest(pd.concat([REAL.table, val.table]), REAL.folder, CLASSES)


def test_the_firewall_lets_clean_pools_through() -> None:
    require_no_contamination(with_val(), {"a": POOL}, {"a": build_learning_record(REAL)})


def test_the_firewall_stops_generators_that_saw_held_out_patients_or_images() -> None:
    real = with_val()
    val = real.split("val")
    seen = build_learning_record(Manifest(val.table.assign(split="train"), val.folder, CLASSES))
    with pytest.raises(LeakageError, match=r"pool a .*patients: val-normal-000000"):
        require_no_contamination(real, {"a": POOL}, {"a": replace(seen, sha256=[])})
    with pytest.raises(LeakageError, match=r"pool a .*images: val-normal-000000"):
        require_no_contamination(real, {"a": POOL}, {"a": replace(seen, patients=[])})


def test_nothing_is_learned_from_held_out_or_synthetic_images() -> None:
    with pytest.raises(LeakageError, match=r"train split only.*val-normal-000000"):
        build_learning_record(with_val())
    with pytest.raises(LeakageError, match=r"real images only.*train-normal-000000"):
        build_learning_record(POOL)


def test_the_firewall_stops_real_images_in_pools() -> None:
    real = with_val()
    copied = POOL.table.copy()
    copied.loc[5, "sha256"] = real.split("val").table["sha256"][0]
    with pytest.raises(
        LeakageError, match="exact copies of val or test images: train-normal-000005"
    ):
        require_no_contamination(real, {"a": Manifest(copied, POOL.folder, CLASSES)})
    with pytest.raises(LeakageError, match="not synthetic"):
        require_no_contamination(real, {"a": REAL})


def test_images_without_a_hash_are_not_copies_of_each_other() -> None:
    real = with_val()
    blank = [Manifest(m.table.assign(sha256=""), m.folder, CLASSES) for m in (real, POOL)]
    require_no_contamination(blank[0], {"a": blank[1]}, {"a": build_learning_record(REAL)})


def test_recipes_refuse_values_out_of_range_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.synthetic_fraction must lie in \[0, 1\]; got 1\.5"
    ):
        DataRecipe(synthetic_fraction=1.5)
    with pytest.raises(ConfigError, match=r"classifier\.channels"):
        ClassifierRecipe(channels=2)
    with pytest.raises(ConfigError, match=r"trainer\.precision"):
        TrainerRecipe(precision="64")
    with pytest.raises(ConfigError, match=r"data\.synthetic_fraction"):
        DataRecipe(synthetic_fraction=float("nan"))
    with pytest.raises(ConfigError, match=r"data\.real_fraction must lie in \(0, 1\]; got 0"):
        DataRecipe(real_fraction=0.0)
    with pytest.raises(ConfigError, match=r"data\.pretrain_fraction must lie in \(0, 1\)"):
        DataRecipe(pretrain_fraction=1.0)
    for control in (Control.duplicate, Control.permuted):
        with pytest.raises(
            ConfigError, match=rf"control={control.value} .* data\.synthetic_fraction=0 has none"
        ):
            DataRecipe(control=control)
    with pytest.raises(ConfigError, match="it would be the real-only arm"):
        DataRecipe(synthetic_fraction=0.5, mode=MixMode.pretrain, control=Control.duplicate)
    with pytest.raises(ConfigError, match=r"data\.synthetic_fraction=1 has none"):
        DataRecipe(synthetic_fraction=1.0, control=Control.duplicate)
    assert to_json(DataRecipe())["mode"] == "replace"


@pytest.mark.parametrize(
    ("share", "mode", "control", "expected"),
    [
        (0.29, MixMode.replace, Control.none, "b62186e9d60b"),
        (0.5, MixMode.add, Control.none, "0fa8512623da"),
        (0.5, MixMode.add, Control.duplicate, "978a292d20c2"),
        (0.75, MixMode.replace, Control.duplicate, "bfbc81a801ce"),
        (0.5, MixMode.replace, Control.permuted, "296a391e955f"),
    ],
)
def test_a_seed_goes_on_choosing_the_rows_it_has_always_chosen(
    share: float, mode: MixMode, control: Control, expected: str
) -> None:
    pools = {} if control is Control.duplicate else {"a": POOL, "b": POOL}
    parts = mix(REAL, pools, synthetic_fraction=share, mode=mode, seed=5, control=control)
    rows = [part.table[["image_id", "label"]].to_numpy().tolist() for part in parts]
    assert digest(rows).startswith(expected)


def test_a_fraction_goes_on_keeping_the_rows_it_has_always_kept() -> None:
    kept = select_cohort(with_val(), real_fraction=0.4, seed=2).table["image_id"].tolist()
    assert digest(kept).startswith("dd3b0492db54")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(0, 400))
def test_apportioning_is_websters_method_turn_by_turn(sizes: list[int], total: int) -> None:
    sizes[0] += 1
    counts = {f"c{n}": size for n, size in enumerate(sizes)}
    turns = sorted(
        ((turn + 0.5) / n, position, label)
        for position, (label, n) in enumerate(counts.items())
        for turn in range(n * (total // sum(sizes) + 1))
    )
    taken = [label for _, _, label in turns[:total]]
    assert _apportion(counts, total) == {label: taken.count(label) for label in counts}
