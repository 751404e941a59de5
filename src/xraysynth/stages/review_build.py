"""Build a blinded reader study: one self-contained HTML file per reader and session, and the answer key.

Draws real images of the test split and images of every selected generator's pool, the same number of
each class, and writes below paths.output/reviews/<review.name>: kits/ to send to the readers, who need
only a browser, and owner/key.json to keep. Nothing in a kit reveals which images are real: ids and orders
come from a secret in the key, and all images go through the same processing into sheets without files
of their own. A review.name always stands for the same set of kits; other settings need another name.
`xraysynth review analyse` joins the readers' answers with the key.
"""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.config import Config, with_deprecated_names
from xraysynth.data.leakage import require_no_contamination
from xraysynth.errors import ConfigError, PrivacyError, XraysynthError
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.files import exclusive_lock
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import from_json
from xraysynth.stages._study import plan
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.reader_study.sample import Sample

SECTIONS = ("review", "classes", "size_px", "source", "generator", "prompts", "generate", "data")
"""The options that this stage reads, besides those of prepare and generate."""

KITS_VERSION = 1
"""Raised whenever the drawing or the pixels change, so that no kit is rebuilt with other images."""

LARGE_KIT_MB = 30
"""A kit of more megabytes is hard to send, so that a hint is printed."""


@dataclass(frozen=True)
class Kits:
    """The written kits of a reader study.

    Attributes:
        send: Files to send to the readers.
        keep: File of the answer key, which no reader may see.
        images: Number of different images that are shown, without those for calibration.
        showings: How often images are shown in all kits together.
        largest_mb: Size of the largest kit in megabytes.
    """

    send: list[str]
    keep: str
    images: int
    showings: int
    largest_mb: float


def run(workspace: Workspace) -> ResultLine:
    """Write the kits and the key, unless they are written, and print whom to send what.

    Returns:
        The job's result, with the fields of `Kits`.

    Raises:
        PrivacyError: If images come from credentialed sources and review.acknowledge_terms is false.
        LeakageError: If a generator was fine-tuned on val or test images or patients.
        XraysynthError: If the key of other kits has this review.name.
    """
    config = workspace.config
    _require_acknowledged_terms(config)
    if not config.generator:
        raise ConfigError("generator must name at least one; for example generator=sd_lora")
    pools = _load_pools(workspace)
    job = build_job(workspace, pools)
    with _lock(reader_study_folder(config)):
        _require_same_key(config, job)
        result = workspace.run_job(job, partial(work, workspace, pools, job))
    print(_format_instructions(from_json(Kits, result)), file=sys.stderr, flush=True)
    return result


def reader_study_folder(config: Config) -> Path:
    """Return the folder of the reader study."""
    return config.output / "reviews" / config.review.name


def key_path(config: Config) -> Path:
    """Return the file of the answer key of the reader study."""
    return reader_study_folder(config) / "owner" / "key.json"


def _kits_folder(config: Config) -> Path:
    """Return the folder of the kits, all of whose files may be sent."""
    return reader_study_folder(config) / "kits"


def _require_acknowledged_terms(config: Config) -> None:
    """Refuse to put images of credentialed sources into kits, which are sent to other people."""
    credentialed = [source.name for source in config.sources() if source.credentialed]
    if credentialed and not config.review.acknowledge_terms:
        raise PrivacyError(
            f"source {', '.join(credentialed)} is under a data use agreement that forbids passing "
            "anything of it on to third parties, and a kit contains its images. If every reader is covered "
            "by the agreement, say so with review.acknowledge_terms=true"
        )


def _load_pools(workspace: Workspace) -> dict[str, Manifest]:
    """Load the study's pools; refuse those whose generators were fine-tuned on test images."""
    pools = workspace.pools(plan.with_images_per_class(workspace).images_per_class)
    records = {name: workspace.learning_record(name) for name in pools}
    require_no_contamination(workspace.cohort, pools, records)
    return pools


def build_job(workspace: Workspace, pools: Mapping[str, Manifest]) -> Job:
    """Build the job that writes the kits of these pools and the cohort, and their key.

    Its outputs are the key and, once there is one, the kits that the key lists.
    """
    config = workspace.config
    recipe = asdict(config.review)
    del recipe["exports"], recipe["acknowledge_terms"]  # They change nothing in the kits.
    identity = {
        "review": with_deprecated_names("review", recipe),
        "classes": config.classes,
        "side_px": _side_px(config),
        "cohort": workspace.cohort.digest(),
        "pools": {name: images.digest() for name, images in pools.items()},
        "kits": KITS_VERSION,
    }
    outputs = [key_path(config)]
    existing_key = _load_existing_key(config)
    if existing_key is not None:
        for kit in existing_key.kits.values():
            outputs.append(_kits_folder(config) / kit.file)
    return Job("review_build", identity, config.output, outputs=tuple(outputs))


