"""Tables of images as people write them, drawn at random, each with what its owner means by it."""

import gzip
import io
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

FOLDERS = ("img", "scans/Klinik 1", "Röntgen", "train", "")
SUFFIXES = (".png", ".jpg", ".JPG", ".jpeg", ".tif")
LABELS = (
    ("normal", "pneumonia"),
    ("None", "pneumonia", "NA"),
    ("No Finding", "Pneumonia", "COVID-19"),
    ("null", "nan", "TB"),
    ("unauffällig", "Lungenentzündung"),
    ("0", "1"),
    ("NORMAL", "COVID-19, ARDS", 'so-called "pneumonia"'),
    ("No Finding", "Pneumonia|Effusion", "Mass|Nodule"),
    ("=normal", "-pneumonia", "1e5", "007"),
)
TELLING = {
    label
    for labels in LABELS
    for label in labels
    if label not in ("0", "1", "null", "nan", "NA", "None")
}
FINDINGS = ("No Finding", "Pneumonia", "COVID-19")
PATIENTS = ("P{:04d}", "{:03d}", "1e{}", "1234567890123456{:03d}", "{}", "Müller-{}", "0x{:02x}")
NAMES = {
    "path": ("path", "Path", " file_name", "filename", "Image Index", "IMAGE PATH", "imagePath"),
    "label": ("label", "Label ", "finding", "Finding Labels", "class", "diagnosis"),
    "patient": ("patient_id", "PatientID", "Patient ID", "subject", " patient-id"),
    "split": ("split", "Split", "set", "subset"),
    "age": ("age", "Patient Age", "AGE"),
}
SPLIT_WORDS = {
    "train": ("train", "TRAIN", "training", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "Testing", "hold-out"),
}


@dataclass(frozen=True)
class GeneratedTable:
    """A table on disk and what it means.

    Attributes:
        path: The table.
        root: The folder of the images.
        description: The choices that made it.
        meant: One row per row of the table: file (relative to the root), label, patient, split, age.
        columns: Role -> column that must be named, since neither name nor values tell it.
    """

    path: Path
    root: Path
    description: dict[str, object]
    meant: pd.DataFrame
    columns: dict[str, str]


def write_files(root: Path, n_files: int = 24) -> list[str]:
    """Write small files with the names of images, some of them in decomposed Unicode."""
    files = []
    for number in range(n_files):
        folder, suffix = FOLDERS[number % len(FOLDERS)], SUFFIXES[number % len(SUFFIXES)]
        name = f"{('film', 'Aufnahme ä', '00001')[number % 3]}_{number:03d}{suffix}"
        file = f"{folder}/{name}" if folder else name
        if number % 4 == 1:
            file = unicodedata.normalize("NFD", file)
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
        files.append(file)
    return files


PathForm = Callable[[str, Path], str]

PATH_FORMS: dict[str, PathForm] = {
    "plain": lambda file, root: file,
    "dot": lambda file, root: f"./{file}",
    "backslashes": lambda file, root: file.replace("/", "\\"),
    "absolute": lambda file, root: str(root.absolute() / file),
    "with the folder's name": lambda file, root: f"{root.name}/{file}",
    "composed": lambda file, root: unicodedata.normalize("NFC", file),
    "decomposed": lambda file, root: unicodedata.normalize("NFD", file),
    "without suffix": lambda file, root: file.rpartition(".")[0],
    "upper-case suffix": lambda file, root: (
        file.rpartition(".")[0] + file[file.rindex(".") :].upper()
    ),
    "of another machine": lambda file, root: f"/home/anna/x-rays/{file}",
    "of Windows": lambda file, root: "D:\\data\\" + file.replace("/", "\\"),
    "name alone": lambda file, root: file.rpartition("/")[2],
    "double slashes": lambda file, root: file.replace("/", "//"),
}


