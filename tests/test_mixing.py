"""Mixing: shares are exact, choices are nested, and nothing held out is trained on."""

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from xraysynth.errors import ConfigError, LeakageError, PoolError
from xraysynth.manifest import Manifest
from xraysynth.mixing import check_firewall, learned_from, mix, required_per_class
from xraysynth.recipes import ClassifierRecipe, DataRecipe, MixMode, TrainerRecipe, plain

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
    real, synthetic = mix(REAL, {"a": POOL}, share=share, mode=MixMode.replace, seed=0)
    assert len(real) + len(synthetic) == len(REAL)
    assert len(synthetic) == round(share * len(REAL))
    for label, n in REAL.counts().items():
        assert real.counts()[label] + synthetic.counts()[label] == n
        assert abs(synthetic.counts()[label] - share * n) <= 1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_add_keeps_all_real_images_and_reaches_the_share(share: float) -> None:
    pool = manifest(dict.fromkeys(CLASSES, 500), synthetic=True)
    real, synthetic = mix(REAL, {"a": pool}, share=share, mode=MixMode.add, seed=0)
    assert ids(real) == ids(REAL)
    total = len(real) + len(synthetic)
    assert abs(len(synthetic) - share * total) <= 1
    for label, n in REAL.counts().items():
        assert abs(synthetic.counts()[label] - n * share / (1 - share)) <= 1


@pytest.mark.parametrize("mode", list(MixMode))
def test_choices_of_a_higher_share_are_nested_in_those_of_a_lower_one(mode: MixMode) -> None:
    shares = [s for s in SHARES if s < 0.9]
    parts = [mix(REAL, {"a": POOL}, share=s, mode=mode, seed=3) for s in shares]
    for (real_low, fake_low), (real_high, fake_high) in pairwise(parts):
        assert ids(real_high) <= ids(real_low)
        assert ids(fake_low) <= ids(fake_high)


def test_the_seed_chooses_the_real_rows_and_nothing_else_does() -> None:
    def kept(seed: int, real: Manifest = REAL) -> set[str]:
        return ids(mix(real, {"a": POOL}, share=0.5, mode=MixMode.replace, seed=seed)[0])

    shuffled = Manifest(REAL.table.sample(frac=1, random_state=1), REAL.folder, CLASSES)
    assert kept(0) == kept(0, shuffled)
    assert kept(0) != kept(1)


def test_pools_share_equally_and_give_their_first_images() -> None:
    shuffled = Manifest(POOL.table.sample(frac=1, random_state=1), POOL.folder, CLASSES)
    pools = {"a": POOL, "b": shuffled}
    _, a, b = mix(REAL, pools, share=0.5, mode=MixMode.replace, seed=0)
    assert len(a) + len(b) == 34
    for label in CLASSES:
        assert a.counts()[label] - b.counts()[label] in (0, 1)
        expected = {f"train-{label}-{n:06d}" for n in range(b.counts()[label])}
        assert ids(b.where(b.table["label"] == label)) == expected


def test_required_per_class_is_enough_and_not_more() -> None:
    needed = required_per_class(REAL, share=0.5, mode=MixMode.replace, n_pools=2)
    enough = manifest(needed, synthetic=True)
    mix(REAL, {"a": enough, "b": enough}, share=0.5, mode=MixMode.replace, seed=0)
    short = manifest(needed | {"covid19": needed["covid19"] - 1}, synthetic=True)
    with pytest.raises(PoolError, match=r"pool a .* images of covid19.*generate\.per_class=11"):
        mix(REAL, {"a": short, "b": enough}, share=0.5, mode=MixMode.replace, seed=0)


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.mode=replace"):
        mix(REAL, {"a": POOL}, share=1.0, mode=MixMode.add, seed=0)
    with pytest.raises(ConfigError, match="needs a pool"):
        mix(REAL, {}, share=0.5, mode=MixMode.add, seed=0)
    without = REAL.where(REAL.table["label"] != "covid19")
    with pytest.raises(ConfigError, match="covid19 has no image in the real train split"):
        mix(without, {"a": POOL}, share=0.5, mode=MixMode.replace, seed=0)


def with_val() -> Manifest:
    val = manifest({"normal": 3, "pneumonia": 3, "covid19": 3}, split="val")
    return Manifest(pd.concat([REAL.table, val.table]), REAL.folder, CLASSES)


def test_the_firewall_lets_clean_pools_through() -> None:
    check_firewall(with_val(), {"a": POOL}, {"a": learned_from(REAL)})


def test_the_firewall_stops_generators_that_saw_held_out_patients_or_images() -> None:
    real = with_val()
    val = real.split("val")
    seen = learned_from(Manifest(val.table.assign(split="train"), val.folder, CLASSES))
    with pytest.raises(LeakageError, match=r"pool a .*patients: val-normal-000000"):
        check_firewall(real, {"a": POOL}, {"a": seen | {"sha256": []}})
    with pytest.raises(LeakageError, match=r"pool a .*images: val-normal-000000"):
        check_firewall(real, {"a": POOL}, {"a": seen | {"patients": []}})


def test_nothing_is_learned_from_held_out_or_synthetic_images() -> None:
    with pytest.raises(LeakageError, match=r"train split only.*val-normal-000000"):
        learned_from(with_val())
    with pytest.raises(LeakageError, match=r"real images only.*train-normal-000000"):
        learned_from(POOL)


def test_the_firewall_stops_real_images_in_pools() -> None:
    real = with_val()
    copied = POOL.table.copy()
    copied.loc[5, "sha256"] = real.split("val").table["sha256"][0]
    with pytest.raises(
        LeakageError, match="exact copies of val or test images: train-normal-000005"
    ):
        check_firewall(real, {"a": Manifest(copied, POOL.folder, CLASSES)})
    with pytest.raises(LeakageError, match="not synthetic"):
        check_firewall(real, {"a": REAL})


def test_images_without_a_hash_are_not_copies_of_each_other() -> None:
    real = with_val()
    blank = [Manifest(m.table.assign(sha256=""), m.folder, CLASSES) for m in (real, POOL)]
    check_firewall(blank[0], {"a": blank[1]}, {"a": learned_from(REAL)})


def test_recipes_refuse_values_out_of_range_by_name() -> None:
    with pytest.raises(ConfigError, match=r"data\.share must lie in \[0, 1\]; got 1\.5"):
        DataRecipe(share=1.5)
    with pytest.raises(ConfigError, match=r"classifier\.channels"):
        ClassifierRecipe(channels=2)
    with pytest.raises(ConfigError, match=r"trainer\.precision"):
        TrainerRecipe(precision="64")
    with pytest.raises(ConfigError, match=r"data\.share"):
        DataRecipe(share=float("nan"))
    assert plain(DataRecipe())["mode"] == "replace"
