from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.sample import (
    REPEAT_GAP_DIVISOR,
    draw_sample,
    order_by_turns,
    order_showings,
    partition_by_cell,
    split_into_sessions,
)
from xraysynth.manifest import Manifest

CLASSES = ("normal", "pneumonia")


def cohort(per_class=12, patients=12, split="test"):
    """Images of both splits; image n of a class belongs to patient n modulo `patients`."""
    rows = [
        {
            "image_id": f"{split}-{label}-{n}",
            "path": f"{split}/{label}/{n}.png",
            "label": label,
            "source": "here",
            "patient_id": f"{split}{label}{n % patients}",
            "split": split,
            "sha256": f"{split}{label}{n}",
        }
        for label in CLASSES
        for n in range(per_class)
    ]
    return pd.DataFrame(rows)


def manifest(*tables):
    return Manifest(pd.concat(tables, ignore_index=True), Path("cohorts"), CLASSES)


def pool(name="model", per_class=12):
    rows = [
        {
            "image_id": f"{label}-{n:06d}",
            "path": f"images/{label}-{n:06d}.png",
            "label": label,
            "source": name,
            "split": "train",
            "is_synthetic": True,
            "generator": name,
            "sha256": f"{name}{label}{n}",
        }
        for label in CLASSES
        for n in range(per_class)
    ]
    return Manifest(pd.DataFrame(rows), Path("pools") / name, CLASSES)


def drawn(real=None, pools=None, *, per_cell=5, calibration=0, seed=0):
    real = manifest(cohort(), cohort(split="train")) if real is None else real
    pools = {"one": pool("one"), "two": pool("two")} if pools is None else pools
    return draw_sample(real, pools, per_cell=per_cell, calibration=calibration, seed=seed)


def test_every_class_of_every_origin_is_drawn_as_often():
    cases = [one.case for one in drawn().cases]
    counts = Counter((case.origin, case.generator, case.label) for case in cases)
    assert set(counts.values()) == {5}
    assert len(counts) == 6
    assert len({(case.generator, case.image_id) for case in cases}) == 30


def test_real_images_are_test_images_and_their_paths_are_theirs():
    found = drawn(per_cell=12)
    for one in found.cases:
        if one.case.origin == "real":
            assert one.case.image_id.startswith("test-")
            assert one.case.patient_id
            assert one.path.parts[:2] == ("cohorts", "test")
        else:
            assert one.case.patient_id == ""
            assert one.path.parts[:2] == ("pools", one.case.generator)


def test_a_patient_comes_once_while_there_are_others():
    found = drawn(manifest(cohort(per_class=12, patients=6)), per_cell=6).cases
    real = [one.case.patient_id for one in found if one.case.origin == "real"]
    assert len(set(real)) == len(real) == 12
    more = drawn(manifest(cohort(per_class=12, patients=6)), per_cell=8).cases
    assert len(more) == 8 * 6


def test_equal_files_are_drawn_once_and_a_copied_real_image_is_no_synthetic_one():
    copies = pool("one")
    copies.table.loc[copies.table["label"] == "normal", "sha256"] = "testnormal0"
    with pytest.raises(ConfigError, match="normal of one: 0"):
        drawn(pools={"one": copies})
    twice = pool("one")
    twice.table["sha256"] = twice.table["label"]
    with pytest.raises(ConfigError, match="normal of one: 1, pneumonia of one: 1"):
        drawn(pools={"one": twice})


def test_too_few_images_are_named_with_the_number_that_is_possible():
    with pytest.raises(ConfigError, match=r"normal of the real test split: 12.*review.per_cell=12"):
        drawn(per_cell=13, pools={"one": pool("one", per_class=20)})
    with pytest.raises(ConfigError, match=r"pneumonia of one: 3.*generate.per_class"):
        drawn(per_cell=4, pools={"one": pool("one", per_class=3)})


