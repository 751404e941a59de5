"""Which source reads what is at a path, with its options."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xraysynth.data.inspection import class_folders, image_tables, known_sets, other_files
from xraysynth.data.inspection.survey import (
    TABLE_SUFFIXES,
    Survey,
    describe_suffixes,
    is_dicom_file,
    suffix_of,
    survey_folder,
)
from xraysynth.errors import DataNotFoundError

SUPPORTED = "a folder of images, a table, DICOM files, a MedMNIST .npz file, or a zip or tar archive of these"


@dataclass(frozen=True)
class Proposal:
    """The source that reads what is at a path.

    Attributes:
        path: The path.
        preset: Option of the group `source`.
        options: Option of the source -> value, where it differs from the preset.
        description: What is at the path, in words.
        known_set: Name of the public collection; "" if it is none that is known.
        notes: What its owner should know.
        folder: Folder that holds the images.
    """

    path: Path
    preset: str
    options: Mapping[str, object]
    description: str
    folder: Path
    known_set: str = ""
    notes: tuple[str, ...] = ()


def propose(path: Path) -> Proposal:
    """Find the source that reads what is at a path; archives must be unpacked before.

    Raises:
        DataNotFoundError: There is nothing at the path, or nothing that a source reads; the message
            says what is there.
    """
    if not path.exists():
        raise DataNotFoundError(f"there is nothing at {path}; check the path")
    if path.is_dir():
        return _propose_folder(survey_folder(path))
    if suffix_of(path.name) == ".npz":
        return _propose_array(path)
    if path.name.upper() == "DICOMDIR":
        return _propose_folder(survey_folder(path.parent))
    if is_dicom_file(path):
        raise DataNotFoundError(f"{path} is one DICOM file; name the folder of all of them")
    if suffix_of(path.name) in TABLE_SUFFIXES:
        return _propose_table(path, {}, f"a table, {path.name}, that lists images")
    raise DataNotFoundError(f"{path} is one file of an unknown kind; name {SUPPORTED}")


def _propose_folder(survey: Survey) -> Proposal:
    found = known_sets.find_known_set(survey)
    if found is not None:
        return _propose_known_set(survey, *found)
    table = image_tables.find_image_table(survey) if survey.images else None
    if table is not None:
        name = table.path.relative_to(survey.root)
        description = f"a table, {name}, that lists {table.images:,} images"
        return _propose_table(table.path, table.options, description, _other_contents(survey))
    arrays = [file for file in survey.arrays if other_files.medmnist_name(survey.root / file)]
    if arrays and not survey.images:
        return _propose_array(survey.root / arrays[0])
    if len(survey.dicoms) > len(survey.images):
        return _propose_dicoms(survey)
    if survey.images:
        return _propose_class_folders(survey)
    lists = [file for file in survey.tables if suffix_of(file) not in (".txt", ".json")]
    if lists:  # its error says what is missing
        return _propose_table(survey.root / lists[0], {}, f"a table, {lists[0]}, without images")
    raise DataNotFoundError(_describe_nothing(survey))


def _describe_nothing(survey: Survey) -> str:
    held = describe_suffixes(survey.suffix_counts) if survey.files else "no visible file"
    hint = ""
    if survey.archives:
        hint = f"; inspect its archive instead: {survey.archives[0]}"
    return f"{survey.root} holds no radiographs that can be read: {held}{hint}; name {SUPPORTED}"


def _propose_known_set(survey: Survey, known: known_sets.KnownSet, root: str) -> Proposal:
    folder = survey.root / root
    if not known.preset:
        raise DataNotFoundError(f"{folder} is {known.title}; {known.hint}")
    return Proposal(
        survey.root,
        known.preset,
        known.options_at(folder),
        f"the public set {known.title}",
        folder,
        known_set=known.title,
    )


def _propose_table(
    path: Path, options: Mapping[str, object], description: str, notes: tuple[str, ...] = ()
) -> Proposal:
    return Proposal(
        path, "table", {"path": str(path), **options}, description, path.parent, notes=notes
    )


def _propose_array(path: Path) -> Proposal:
    named = other_files.medmnist_name(path)
    if named is None:
        raise DataNotFoundError(
            f"{path} holds no arrays as MedMNIST publishes them; name {SUPPORTED}"
        )
    flag, size_px = named
    preset = other_files.CHEST_FLAGS.get(flag, "medmnist")
    options: dict[str, object] = {"root": str(path.parent)}
    if preset == "medmnist":
        options["flag"] = flag
    if size_px != 28:
        options["size_px"] = size_px
    title = "PneumoniaMNIST" if preset == "pneumoniamnist" else ""
    description = f"{title or flag}, a MedMNIST file of {size_px} × {size_px} pixels"
    note = "MedMNIST publishes no patients: each image counts as a patient of its own"
    return Proposal(path, preset, options, description, path.parent, title, (note,))


def _propose_dicoms(survey: Survey) -> Proposal:
    root = survey.root
    description = f"DICOM files ({len(survey.dicoms):,})"
    options: dict[str, object] = {"root": str(root)}
    flat = sum(1 for file in survey.dicoms if "/" not in file)
    if flat and survey.tables:
        options["table"] = str(root / survey.tables[0])
        description += f" with labels in {survey.tables[0]}"
    notes = _other_contents(survey, images=survey.dicoms)
    return Proposal(root, "dicom", options, description, root, notes=notes)


def _propose_class_folders(survey: Survey) -> Proposal:
    layout = class_folders.find_layout(survey.images)
    if layout is None:
        raise DataNotFoundError(
            f"{survey.root} holds {len(survey.images):,} images, but nothing says of which class they "
            "are; put each into a folder named after its class, or add a table manifest.csv with the "
            "columns path, label and patient_id"
        )
    options = {"root": str(survey.root), **layout.options}
    notes = _other_contents(survey)
    return Proposal(survey.root, "folder", options, layout.description, survey.root, notes=notes)


def _other_contents(survey: Survey, images: list[str] | None = None) -> tuple[str, ...]:
    """A note on files that are no images of the proposal."""
    read = set(survey.images if images is None else images)
    others = Counter(suffix_of(file) for file in survey.files if file not in read)
    if not others:
        return ()
    return (f"other files beside the images: {describe_suffixes(others)}",)
