"""The folder of a release: all parts are written, or the folder stays as it was."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from xraysynth.errors import XraysynthError
from xraysynth.files import atomic_path, exclusive_lock, remove_leftovers, write_atomically
from xraysynth.privacy import Scrubber, require_no_private_data
from xraysynth.records import sha256_bytes
from xraysynth.release.dataset import write_dataset
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, part_names
from xraysynth.release.model import write_model
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.release.study import StudyRecord, write_study


@dataclass(frozen=True, kw_only=True)
class ReleaseContents:
    """Everything from which a release is written.

    Attributes:
        recipe: The options.
        study_info: Facts about the study that all cards share.
        generators: The generators with their images and weights.
        study: The study's report and configuration, or None.
        prompt: Example of a prompt for model cards.
        real_ids: Ids and hashes of the study's images and patients, which no file may name.
        secret_variables: Environment variables with keys, whose values no file may hold.
        with_pictures: Whether synthetic or simulated images may stay in the report.
    """

    recipe: ReleaseRecipe
    study_info: StudyInfo
    generators: Sequence[ReleasedGenerator]
    study: StudyRecord | None
    prompt: str
    real_ids: Collection[str]
    secret_variables: Collection[str] = ()
    with_pictures: bool

    @property
    def parts(self) -> list[str]:
        """The names of the folders in the release."""
        return part_names(self.recipe, self.generators)


def marker_name(key: str) -> str:
    """Returns the name of the file that says which job wrote a release.

    Args:
        key: Key of the job, or a pattern.
    """
    return f"release-{key}.json"


def write_release(
    target: Path, contents: ReleaseContents, *, key: str, scrubber: Scrubber
) -> dict[str, dict[str, str]]:
    """Writes all parts and replaces an earlier release of the same name.

    Args:
        target: Folder of the release.
        contents: What is released.
        key: Key of the job that writes it.
        scrubber: Removes paths and names of this machine from texts.

    Returns:
        Part -> file -> SHA-256.

    Raises:
        XraysynthError: If the folder exists and is not a release.
        PrivacyError: If a part names something private. The folder stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = exclusive_lock(target.parent / f".{target.name}.lock")
    with lock, atomic_path(target) as partial:
        _require_release(target)
        remove_leftovers(target)
        for part in contents.parts:
            (partial / part).mkdir(parents=True)
        _write_parts(partial, contents, scrubber)
        require_no_private_data(
            partial, scrubber, ids=contents.real_ids, secret_variables=contents.secret_variables
        )
        digests = {part: _file_digests(partial / part) for part in contents.parts}
        write_atomically(partial / marker_name(key), json.dumps(digests, indent=1).encode())
    return digests


def _write_parts(folder: Path, contents: ReleaseContents, scrubber: Scrubber) -> None:
    study_info = contents.study_info
    for released in contents.generators:
        name = released.generator.name
        if released.weights is not None:
            write_model(folder / f"model-{name}", study_info, released, prompt=contents.prompt)
        if "data" in contents.recipe.parts:
            write_dataset(
                folder / f"data-{name}",
                study_info,
                released,
                with_originals=contents.recipe.originals,
                published=datetime.now(UTC),
            )
    if contents.study is not None:
        write_study(
            folder / "study",
            study_info,
            contents.generators,
            study=contents.study,
            scrubber=scrubber,
            with_pictures=contents.with_pictures,
        )


def _require_release(target: Path) -> None:
    if target.exists() and not list(target.glob(marker_name("*"))):
        raise XraysynthError(
            f"{target} is no release by xraysynth, and would be replaced; move it, or choose another "
            "study.name"
        )


def _file_digests(folder: Path) -> dict[str, str]:
    """Returns every file of a part and its SHA-256."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digests[path.relative_to(folder).as_posix()] = sha256_bytes(path.read_bytes())
    return digests