def _side_px(config: Config) -> int:
    """Return the side in pixels at which images are shown."""
    return config.review.side_px or config.size_px


def _load_existing_key(config: Config) -> AnswerKey | None:
    """Load the key that has this review.name; None if there is none."""
    path = key_path(config)
    return AnswerKey.read(path) if path.exists() else None


def _lock(folder: Path) -> Any:
    """Return a lock under which one process at a time works in the folder of a reader study."""
    folder.mkdir(parents=True, exist_ok=True)
    return exclusive_lock(folder / ".lock")


def _require_same_key(config: Config, job: Job) -> None:
    """Refuse to overwrite the key of other kits, because answers to these may still come."""
    existing_key = _load_existing_key(config)
    if existing_key is not None and existing_key.made_by != job.key:
        raise XraysynthError(
            f"{key_path(config)} is the key of kits that were built from other settings or images, and "
            "answers to them may still come; choose another review.name for the new ones, or move "
            f"{reader_study_folder(config)} away if no kit was sent"
        )


def work(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> Kits:
    """Draw the images, write the key, and then the kits.

    Args:
        workspace: The configuration and its cohort.
        pools: The synthetic images by generator.
        job: The job whose key the answer key names as its maker.

    Raises:
        ConfigError: If a class has too few images, real or of a generator.
        XraysynthError: If the key was written by a version that would build other kits.
    """
    from xraysynth.evaluation.reader_study import build, sample

    config, recipe = workspace.config, workspace.config.review
    drawn_images = sample.draw_sample(
        workspace.cohort,
        pools,
        per_cell=recipe.per_cell,
        calibration=recipe.calibration,
        seed=recipe.seed,
    )
    key = _write_key(workspace, pools, drawn_images, job)
    files = {}
    for case_id, image in build.cases_by_id(drawn_images).items():
        files[case_id] = image.path
    kit_sizes = build.write_kits(
        key, files, _kits_folder(config), language=recipe.language, side_px=_side_px(config)
    )
    return Kits(
        send=list(map(str, kit_sizes)),
        keep=str(key_path(config)),
        images=len(drawn_images.cases),
        showings=sum(len(kit.items) for kit in key.kits.values()),
        largest_mb=round(max(kit_sizes.values()) / 1e6, 1),
    )


def _write_key(
    workspace: Workspace, pools: Mapping[str, Manifest], drawn_images: "Sample", job: Job
) -> AnswerKey:
    """Write the key of the drawn images; an existing key must be the same and is kept."""
    from xraysynth.evaluation.reader_study import build

    config = workspace.config
    existing_key = _load_existing_key(config)
    pool_keys = {}
    for name, images in pools.items():
        pool_keys[name] = images.folder.name.rpartition("-")[2]
    key = build.build_key(
        config.review,
        drawn_images,
        classes=config.classes,
        pools=pool_keys,
        cohort=workspace.cohort.digest(),
        simulated=len(workspace.audit.simulated) == len(config.sources()),
        made_by=job.key,
        secret=existing_key.secret if existing_key else secrets.token_hex(32),
    )
    if existing_key is None:
        # The key is written before any kit, because answers to a kit without its key are lost.
        key.write(key_path(config))
    elif replace(key, created=existing_key.created) != existing_key:
        raise XraysynthError(
            f"{key_path(config)} was written by another version of xraysynth and its kits cannot be "
            "built again; build new ones under another review.name"
        )
    return key


def _format_instructions(kits: Kits) -> str:
    """Format what the owner of the study is to do with the files."""
    lines = []
    if kits.largest_mb > LARGE_KIT_MB:
        lines.append(
            f"the largest kit has {kits.largest_mb} MB; a lower review.session_size makes smaller kits"
        )
    lines.append("send each reader the files with their name (they open them in a browser):")
    lines += [f"  {path}" for path in kits.send]
    lines.append("keep this file, show it to no reader, and make a copy (answers need it):")
    lines.append(f"  {kits.keep}")
    return "\n".join(lines)
