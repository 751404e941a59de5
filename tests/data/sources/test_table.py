"""Tables of images: paths, columns, labels and sums."""

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.table import TableSource
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.seeds import digest

CXR_MINI = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr-mini"


def png(value=50):
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 7), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def source_of(folder, rows, *, file="t.csv", **options):
    table = pd.DataFrame(rows)
    for path in table.iloc[:, 0]:
        target = folder / str(path).replace("\\", "/")
        if target.resolve().is_relative_to(folder.resolve()) and target != folder:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(png())
    table.to_parquet(folder / file) if file.endswith("t") else table.to_csv(
        folder / file, index=False
    )
    return TableSource(name="mine", path=str(folder / file), **options)


@pytest.mark.parametrize("file", ["t.csv", "t.parquet"])
def test_columns_reach_the_manifest(tmp_path, file):
    rows = [
        {"path": "a/1.png", "label": "normal", "patient_id": 7, "source_dataset": "x", "age": 61},
        {
            "path": "a\\2.png",
            "label": "covid19",
            "patient_id": 8,
            "source_dataset": None,
            "age": None,
        },
    ]
    table = source_of(tmp_path, rows, file=file, license="CC0").rows()
    assert table["label"].tolist() == ["normal", "covid19"]
    assert table["patient_id"].tolist() == ["7", "8"]
    assert table["source"].tolist() == ["x", "mine"]
    assert table["license"].tolist() == ["CC0", "CC0"]
    assert table["age"][0] == 61
    assert np.isnan(table["age"][1])
    assert table["image_id"].is_unique


EARLIER = """\
path,label,patient_id,split,view,sex,age,source_dataset,license,sha256,kind
a/1.png,normal,007,train,PA,M,61,x,CC0,,k
a\\2.png,"COVID-19, ARDS",NA,val,AP Supine,,,,,,k
./b/3.png,Finding | other,P 3,,,F,58.5,x,, ,
"""


def test_rows_of_a_table_that_earlier_versions_read_are_the_same(tmp_path):
    for file in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"image")
    (tmp_path / "t.csv").write_text(EARLIER)
    rows = TableSource(name="mine", path=str(tmp_path / "t.csv"), license="L").rows()
    values = rows.drop(columns="stamp").astype(str).to_numpy().tolist()
    # the names of cohorts hang on this value
    assert digest([list(rows), values]).startswith("84a3031950cb")


def test_named_columns_filters_and_file_names(tmp_path):
    rows = [
        {"file": "1.png", "finding": "No Finding", "who": "p1", "view": "PA"},
        {"file": "2.png", "finding": "Pneumonia|Mass", "who": "p1", "view": "PA"},
        {"file": "3.png", "finding": "No Finding", "who": "p2", "view": "L"},
    ]
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "images_001").mkdir(exist_ok=True)
        (tmp_path / "images_001" / name).write_bytes(png(9))
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    source = TableSource(
        name="mine",
        path=str(tmp_path / "t.csv"),
        columns={"path": "file", "label": "finding", "patient_id": "who"},
        where={"view": ["PA"]},
        by_name=True,
        drop_unmapped=True,
        labels={"No Finding": "normal"},
    )
    table = source.rows()
    assert table[["label", "patient_id", "view"]].to_numpy().tolist() == [
        ["No Finding", "p1", "PA"]
    ]
    assert (source.load(table["locator"][0], 64).pixels == 9).all()


@pytest.mark.parametrize("path", ["../out.png", "/etc/passwd", "a/../../out.png", "..\\o.png"])
def test_a_path_that_leaves_the_root_is_refused_with_its_line(tmp_path, path):
    source = source_of(tmp_path, {"path": ["1.png", path], "label": ["normal", "normal"]})
    with pytest.raises(ManifestError, match=r"must stay inside the root.*1 of 2.*line 3"):
        source.rows()


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_that_leaves_the_root_is_refused_with_its_line(tmp_path, by_name, link):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "2.png").write_bytes(png())
    if link == "file":
        (root / "2.png").symlink_to(outside / "2.png")
    else:
        (root / "sub").symlink_to(outside)
    path = "2.png" if by_name or link == "file" else "sub/2.png"
    table = pd.DataFrame({"path": ["1.png", path], "label": ["normal", "normal"]})
    (root / "1.png").write_bytes(png())
    table.to_csv(root / "t.csv", index=False)
    source = TableSource(name="mine", path=str(root / "t.csv"), by_name=by_name)
    with pytest.raises(ManifestError, match=r"must stay inside the root, links.*1 of 2.*line 3"):
        source.rows()