def test_the_seed_decides_the_draw():
    ids = [[one.case.image_id for one in drawn(seed=seed).cases] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_calibration_shows_other_images_of_other_patients_half_of_them_real():
    real = manifest(cohort(per_class=12, patients=9))
    found = drawn(real, per_cell=4, calibration=6)
    origins = Counter(one.case.origin for one in found.calibration)
    assert origins == {"real": 3, "synthetic": 3}
    cells = {(one.case.generator, one.case.label) for one in found.calibration}
    assert len(cells) >= 4
    used = {(one.case.generator, one.case.image_id) for one in found.cases}
    assert not used & {(one.case.generator, one.case.image_id) for one in found.calibration}
    patients = {one.case.patient_id for one in found.cases} - {""}
    assert not patients & {one.case.patient_id for one in found.calibration}
    with pytest.raises(ConfigError, match=r"review.calibration=6 needs 3 real images"):
        drawn(manifest(cohort(per_class=5, patients=5)), per_cell=4, calibration=6)


CELLS = [cell for cell in "abcdef" for _ in range(10)]


@settings(max_examples=60)
@given(
    per_cell=st.integers(1, 12),
    repeats=st.floats(0, 0.5),
    size=st.integers(8, 60),
    seed=st.integers(0, 2**60),
)
def test_sessions_hold_every_case_once_within_their_size(per_cell, repeats, size, seed):
    cells = [cell for cell in "abcdef" for _ in range(per_cell)]
    found = split_into_sessions(cells, repeat_fraction=repeats, session_size=size, seed=seed)
    assert sorted(n for s in found for n in s.cases) == list(range(len(cells)))
    assert sum(len(s.repeated) for s in found) == round(repeats * len(cells))
    for session in found:
        assert len(session.cases) + len(session.repeated) <= size
        assert set(session.repeated) <= set(session.cases)
        assert len(set(session.repeated)) == len(session.repeated)
        held = Counter(cells[n] for n in session.cases)
        assert max(held.values()) - min(held.get(c, 0) for c in "abcdef") <= 1


def test_repeats_are_spread_over_the_cells():
    (session,) = split_into_sessions(CELLS, repeat_fraction=0.2, session_size=100, seed=0)
    assert set(Counter(CELLS[n] for n in session.repeated).values()) == {2}


@settings(max_examples=60)
@given(per_cell=st.integers(1, 12), repeats=st.floats(0, 0.5), seed=st.integers(0, 2**60))
def test_a_repeat_comes_late_and_everything_is_shown(per_cell, repeats, seed):
    cells = [cell for cell in "abcdef" for _ in range(per_cell)]
    (session,) = split_into_sessions(cells, repeat_fraction=repeats, session_size=1000, seed=seed)
    shown = order_showings(session, seed)
    first = {case: n for n, (case, repeat) in enumerate(shown) if not repeat}
    again = {case: n for n, (case, repeat) in enumerate(shown) if repeat}
    assert sorted(first) == sorted(session.cases)
    assert sorted(again) == session.repeated
    assert all(again[case] - first[case] >= len(shown) / REPEAT_GAP_DIVISOR for case in again)


def test_the_order_is_random_and_not_grouped():
    (session,) = split_into_sessions(CELLS, repeat_fraction=0.0, session_size=100, seed=0)
    orders = [[case for case, _ in order_showings(session, seed)] for seed in range(200)]
    assert orders[0] != orders[1]
    mean = np.mean([[case < 30 for case in order] for order in orders], axis=0)
    assert abs(mean - 0.5).max() < 0.15  # no place prefers a half of the cases
    changes = [np.mean(np.diff([case < 30 for case in order])) for order in orders]
    assert 0.4 < np.mean(changes) < 0.6


def test_a_deal_takes_from_every_cell_in_turn():
    order = [CELLS[n] for n in order_by_turns(CELLS, np.random.default_rng(0))]
    assert all(set(order[n : n + 6]) == set("abcdef") for n in range(0, 60, 6))


def test_parts_hold_as_many_of_every_cell():
    parts = partition_by_cell(CELLS, 7, np.random.default_rng(0))
    counts = [Counter(CELLS[n] for n in part) for part in parts]
    assert all({1, 2} >= set(count.values()) and len(count) == 6 for count in counts)
    assert sorted(n for part in parts for n in part) == list(range(60))
