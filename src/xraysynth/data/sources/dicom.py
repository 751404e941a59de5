"""The source of DICOM files, rendered as a viewer shows them: bones white, air black."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from xraysynth.data.dicom.decoding import GREY_PHOTOMETRICS
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.sources.base import LoadedImage, build_image_id, resolve_path
from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.images import name_decoder_errors
from xraysynth.options import FolderName, Labels, PathText, Rule, expand_path, require_valid
from xraysynth.records import CLASSES

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import pandas as pd

    from xraysynth.data.dicom.listing import ListedFile
    from xraysynth.data.reading.class_folders import PlacedImage


@dataclass(frozen=True, kw_only=True)
class DicomSource:
    """The frontal chest radiographs among the files below `root`, whatever their names.

    DICOM files are told by their content, and other views, body parts and modalities by their headers.
    The label is the folder of a class, or is read from `table`: its `key_column` holds file names or
    paths, UIDs of images or studies, accession numbers or patient ids, its `label_column` the labels; a row
    may be repeated with the same label. `photometric` overrides the Photometric Interpretation of all grey
    files. With `download`, missing data is downloaded as `fetch` says.
    """

    name: FolderName
    root: PathText
    table: PathText = ""
    key_column: str = "file"
    label_column: str = "label"
    photometric: Annotated[
        str,
        Rule(
            "be MONOCHROME1 or MONOCHROME2, or empty to trust the files",
            ("", *GREY_PHOTOMETRICS).__contains__,
        ),
    ] = ""
    labels: Labels = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    download: bool = field(default=False, metadata={"identity": False})
    fetch: Fetch | None = field(default=None, metadata={"identity": False})
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_valid(self, f"source.{self.name}")

    @property
    def note(self) -> str:
        """What the last call of `rows` has found that a reader of the audit should know."""
        return str(self.__dict__.get("_note", ""))

    def rows(self) -> "pd.DataFrame":
        """List all files, one row per file, from their headers; the pixels are not looked at.

        Raises:
            DataNotFoundError: There is no frontal chest radiograph below `root`.
            ManifestError: No file has a label, or `table` cannot be matched with the files.
        """
        from xraysynth.data.dicom.headers import Header
        from xraysynth.data.dicom.listing import ListedFile, list_dicom_files

        root = resolve_path(self, "root")
        listed = list_dicom_files(root)
        self._require_radiographs(root, listed)
        placed, missing = self._place(listed)
        lost = [ListedFile(key, Header(), unusable=self._explain_missing(key)) for key in missing]
        return self._build_rows([*_leave_out_views(listed, placed), *lost], placed)

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Render one file at its own size (`data.dicom.rendering.render`)."""
        from xraysynth.data.dicom.decoding import read_dataset
        from xraysynth.data.dicom.rendering import render
        from xraysynth.data.pixel_flags import flag_pixels

        path = expand_path(self.root) / locator
        with name_decoder_errors(str(path)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that break the standard
            rendered = render(read_dataset(path), str(path), photometric=self.photometric)
        flags = (*rendered.flags, *flag_pixels(rendered.pixels))
        return LoadedImage(rendered.pixels, repairs=rendered.repairs, flags=flags)

    def _require_radiographs(self, root: Path, listed: Sequence["ListedFile"]) -> None:
        if any(not entry.left_out for entry in listed):
            return
        reasons = Counter(entry.left_out for entry in listed)
        found = [f"{count} {reason}" for reason, count in reasons.most_common()]
        detail = f"; its {len(listed)} files are: {format_some(found, 8)}" if found else ""
        raise DataNotFoundError(
            f"source {self.name}: there is no DICOM file of a frontal chest radiograph below "
            f"{root.absolute()}{detail}; check source.{self.name}.root. {self.how_to_get}"
        )

    def _place(self, listed: Sequence["ListedFile"]) -> tuple[dict[str, "PlacedImage"], list[str]]:
        """File -> its class by folders or `table`, and the keys of `table` that no file has."""
        from xraysynth.data.dicom.labels import find_class_folders

        if self.table:
            return self._place_by_table(listed)
        files = [entry.file for entry in listed if not entry.left_out]
        try:
            return find_class_folders(files, (*CLASSES, *map(str, self.labels))), []
        except ManifestError as error:
            has_ids = all(entry.header.patient_id for entry in listed if not entry.left_out)
            key = "PatientID" if has_ids else "file"
            option = f"source.{self.name}"
            raise ManifestError(
                f"source {self.name}: {error}; put each into a folder named after its class, or write a "
                f"table with the columns {key} and label, and run it with {option}.table=labels.csv "
                f"{option}.key_column={key}"
            ) from None

    def _place_by_table(
        self, listed: Sequence["ListedFile"]
    ) -> tuple[dict[str, "PlacedImage"], list[str]]:
        from xraysynth.data.dicom.label_tables import place_by_table

        table = resolve_path(self, "table")
        option = f"source.{self.name}"
        try:
            return place_by_table(table, self.key_column, self.label_column, listed)
        except ManifestError as error:
            raise ManifestError(
                f"source {self.name}: {error}; correct the table, or name its columns in "
                f"{option}.key_column and {option}.label_column"
            ) from None

    def _build_rows(
        self, entries: Sequence["ListedFile"], placed: Mapping[str, "PlacedImage"]
    ) -> "pd.DataFrame":
        import pandas as pd

        from xraysynth.data.dicom.headers import Header
        from xraysynth.data.dicom.patients import resolve_patients
        from xraysynth.data.reading.class_folders import PlacedImage

        places = [placed.get(entry.file, PlacedImage(entry.file)) for entry in entries]
        patients, note = resolve_patients(
            [entry.header if entry.is_used else Header() for entry in entries],
            [place.patient_id for place in places],
        )
        self.__dict__["_note"] = f"source {self.name}: {note}" if note else ""
        records = []
        for entry, patient, place in zip(entries, patients, places, strict=True):
            records.append(self._build_row(entry, patient, place))
        rows = pd.DataFrame(records)
        for column in ("split", "left_out", "unusable"):
            if not rows[column].any():
                rows = rows.drop(columns=column)
        return rows

    def _explain_missing(self, key: str) -> str:
        return (
            f"{key}: {self.table} lists it, but no file below {self.root} is it; complete the files"
        )

    def _build_row(self, entry: "ListedFile", patient: str, place: "PlacedImage") -> dict[str, Any]:
        from xraysynth.data.dicom.views import frontal_view
        from xraysynth.data.reading.ages import parse_age_years

        header = entry.header
        unusable = entry.unusable
        if entry.is_used and not place.label:
            where = f"row of {self.table}" if self.table else "folder of a class"
            unusable = f"no label (no {where})"
        return {
            "patient_id": patient,
            "sex": header.sex,
            "age": parse_age_years(header.age),
            "view": header.view_position or frontal_view(header),
            "locator": entry.file,
            "stamp": entry.stamp,
            "image_id": build_image_id(self.name, entry.file),
            "label": place.label,
            "source": self.name,
            "license": self.license,
            "split": place.split,
            "left_out": entry.left_out,
            "unusable": unusable,
        }


def _leave_out_views(
    listed: Sequence["ListedFile"], placed: Mapping[str, "PlacedImage"]
) -> list["ListedFile"]:
    """Leave out files whose folder says another view, such as lateral, although no header does."""
    from xraysynth.data.dicom.views import OTHER_VIEWS

    kept = []
    for entry in listed:
        place = placed.get(entry.file)
        if place and place.left_out in OTHER_VIEWS and not entry.left_out:
            entry = replace(entry, left_out=place.left_out, unusable="")
        kept.append(entry)
    return kept