def test_links_inside_the_root_are_followed_also_below_a_root_that_is_a_link(tmp_path):
    source_of(tmp_path / "real", {"path": ["1.png", "2.png"], "label": ["normal", "normal"]})
    (tmp_path / "real" / "2.png").unlink()
    (tmp_path / "real" / "2.png").symlink_to("1.png")
    (tmp_path / "root").symlink_to("real")
    rows = TableSource(name="mine", path=str(tmp_path / "root" / "t.csv")).rows()
    assert len(rows) == 2


def test_a_file_that_became_a_link_out_after_it_was_listed_is_not_read(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    source = source_of(root, {"path": ["1.png"], "label": ["normal"]})
    locator = source.rows()["locator"][0]
    (tmp_path / "outside.png").write_bytes(png())
    (root / "1.png").unlink()
    (root / "1.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(ImageError, match=r"is a link to .*outside\.png, outside that folder"):
        source.load(locator, 64)


@pytest.mark.parametrize("twin", ["1.png", "./1.png"])
def test_a_path_listed_twice_is_refused(tmp_path, twin):
    source = source_of(tmp_path, {"path": ["1.png", twin], "label": ["normal", "covid19"]})
    with pytest.raises(ManifestError, match=r"listed only once.*line 2 '1\.png', line 3"):
        source.rows()


def test_a_row_that_repeats_another_is_left_out(tmp_path):
    rows = source_of(tmp_path, {"path": ["1.png", "1.png"], "label": ["normal"] * 2}).rows()
    assert rows["left_out"].tolist() == ["", "listed before"]
    assert rows["image_id"].is_unique


def test_a_file_name_that_is_there_twice_is_refused(tmp_path):
    source = source_of(tmp_path, {"path": ["1.png"], "label": ["normal"]}, by_name=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.png").write_bytes(png())
    with pytest.raises(ManifestError, match="the name of only one file"):
        source.rows()


def test_a_missing_file_and_a_blank_path_are_unusable_and_stop_nothing(tmp_path):
    labels = ["normal"] * 3
    source = source_of(tmp_path, {"path": ["1.png", "2.png", ""], "label": labels})
    (tmp_path / "2.png").unlink()
    rows = source.rows()
    assert rows["unusable"].tolist() == ["", "the file is missing", "no path"]
    assert rows["image_id"].is_unique
    assert len(map_labels(rows, {}, ("normal",), name="mine")) == 1


def test_without_any_file_the_source_says_how_to_get_them(tmp_path):
    source = source_of(
        tmp_path, {"path": ["a/1.png"], "label": ["normal"]}, how_to_get="Ask the archive."
    )
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(
        DataNotFoundError, match=r"none of the 1 files .*'a/1\.png'.*Ask the archive"
    ):
        source.rows()


def test_the_remedy_by_name_is_offered_where_it_works_and_works(tmp_path):
    source = source_of(tmp_path, {"path": ["a/1.png", "b/2.png"], "label": ["normal", "normal"]})
    (tmp_path / "a" / "1.png").rename(tmp_path / "1.png")
    (tmp_path / "b" / "2.png").rename(tmp_path / "a" / "2.png")
    with pytest.raises(DataNotFoundError, match=r"source\.mine\.by_name=true"):
        source.rows()
    assert len(replace(source, by_name=True).rows()) == 2


def test_a_misspelt_column_is_told_by_its_values(tmp_path):
    source = source_of(tmp_path, {"path": ["1.png"], "lable": ["normal"]})
    assert source.rows()["label"].tolist() == ["normal"]
    assert "'lable' is read as label" in source.note


def test_a_column_that_nothing_tells_is_asked_for_with_an_option_that_works(tmp_path):
    rows = {"path": ["1.png"], "Result of scan": ["A"], "who": ["7"]}
    source = source_of(tmp_path, rows)
    with pytest.raises(ManifestError) as error:
        source.rows()
    options = re.findall(r"'source\.mine\.columns\.label=(Result of scan)'", str(error.value))
    named = replace(source, columns={"label": options[0]})
    assert named.rows()["label"].tolist() == ["A"]
    with pytest.raises(ManifestError, match="no column 'subject'"):
        replace(source, columns={"label": "who", "patient_id": "subject"}).rows()


def test_two_columns_of_labels_are_refused_with_both(tmp_path):
    rows = {"path": ["1.png"], "finding": ["normal"], "diagnosis": ["pneumonia"]}
    source = source_of(tmp_path, rows)
    with pytest.raises(ManifestError, match=r"several columns .*'finding', 'diagnosis'"):
        source.rows()
    assert replace(source, columns={"label": "finding"}).rows()["label"].tolist() == ["normal"]


def test_an_image_without_a_label_is_not_used(tmp_path):
    rows = source_of(tmp_path, {"path": ["1.png", "2.png"], "label": ["normal", None]}).rows()
    assert len(map_labels(rows, {}, ("normal",), name="mine")) == 1


def test_a_table_with_no_row_left_is_refused(tmp_path):
    source = source_of(tmp_path, {"path": ["1.png"], "label": ["normal"]}, where={"label": ["x"]})
    with pytest.raises(ManifestError, match=r"no row of .* is selected"):
        source.rows()


def test_sums_are_checked_on_load(tmp_path):
    sha256 = hashlib.sha256(png()).hexdigest()
    source = source_of(tmp_path, {"path": ["1.png"], "label": ["normal"], "sha256": [sha256]})
    row = source.rows().iloc[0]
    assert source.load(row["locator"], 64).pixels.shape == (5, 7)
    (tmp_path / "1.png").write_bytes(png(51))
    with pytest.raises(ImageError, match=f"says {sha256}"):
        source.load(row["locator"], 64)


def test_unreadable_and_absent_tables_are_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(ManifestError, match=re.escape(str(tmp_path / "t.parquet"))):
        TableSource(name="mine", path=str(tmp_path / "t.parquet")).rows()
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(ManifestError, match="not a readable"):
        TableSource(name="mine", path=str(tmp_path / "t.csv")).rows()
    with pytest.raises(DataNotFoundError, match=r"source\.mine\.path"):
        TableSource(name="mine", path=str(tmp_path / "none.csv")).rows()


def test_nih_preset_keeps_single_labels_from_any_archive_folder(tmp_path, preset):
    columns = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]
    rows = [
        ("00000001_000.png", "No Finding", 1, 58, "M", "PA"),
        ("00000002_000.png", "Pneumonia", 2, 81, "F", "AP"),
        ("00000002_001.png", "Infiltration|Pneumonia", 2, 81, "F", "AP"),
    ]
    for number, row in enumerate(rows, 1):
        file = tmp_path / f"nih-chest-xrays/images_00{number}/images/{row[0]}"
        file.parent.mkdir(parents=True)
        file.write_bytes(png())
    table = pd.DataFrame(rows, columns=[*columns, "View Position"])
    table.to_csv(tmp_path / "nih-chest-xrays/Data_Entry_2017.csv", index=False)
    source = preset("nih")
    found = map_labels(source.rows(), source.labels, ("normal", "pneumonia"), name="nih")
    assert found[["label", "patient_id", "sex", "view"]].to_numpy().tolist() == [
        ["normal", "1", "M", "PA"],
        ["pneumonia", "2", "F", "AP"],
    ]
    assert source.load(found["locator"].iloc[1], 64).pixels.shape == (5, 7)


def test_cohen_preset_keeps_frontal_radiographs_of_known_findings(tmp_path, preset):
    rows = [
        ("p1", "Pneumonia/Viral/COVID-19", "PA", "X-ray", "a.jpg", "CC BY"),
        ("p1", "Pneumonia/Viral/COVID-19", "L", "X-ray", "b.jpg", ""),
        ("p2", "Pneumonia/Viral/Herpes ", "AP Supine", "X-ray", "c.png", ""),
        ("p3", "Tuberculosis", "PA", "X-ray", "d.png", ""),
        ("p4", "todo", "PA", "X-ray", "e.png", ""),
        ("p5", "Pneumonia/Viral/COVID-19", "Axial", "CT", "f.nii.gz", ""),
    ]
    folder = tmp_path / "covid-chestxray-dataset"
    (folder / "images").mkdir(parents=True)
    for row in rows:
        (folder / "images" / row[4]).write_bytes(png())
    columns = ["patientid", "finding", "view", "modality", "filename", "license"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "metadata.csv", index=False)
    source = preset("cohen")
    classes = ("pneumonia", "covid19", "tuberculosis")
    found = map_labels(source.rows(), source.labels, classes, name="cohen")
    assert found[["label", "patient_id", "license"]].to_numpy().tolist() == [
        ["covid19", "p1", "CC BY"],
        ["pneumonia", "p2", "per image"],
        ["tuberculosis", "p3", "per image"],
    ]


@pytest.mark.parametrize("name", ["nih", "cohen"])
def test_presets_without_data_give_the_steps(preset, name):
    source = preset(name)
    with pytest.raises(DataNotFoundError) as error:
        source.rows()
    assert source.homepage in str(error.value)
    assert source.how_to_get in str(error.value)


@pytest.mark.skipif(not CXR_MINI.is_dir(), reason="needs ../shared/data/cxr-mini")
def test_real_radiographs_all_decode_and_keep_their_sums():
    source = TableSource(name="mini", path=str(CXR_MINI / "manifest.csv"))
    rows = source.rows()
    assert rows["label"].value_counts().to_dict() == {
        "normal": 199,
        "pneumonia": 198,
        "covid19": 185,
        "tuberculosis": 3,
    }
    assert rows["source"].nunique() > 3
    for locator in rows["locator"]:
        pixels = source.load(locator, 64).pixels
        assert pixels.ndim == 2
        assert pixels.std() > 5
