"""torchxrayvision's data sets, on small trees laid out as its classes expect."""

import pickle
import shlex

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.xrv import XrvSource
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError

FINDINGS = ["No Finding", "Pneumonia", "Pneumonia|Mass", "Mass", "Effusion|Pneumonia", "No Finding"]


def pixels_of(index):
    return np.random.default_rng(index).integers(0, 256, (20, 16), dtype=np.uint8)


@pytest.fixture
def nih(tmp_path):
    names = [f"0000000{n}_000.png" for n in range(len(FINDINGS))]
    for n, name in enumerate(names):
        Image.fromarray(pixels_of(n)).save(tmp_path / name)
    table = pd.DataFrame({"Image Index": names, "Finding Labels": FINDINGS})
    table["Patient ID"] = [1, 1, 2, 3, 4, 5]
    table["Patient Age"] = 50
    table["Patient Gender"] = "F"
    table["View Position"] = ["PA", "PA", "PA", "PA", "PA", "AP"]
    table.to_csv(tmp_path / "entry.csv", index=False)

    def build(**options):
        options = {"labels": {"No Finding": "normal", "Pneumonia": "pneumonia"}, **options}
        return XrvSource(
            name="xnih",
            dataset="NIH_Dataset",
            imgpath=str(tmp_path),
            csvpath=str(tmp_path / "entry.csv"),
            **{"options": {"unique_patients": False}, **options},
        )

    return build


def test_exactly_one_mapped_pathology_makes_a_label(nih):
    source = nih(labels={"No Finding": "normal", "Pneumonia": "pneumonia", "Effusion": None})
    rows = map_labels(source.rows(), source.labels, ("normal", "pneumonia"), name="xnih")
    assert rows[["locator", "label", "patient_id", "view"]].to_numpy().tolist() == [
        ["000000", "normal", "1", "PA"],
        ["000001", "pneumonia", "1", "PA"],
        ["000002", "pneumonia", "2", "PA"],
    ]
    assert rows["image_id"].is_unique


def test_options_reach_the_data_set(nih):
    rows = nih(options={"unique_patients": False, "views": ["AP"]}).rows()
    assert rows["view"].tolist() == ["AP"]


def test_pixels_come_back_as_they_were(nih):
    source = pickle.loads(pickle.dumps(nih()))
    for locator in source.rows()["locator"]:
        pixels = source.load(locator, 64).pixels
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, pixels_of(int(locator)))


def test_the_global_numpy_seed_is_left_alone(nih):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    source = nih()
    source.load(source.rows()["locator"][0], 64)
    assert np.array_equal(np.random.rand(3), expected)  # noqa: NPY002


def test_stamps_follow_the_record(nih, tmp_path):
    first = nih().rows().set_index("locator")["stamp"]
    assert first.is_unique
    table = pd.read_csv(tmp_path / "entry.csv")
    table.loc[0, "Patient Age"] = 51
    table.to_csv(tmp_path / "entry2.csv", index=False)
    source = XrvSource(
        name="xnih",
        dataset="NIH_Dataset",
        imgpath=str(tmp_path),
        csvpath=str(tmp_path / "entry2.csv"),
        options={"unique_patients": False},
        labels=nih().labels,
    )
    key = source.rows().set_index("locator")["stamp"].str.partition(":")[2]
    assert (key != first.str.partition(":")[2]).tolist() == [True, False, False, False]


def test_unknown_names_are_refused_with_a_mapping_that_works(nih, tmp_path):
    with pytest.raises(ConfigError, match="map them to classes, for example ") as error:
        nih(labels={"Pneumonai": "pneumonia"}).rows()
    (option,) = shlex.split(str(error.value).partition("for example ")[2])
    name, _, labels = option.partition("=")
    assert name == "source.xnih.labels"
    assert nih(labels=yaml.safe_load(labels)).rows()["label"].eq("Pneumonia").any()


def test_unknown_collections_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="the nearest are NIH_Dataset"):
        XrvSource(name="x", dataset="NHI_Dataset", imgpath=str(tmp_path)).rows()


def test_absent_data_and_wrong_options_are_named(nih, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"source\.x\.imgpath"):
        XrvSource(name="x", dataset="NIH_Dataset", imgpath=str(tmp_path / "no")).rows()
    with pytest.raises(DataNotFoundError, match="unexpected keyword argument 'veiws'"):
        nih(options={"veiws": ["PA"]}).rows()


def test_a_damaged_image_is_refused_by_index(nih, tmp_path):
    (tmp_path / "00000000_000.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match="image 0 of NIH_Dataset"):
        nih().load("000000", 64)


def test_a_pathology_called_no_finding_is_itself_and_patients_may_be_unknown(tmp_path):
    findings = ["No Finding", "Pneumonia/Viral/COVID-19", "Tuberculosis"]
    for name in "abc":
        Image.fromarray(pixels_of(0)).save(tmp_path / f"{name}.png")
    table = pd.DataFrame({"finding": findings, "filename": ["a.png", "b.png", "c.png"]})
    table.assign(view="PA", offset=0).to_csv(tmp_path / "metadata.csv", index=False)
    source = XrvSource(
        name="xcovid",
        dataset="COVID19_Dataset",
        imgpath=str(tmp_path),
        csvpath=str(tmp_path / "metadata.csv"),
        labels={"No Finding": "normal", "COVID-19": "covid19"},
    )
    rows = source.rows()
    assert rows["label"].tolist() == ["No Finding", "COVID-19"]
    assert rows["patient_id"].tolist() == ["", ""]


def test_config_names_the_class(preset, tmp_path):
    source = preset("xrv", dataset="NIH_Dataset", imgpath=str(tmp_path))
    assert (source.dataset, source.imgpath) == ("NIH_Dataset", str(tmp_path))
