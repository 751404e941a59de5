"""Tables of every form are read as the text that their owner sees, or refused by name."""

import gzip
import io
import zipfile

import pandas as pd
import pytest

from xraysynth.data.reading import _unpacking, tables
from xraysynth.data.reading.tables import read_table, read_table_content
from xraysynth.errors import ManifestError

ROWS = [
    {"path": "a/1.png", "label": "None", "patient_id": "007"},
    {"path": "ä/2.png", "label": "COVID-19, ARDS", "patient_id": "1e5"},
    {"path": "b/3.png", "label": "", "patient_id": "12345678901234567890"},
]


def as_csv(separator=",", encoding="utf-8"):
    text = pd.DataFrame(ROWS).to_csv(index=False, sep=separator)
    return text.encode(encoding)


def as_excel(rows=ROWS, **sheets):
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        pd.DataFrame(rows).to_excel(writer, sheet_name="films", index=False)
        for name, table in sheets.items():
            table.to_excel(writer, sheet_name=name, index=False)
    return buffer.getvalue()


def as_parquet(table=None):
    buffer = io.BytesIO()
    (pd.DataFrame(ROWS) if table is None else table).to_parquet(buffer)
    return buffer.getvalue()


def zipped(data, *names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ["t.csv"]:
            archive.writestr(name, data)
    return buffer.getvalue()


FORMS = {
    "commas": as_csv(),
    "semicolons with a BOM": as_csv(";", "utf-8-sig"),
    "tabs in UTF-16": as_csv("\t", "utf-16"),
    "UTF-16 without a BOM": as_csv(",", "utf-16-le"),
    "big-endian UTF-16 without a BOM": as_csv(",", "utf-16-be"),
    "bars": as_csv("|"),
    "Latin-1": as_csv(";", "cp1252"),
    "Excel": as_excel(),
    "Parquet": as_parquet(),
    "JSON records": pd.DataFrame(ROWS).to_json(orient="records").encode(),
    "JSON lines": pd.DataFrame(ROWS).to_json(orient="records", lines=True).encode(),
    "pandas' JSON": pd.DataFrame(ROWS).to_json().encode(),
    "gzip": gzip.compress(as_csv()),
    "zip": zipped(as_csv()),
    "old Mac line ends": as_csv().replace(b"\n", b"\r"),
    "Windows line ends": as_csv().replace(b"\n", b"\r\n"),
    "a separator line": b"sep=;\r\n" + as_csv(";"),
    "a comment and empty lines": b"\n# exported 2024, by hand\n\n" + as_csv(),
    "a title": b"List of films\n\n" + as_csv(),
    "empty rows at the end": as_csv() + b",,\n,,\n",
    "a separator at each end": as_csv().replace(b"\n", b",\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["t.csv", "t.txt"])
def test_every_form_gives_the_same_text(tmp_path, form, name):
    (tmp_path / name).write_bytes(FORMS[form])
    assert read_table(tmp_path / name).to_dict("records") == ROWS


def test_numbers_keep_what_their_owner_sees(tmp_path):
    table = pd.DataFrame(
        {"path": ["1.png", "2.png"], "n": [7.0, None], "x": [0.5, 2.0], "i": [7, 8]}
    )
    (tmp_path / "t").write_bytes(as_parquet(table))
    assert read_table(tmp_path / "t").to_numpy().tolist() == [
        ["1.png", "7", "0.5", "7"],
        ["2.png", "", "2", "8"],
    ]


def test_the_notes_say_how_a_table_was_read(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"List of films\n" + as_csv(";", "cp1252"))
    content = read_table_content(tmp_path / "t.csv")
    assert [*content.lines] == [3, 4, 5]
    notes = " ".join(content.notes)
    assert "Windows-1252" in notes
    assert "semicolons" in notes
    assert "List of films" in notes


def test_two_sheets_are_noted(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(as_excel(legend=pd.DataFrame({"a": [1]})))
    content = read_table_content(tmp_path / "t.xlsx")
    assert content.table.to_dict("records") == ROWS
    assert "only the first sheet, 'films', is read, not 'legend'" in content.notes


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 20}">' for n in range(1, 12))
    + ']><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">&a11;</workbook>'
)
"""Entities that would grow to 20 to the power of 11 words."""


def workbook_of(xml):
    """An Excel file whose list of sheets is an XML document."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(as_excel())) as good, zipfile.ZipFile(changed, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, xml if name == "xl/workbook.xml" else good.read(name))
    return changed.getvalue()


REFUSED = {
    "nothing": (b"", "it is empty"),
    "only names": (b"path,label\n", "no rows"),
    "an open quotation": (b'path,label\n"open', "line 2"),
    "more cells than names": (b"path,label\n1.png,a\n2.png,b,c\n", "line 3 has 3 cells"),
    "null bytes": (b"path,label\n\xff\xfe,\x00", "null"),
    "an old Excel file": (b"\xd0\xcf\x11\xe0" + bytes(90), "before 2007"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "a broken archive": (gzip.compress(as_csv())[:-9], "unpacked"),
    "two files": (zipped(as_csv(), "t.csv", "u.csv"), "archive of 2 files"),
    "a nested JSON": (b"[" * 100_000, "nested too deeply|damaged"),
    "JSON of numbers": (b"[1, 2]", "not an object"),
    "JSON lists of two lengths": (b'{"path": ["a"], "label": []}', "one length"),
    "a cell without end": (b"path,label\n" + b"x" * 1_000_000 + b",normal\n", "line 2"),
    "signs inside words": ("path,label\n1.png,unauffällig\n".encode("cp850"), "encoding"),
    "two encodings": (
        "path,label\nä.png,".encode() + "unauffällig\n".encode("cp1252"),
        "mixes UTF-8",
    ),
    "Cyrillic": ("path,label\n1.png,норма\n".encode("cp1251"), "encoding"),
    "Japanese": ("path,label\n1.png,正常\n".encode("shift_jis"), "encoding"),
    "a line without end": (b"path,label\n" + b"a," * 3_000_000, "a line has more"),
    "too many columns": (b"path," + b"a," * 3_000 + b"label\n1.png,normal\n", "3002 columns"),
    "XML that grows": (workbook_of(LAUGHS), "Excel's content|unpack"),
    "OpenDocument": (zipped(b"", "mimetype", "content.xml"), "OpenDocument"),
    "a document": (zipped(b"", "word/document.xml", "b.xml"), "archive of 2 files"),
    "damaged Parquet": (as_parquet()[:60], "Parquet"),
    "damaged Excel": (as_excel()[:900], "unpacked"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_refused_with_file_and_reason(tmp_path, case):
    data, reason = REFUSED[case]
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ManifestError, match=rf"t\.csv: this is not a readable CSV.*({reason})"):
        read_table(tmp_path / "t.csv")


def test_a_table_above_the_limit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_TABLE_MB", 0.1)
    many = b"path,label\n" + b"1.png,normal\n" * 20_000
    for data in (many, gzip.compress(many), zipped(many), as_excel(ROWS * 2000)):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(ManifestError, match=r"more than the 0\.1 MB|larger than the 0\.1 MB"):
            read_table(tmp_path / "t.csv")


def test_a_sparse_file_of_two_gigabytes_is_not_read_whole(tmp_path, monkeypatch):
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(2_000_000_000)
    monkeypatch.setattr(_unpacking, "_inflate", None)
    with pytest.raises(ManifestError, match="larger than the 256 MB"):
        read_table(tmp_path / "t.csv")
