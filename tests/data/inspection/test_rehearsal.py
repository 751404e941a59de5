"""What preparing would stop at is found before, with the option that lets it go on."""

import pandas as pd
import pytest

from xraysynth.data.inspection.classes import choose_classes
from xraysynth.data.inspection.looking import Look
from xraysynth.data.inspection.rehearsal import rehearse, screening_needs
from xraysynth.data.recipe import Screening, Splits

CLASSES = ["normal", "pneumonia"]


def table(n_images=40, **columns):
    labels = [CLASSES[number % 2] for number in range(n_images)]
    rows = pd.DataFrame({"number": range(n_images), "label": labels, "source": "site"})
    rows["image_id"] = rows["number"].astype(str)
    rows["patient_id"] = "p" + rows["image_id"]
    return rows.assign(sha256=rows["image_id"]).assign(**columns)


def rehearsed(rows, *, is_sample=False, looks=None, screening=None):
    return rehearse(
        rows,
        looks or {},
        classes=CLASSES,
        splits=Splits(),
        screening=screening or Screening(),
        is_sample=is_sample,
    )


def needs(rows, *, is_sample=False):
    rehearsal = rehearsed(rows, is_sample=is_sample)
    assert not rehearsal.obstacles
    return {need.option: need.value for need in rehearsal.needs}


def test_images_of_known_patients_need_nothing():
    assert needs(table()) == {}


def test_unknown_patients_are_clustered():
    assert needs(table(patient_id="")) == {"missing_patient_id": "cluster"}
    some = table()
    some.loc[:3, "patient_id"] = ""
    assert needs(some) == {"missing_patient_id": "cluster"}


def test_a_source_that_predicts_a_class_is_to_be_acknowledged():
    rows = table()
    assert needs(rows.assign(source=rows["label"])) == {"acknowledge_confounding": True}


def test_a_patient_in_two_given_splits_is_dropped_from_the_earlier():
    rows = table(80)
    rows["split"] = [("train", "train", "val", "val", "test", "test")[n % 6] for n in range(80)]
    assert needs(rows) == {}
    assert needs(rows, is_sample=True) == {"splits.drop_duplicates": True}
    rows.loc[[0, 4], "patient_id"] = "same"
    assert needs(rows) == {"splits.drop_duplicates": True}


def test_one_picture_under_two_labels_is_left_out_unless_a_rule_says_which_label_holds():
    rows = table()
    rows.loc[[0, 1], "sha256"] = "same"
    rehearsal = rehearsed(rows)
    assert {need.option: need.value for need in rehearsal.needs} == {
        "screening.two_labels": "leave_out"
    }
    assert len(rehearsal.table) == 38
    decided = rehearsed(rows, screening=Screening(label_precedence=["pneumonia"]))
    assert decided.needs == []
    assert len(decided.table) == 39
    blank = {0: Look(flags=("blank",)), 1: Look(flags=("blank",))}
    assert rehearsed(rows, looks=blank).needs == []


def test_given_splits_without_validation_images_are_replaced():
    rows = table(80)
    rows["split"] = ["train" if n < 60 else "test" for n in range(80)]
    assert needs(rows) == {"splits.official": False}


def test_too_few_images_are_an_obstacle_and_no_option_helps():
    rehearsal = rehearsed(table(10))
    assert "normal has 5 images" in rehearsal.obstacles[0]


@pytest.mark.parametrize(("unusable", "value"), [(0, None), (5, None), (6, 0.06), (100, 1.0)])
def test_many_unusable_images_need_a_higher_limit(unusable, value):
    found = screening_needs(unusable, 100, Screening(), source="site")
    assert [need.value for need in found] == ([] if value is None else [value])


def test_classes_are_the_frequent_labels_under_their_usual_names():
    labels = (
        ["PNEUMONIA"] * 30 + ["No Finding"] * 20 + ["Effusion"] * 20 + ["TB"] * 3 + ["skip"] * 50
    )
    choice = choose_classes(labels, {"skip": None}, minimum=15)
    assert choice.classes == ["normal", "pneumonia", "Effusion"]
    assert choice.too_rare == {"tuberculosis": 3}
    assert choice.dropped_labels == ["TB", "skip"]
    assert not choice.lists_findings


def test_labels_that_list_findings_count_where_they_mean_one_class():
    labels = ["No Finding"] * 20 + ["Effusion"] * 20 + ["Effusion|Mass"] * 9 + ["Mass"] * 2
    choice = choose_classes(labels, {}, minimum=15)
    assert choice.lists_findings
    assert choice.classes == ["normal", "Effusion"]
    assert choice.counts == {"normal": 20, "Effusion": 20, "Mass": 2}
