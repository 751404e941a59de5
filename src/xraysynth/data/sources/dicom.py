"""The source of DICOM files, rendered as a viewer shows them: bones white, air black."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.pixel_flags import looks_inverted
from xraysynth.data.reading.folders import list_files
from xraysynth.data.reading.tables import read_table_file
from xraysynth.data.sources._inflation import require_limited_inflation
from xraysynth.data.sources.base import (
    LoadedImage,
    build_image_id,
    file_stamp,
    resolve_path,
)
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError, format_some
from xraysynth.images import (
    describe_error,
    name_decoder_errors,
    require_plain_file,
    require_plausible_size,
)
from xraysynth.options import FolderName, Rule, require_valid

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".dic", ".ima", "")
"""Suffixes of DICOM files; many archives write none."""

_HEADER_TAGS = ["PatientID", "PatientSex", "PatientAge", "ViewPosition"]
_YEARS_PER_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_GREY_PHOTOMETRICS = ("MONOCHROME1", "MONOCHROME2")
_INVERTED_PHOTOMETRIC = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}


@dataclass(frozen=True, kw_only=True)
class DicomSource:
    """DICOM files below `root`, also files without extension, preamble or file meta.

    The label is the name of the topmost folder, or is read from the CSV `table`: its `key_column`
    holds file names (with or without extension) or relative paths, its `label_column` the labels; a
    row may be repeated with the same label. `photometric` overrides the Photometric Interpretation of
    all files, and turns off the check that each image agrees with it (`looks_inverted`). With `download`,
    missing data is downloaded as `fetch` says.
    """

    name: FolderName
    root: str
    table: str = ""
    key_column: str = "file"
    label_column: str = "label"
    photometric: Annotated[
        str,
        Rule(
            "be MONOCHROME1 or MONOCHROME2, or empty to trust the files",
            ("", *_GREY_PHOTOMETRICS).__contains__,
        ),
    ] = ""
    labels: dict[str, str | None] = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    download: bool = field(default=False, metadata={"identity": False})
    fetch: Fetch | None = field(default=None, metadata={"identity": False})
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_valid(self, f"source.{self.name}")

    def rows(self) -> pd.DataFrame:
        """List the files, one row per file, from their headers; an unreadable file fails in `load`.

        Raises:
            DataNotFoundError: There is no DICOM file below `root`.
            ManifestError: Files have no label, or files that `table` lists are missing.
        """
        root = resolve_path(self, "root")
        files = [file for file in list_files(root, SUFFIXES) if not file.endswith("DICOMDIR")]
        if not files:
            raise DataNotFoundError(
                f"source {self.name}: there is no DICOM file ({', '.join(SUFFIXES[:-1])} or no "
                f"extension) below {root.absolute()}; check source.{self.name}.root. {self.how_to_get}"
            )
        return pd.DataFrame([_read_header(root / file) for file in files]).assign(
            locator=files,
            stamp=[file_stamp(root / file) for file in files],
            image_id=[build_image_id(self.name, file) for file in files],
            label=self._resolve_labels(files),
            source=self.name,
            license=self.license,
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Render one file at its own size (`render`)."""
        path = Path(self.root).expanduser() / locator
        with name_decoder_errors(str(path)):
            return LoadedImage(render(_read_dataset(path), str(path), photometric=self.photometric))

    def _resolve_labels(self, files: list[str]) -> list[str]:
        if self.table:
            return self._labels_from_table(files)
        files_without_folder = [file for file in files if "/" not in file]
        if files_without_folder:
            raise ManifestError(
                f"source {self.name}: {len(files_without_folder)} files lie in {self.root} itself and "
                f"have no label: {format_some(files_without_folder)}; put each into a folder named after "
                f"its class, or name a CSV of labels in source.{self.name}.table"
            )
        return [PurePosixPath(file).parts[0] for file in files]

    def _labels_from_table(self, files: list[str]) -> list[str]:
        label_of_key = self._read_labels()
        keys = [_find_key(file, label_of_key) for file in files]
        unlabelled = [file for file, key in zip(files, keys, strict=True) if not key]
        missing = sorted(set(label_of_key) - set(keys))
        problem = ""
        if unlabelled:
            problem = (
                f"{len(unlabelled)} files have no row in {self.table}: {format_some(unlabelled)}"
            )
        elif missing:
            problem = (
                f"{len(missing)} files listed in {self.table} are missing: {format_some(missing)}"
            )
        if problem:
            raise ManifestError(
                f"source {self.name}: {problem}; complete the files below {self.root} or remove the "
                f"others, and check source.{self.name}.key_column={self.key_column!r}"
            )
        return [label_of_key[key] for key in keys]

    def _read_labels(self) -> dict[str, str]:
        """Key of the file -> label, from the CSV `table`."""
        table = read_table_file(resolve_path(self, "table"))
        missing = [name for name in (self.key_column, self.label_column) if name not in table]
        if missing:
            raise ManifestError(
                f"source {self.name}: {self.table} has no column {format_some(missing)}, only "
                f"{format_some(table.columns, 12)}; set source.{self.name}.key_column and .label_column"
            )
        pairs = table[[self.key_column, self.label_column]].fillna("").drop_duplicates()
        pairs.columns = pd.Index(["key", "label"])
        ambiguous = pairs.loc[pairs["key"].duplicated(), "key"]
        if len(ambiguous):
            raise ManifestError(
                f"source {self.name}: {self.table} gives more than one label to "
                f"{format_some(ambiguous)}; keep one row per file"
            )
        return dict(zip(pairs["key"], pairs["label"], strict=True))