def generate_table(folder: Path, root: Path, files: list[str], seed: int) -> GeneratedTable:
    """Draw one table, write it into a folder, and say what it means."""
    rng = np.random.default_rng(seed)

    def pick(choices):
        return choices[int(rng.integers(len(choices)))]

    meant = _draw_meaning(rng, files, pick)
    form = pick(list(PATH_FORMS))
    names = {role: pick(choices) for role, choices in NAMES.items()}
    written = pd.DataFrame(
        {
            names["path"]: [PATH_FORMS[form](file, root) for file in meant["file"]],
            names["label"]: meant["label"],
        }
    )
    for role in ("patient", "split", "age"):
        if not rng.integers(4):
            meant[role] = ""
            continue
        values = meant[role]
        if role == "split":
            values = [pick(SPLIT_WORDS[split]) for split in values]
        written[names[role]] = values
    for number in range(int(rng.integers(3))):
        written[f"note {number}"] = [pick(("", "seen", "a, b", "x; y", "5,5")) for _ in meant.index]
    if all(label in FINDINGS for label in meant["label"]) and rng.integers(2):
        written = _with_finding_columns(written.drop(columns=names["label"]), meant, pick)
    written = written[rng.permutation(written.columns)]
    kind = pick(list(WRITERS))
    path, how = WRITERS[kind](folder, written, rng, pick)
    is_told = (
        names["label"] not in written
        or names["label"].strip().casefold() == "label"
        or TELLING & set(meant["label"])
    )
    columns = {} if is_told else {"label": names["label"].strip()}
    description = {"seed": seed, "kind": kind, "paths": form, "names": names, **how}
    return GeneratedTable(path, root, description, meant, columns)


def _with_finding_columns(written, meant, pick):
    """The table with a column per finding, and what a source calls its labels then."""
    yes, no = pick((("1", "0"), ("1.0", ""), ("1.0", "0.0"), ("True", "False")))
    for finding in FINDINGS:
        written[finding] = [yes if label == finding else no for label in meant["label"]]
    meant["label"] = [json.dumps([label]) for label in meant["label"]]
    return written


def _draw_meaning(rng, files, pick) -> pd.DataFrame:
    chosen = rng.permutation(files)[: int(rng.integers(2, len(files)))].tolist()
    labels, patient = pick(LABELS), pick(PATIENTS)
    numbers = rng.integers(0, 40, len(chosen))
    ages = [pick(("61", "61,5", "058Y", "7", "")) for _ in chosen]
    return pd.DataFrame(
        {
            "file": chosen,
            "label": [pick(labels) for _ in chosen],
            "patient": [patient.format(int(number)) for number in numbers],
            "split": [pick(("train", "val", "test")) for _ in chosen],
            "age": ages,
        }
    )


def _write_csv(folder, table, rng, pick):
    separator = pick((",", ";", "\t", "|", " "))
    encoding = pick(("utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"))
    line_end = pick(("\n", "\r\n", "\r"))
    quoting = int(rng.integers(2))  # what needs quotes, or everything
    text = table.to_csv(index=False, sep=separator, lineterminator=line_end, quoting=quoting)
    above = pick(
        ("", "", "# exported by hand" + line_end, line_end, "Films of 2024" + line_end * 2)
    )
    below = pick(("", "", line_end, separator * (table.shape[1] - 1) + line_end))
    text = above + text + below
    if above == "" and not rng.integers(5):
        text = f"sep={separator}{line_end}" + text
    if encoding == "cp1252":
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            encoding = "utf-8"
    path = folder / f"table{pick(('.csv', '.tsv', '.txt', '.CSV', '.dat'))}"
    data = text.encode(encoding)
    packed = not rng.integers(6)
    path.write_bytes(gzip.compress(data) if packed else data)
    how = {"separator": separator, "encoding": encoding, "quoting": quoting, "above": above}
    return path, {**how, "line_end": line_end, "below": below, "packed": packed}


def _write_excel(folder, table, rng, pick):
    path = folder / "table.xlsx"
    with pd.ExcelWriter(path, engine="openpyxl") as writer:
        table.to_excel(writer, index=False, startrow=int(rng.integers(3)))
        for row in writer.book.active.iter_rows():
            for cell in row:
                if cell.value is not None:  # a text that looks like a formula stays a text
                    cell.data_type = "s"
    return path, {}


def _write_parquet(folder, table, rng, pick):
    path = folder / f"table{pick(('.parquet', '.pq', '.csv'))}"
    table.to_parquet(path, index=False)
    return path, {}


def _write_json(folder, table, rng, pick):
    path = folder / f"table{pick(('.json', '.jsonl', '.txt'))}"
    records = table.to_dict("records")
    as_lines = bool(rng.integers(2))
    buffer = io.StringIO()
    if as_lines:
        buffer.write("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n")
    else:
        json.dump(records, buffer, indent=int(rng.integers(3)) or None)
    path.write_text(buffer.getvalue(), "utf-8")
    return path, {"lines": as_lines}


WRITERS = {
    "csv": _write_csv,
    "CSV": _write_csv,
    "excel": _write_excel,
    "parquet": _write_parquet,
    "json": _write_json,
}
