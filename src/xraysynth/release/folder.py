"""The folder of a release: all parts, or as it was before."""

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
    """What a release is written from.

    `prompt` is the example of a model card. `real_ids` are those of the study's images and patients,
    which nothing that is written may name.
    """

    recipe: ReleaseRecipe
    study_info: StudyInfo
    generators: Sequence[ReleasedGenerator]
    study: StudyRecord | None
    prompt: str
    real_ids: Collection[str]
    with_pictures: bool

    @property
    def parts(self) -> list[str]:
        """The folders of the release."""
        return part_names(self.recipe, self.generators)


def marker_name(key: str) -> str:
    """The file in a release that says which job wrote it."""
    return f"release-{key}.json"


def write_release(
    target: Path, contents: ReleaseContents, *, key: str, scrubber: Scrubber
) -> dict[str, dict[str, str]]:
    """Write all parts in place of an earlier release; part -> file -> SHA-256.

    Raises `XraysynthError` where the folder holds anything else than a release, and `PrivacyError`
    where a part names what must not leave; the folder then stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = exclusive_lock(target.parent / f".{target.name}.lock")
    with lock, atomic_path(target) as partial:
        _require_release(target)
        remove_leftovers(target)
        for part in contents.parts:
            (partial / part).mkdir(parents=True)
        _write_parts(partial, contents, scrubber)
        require_no_private_data(partial, scrubber, ids=contents.real_ids)
        files = {part: _file_digests(partial / part) for part in contents.parts}
        write_atomically(partial / marker_name(key), json.dumps(files, indent=1).encode())
    return files


def _write_parts(folder: Path, contents: ReleaseContents, scrubber: Scrubber) -> None:
    recipe, about = contents.recipe, contents.study_info
    for made in contents.generators:
        name = made.generator.name
        if made.weights is not None:
            write_model(folder / f"model-{name}", about, made, prompt=contents.prompt)
        if "data" in recipe.parts:
            write_dataset(
                folder / f"data-{name}",
                about,
                made,
                with_originals=recipe.originals,
                published=datetime.now(UTC),
            )
    if contents.study is not None:
        write_study(
            folder / "study",
            about,
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
    """Every file of a part and its SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): sha256_bytes(p.read_bytes()) for p in files}