def _find_key(file: str, label_of_key: Mapping[str, str]) -> str:
    """The name under which a table lists a file: its path, its name or its stem; "" if it does not."""
    path = PurePosixPath(file)
    for key in (file, path.name, path.stem):
        if key in label_of_key:
            return key
    return ""


def _read_header(path: Path) -> dict[str, Any]:
    from pydicom import dcmread

    try:
        require_limited_inflation(path)
        header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
        values = {tag: str(header.get(tag) or "").strip() for tag in _HEADER_TAGS}
    except Exception:  # pydicom raises nearly any type on a damaged file; `load` reports it
        values = dict.fromkeys(_HEADER_TAGS, "")
    return {
        "patient_id": values["PatientID"],
        "sex": values["PatientSex"],
        "age": parse_age_years(values["PatientAge"]),
        "view": values["ViewPosition"],
    }


def parse_age_years(text: str) -> float | None:
    """Return the years of a DICOM age such as `045Y`, `018M` or, as some archives write it, `45`.

    None for any other text.
    """
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", text.strip().upper())
    return round(int(match[1]) * _YEARS_PER_UNIT[match[2] or "Y"], 2) if match else None


def _read_dataset(path: Path) -> "Dataset":
    """Read a file with pixel data; set the transfer syntax where the file meta is missing."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        require_plain_file(path)
        require_limited_inflation(path)
        dataset = dcmread(path, force=True)
        has_pixels = "PixelData" in dataset and "Rows" in dataset and "Columns" in dataset
    except ImageError:
        raise
    except Exception as error:  # pydicom raises nearly any type on foreign bytes
        raise ImageError(
            f"{path}: this is not a readable DICOM file ({describe_error(error)}); copy it again"
        ) from error
    if not has_pixels:
        raise ImageError(f"{path}: this is not a DICOM image (no pixel data); remove or replace it")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def render(dataset: "Dataset", file_name: str, *, photometric: str = "") -> np.ndarray:
    """Render a single-frame grey DICOM image: modality LUT, VOI LUT, bones white.

    Args:
        dataset: The DICOM data set with pixel data.
        file_name: Name of the file, for the messages.
        photometric: "MONOCHROME1" or "MONOCHROME2" to override the Photometric Interpretation; ""
            trusts the file, and checks that the image agrees with it (`looks_inverted`).

    Returns:
        `(H, W)` uint8.

    Raises:
        ImageError: The image has colours, several frames or too many pixels, cannot be decoded, or
            contradicts its Photometric Interpretation.
    """
    kind = photometric or str(dataset.get("PhotometricInterpretation", "")).strip()
    _require_single_grey_frame(dataset, kind, file_name)
    grey = _apply_window(dataset, file_name)
    if kind == "MONOCHROME1":
        grey = 255 - grey
    if not photometric and looks_inverted(grey):
        raise ImageError(
            f"{file_name}: the Photometric Interpretation says {kind}, but then bones are black and "
            f"air is white, so it is probably {_INVERTED_PHOTOMETRIC[kind]}; correct the tag, remove "
            "the file, or set the source's option photometric to the value that is true of all files"
        )
    return grey


def _require_single_grey_frame(dataset: "Dataset", photometric: str, name: str) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    problem = ""
    if photometric not in _GREY_PHOTOMETRICS:
        problem = (
            f"Photometric Interpretation is {photometric or 'missing'}, but "
            f"{' or '.join(_GREY_PHOTOMETRICS)} is needed"
        )
    elif frames != 1:
        problem = f"the file has {frames} frames, but a radiograph has one; extract one frame"
    if problem:
        raise ImageError(f"{name}: {problem}")
    require_plausible_size(int(dataset.Columns), int(dataset.Rows), name, is_greedy=True)


def _apply_window(dataset: "Dataset", name: str) -> np.ndarray:
    """Apply modality and VOI LUT; return uint8, `(H, W)`.

    Without a VOI LUT, 8-bit images stay unchanged and deeper ones are scaled by percentiles.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    _require_decoder(dataset, name)
    try:
        stored = dataset.pixel_array
        values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    except Exception as error:  # decoders raise their own types
        raise ImageError(
            f"{name}: the pixels cannot be decoded ({describe_error(error)}); copy the file again, "
            "or decompress it with gdcmconv --raw"
        ) from error
    has_voi = "WindowWidth" in dataset or "VOILUTSequence" in dataset
    if stored.dtype == np.uint8 and not has_voi:
        return np.asarray(stored)
    # Without a VOI LUT, markers and dead pixels would set the scale: half a percent is clipped.
    tail_percent = 0.0 if has_voi else 0.5
    low, high = np.percentile(values, [tail_percent, 100 - tail_percent])
    if not 0 < high - low < np.inf:  # nor is NaN a range, which a damaged rescale slope gives
        raise ImageError(
            f"{name}: every pixel has the same value after windowing, or none; remove the file"
        )
    # In place, as each copy of a large image takes a quarter of a gigabyte.
    np.clip(values, low, high, out=values)
    values -= low
    values /= high - low
    values *= 255
    return np.asarray(np.rint(values, out=values), np.uint8)


def _require_decoder(dataset: "Dataset", name: str) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ImageError(
            f"{name}: transfer syntax {syntax.name} ({syntax}) needs a decoder that is not "
            "installed; pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress "
            "the file with gdcmconv --raw"
        )
