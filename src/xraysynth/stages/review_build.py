"""A blinded reading: one self-contained HTML file per reader and session, and the answer key.

Draws real images of the test split and images of every selected generator's pool, as many of each
class, and writes below paths.output/reviews/<review.name>: kits/ to send to the readers, who need a
browser and nothing else, and owner/key.json to keep. Nothing in a kit tells real from synthetic:
ids and orders come from a secret in the key, and all images go through one path into sheets without
a file of their own. A name stands for one set of kits for ever: other settings need another
review.name. `xraysynth review analyse` joins what comes back with the key.
"""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth.config import Config, with_deprecated_names
from xraysynth.data.leakage import require_no_contamination
from xraysynth.errors import ConfigError, PrivacyError, XraysynthError
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.files import exclusive_lock
from xraysynth.generation import pool
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import from_json
from xraysynth.stages._study import plan
from xraysynth.stages._workspace import Workspace

SECTIONS = ("review", "classes", "size_px", "source", "generator", "prompts", "generate", "data")
"""The options that this stage reads, besides those of prepare and generate."""

KITS_VERSION = 1
"""Raised whenever the drawing or the pixels change, so that no kit is rebuilt as another one."""

LARGE_MB, SMALLER_KITS_HINT = 30, "a lower review.session_size makes smaller ones"


@dataclass(frozen=True)
class Kits:
    """The kits to `send`, the key to `keep`, and how many images are shown how often in all."""

    send: list[str]
    keep: str
    images: int
    showings: int
    largest_mb: float


def run(workspace: Workspace) -> ResultLine:
    """Write kits and key, or find them written."""
    config = workspace.config
    _require_acknowledged_terms(config)
    if not config.generator:
        raise ConfigError("generator must name at least one; for example generator=sd_lora")
    pools = _load_pools(workspace)
    this = build_job(workspace, pools)
    with _lock(reader_study_folder(config)):
        _require_same_key(config, this)
        result = workspace.run_job(this, partial(work, workspace, pools, this))
    print(_format_instructions(from_json(Kits, result)), file=sys.stderr, flush=True)
    return result


def reader_study_folder(config: Config) -> Path:
    """Where the reading lies."""
    return config.output / "reviews" / config.review.name


def key_path(config: Config) -> Path:
    """The answer key of the reading."""
    return reader_study_folder(config) / "owner" / "key.json"


def _require_acknowledged_terms(config: Config) -> None:
    """A kit leaves the house, and images of bound sources with it."""
    bound = [source.name for source in config.sources() if source.credentialed]
    if bound and not config.review.acknowledge_terms:
        raise PrivacyError(
            f"source {', '.join(bound)} is under a data use agreement that lets nothing of it reach third "
            "parties, and a kit holds its images. If every reader is covered by the agreement, say so "
            "with review.acknowledge_terms=true"
        )


def _load_pools(workspace: Workspace) -> dict[str, Manifest]:
    """The study's pools, none of them made from what the reading tests."""
    found = workspace.pools(plan.with_images_per_class(workspace).images_per_class)
    learned = {name: pool.read_learning_record(workspace.pool_store(name)) for name in found}
    require_no_contamination(workspace.cohort, found, learned)
    return found


def build_job(workspace: Workspace, pools: Mapping[str, Manifest]) -> Job:
    """The job that builds the kits of these pools and the cohort."""
    config, cohort = workspace.config, workspace.cohort
    apart = ("exports", "acknowledge_terms")
    decisive = {name: value for name, value in asdict(config.review).items() if name not in apart}
    decides = {
        "review": with_deprecated_names("review", decisive),
        "classes": config.classes,
        "side_px": _side_px(config),
        "cohort": cohort.digest(),
        "pools": {name: images.digest() for name, images in pools.items()},
        "kits": KITS_VERSION,
    }
    this = Job("review_build", decides, config.output)
    key = _load_existing_key(config)
    kits = (
        [reader_study_folder(config) / "kits" / kit.file for kit in key.kits.values()]
        if key
        else []
    )
    return replace(this, outputs=(key_path(config), *kits))


def _side_px(config: Config) -> int:
    return config.review.side_px or config.size_px


def _load_existing_key(config: Config) -> AnswerKey | None:
    return AnswerKey.read(key_path(config)) if key_path(config).exists() else None


def _lock(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return exclusive_lock(folder / ".lock")


def _require_same_key(config: Config, job: Job) -> None:
    """A key is never overwritten: answers to its kits may be on their way."""
    known = _load_existing_key(config)
    if known is not None and known.made_by != job.key:
        raise XraysynthError(
            f"{key_path(config)} is the key of kits that were built from other settings or images, and "
            "answers to them may still come; choose another review.name for the new ones, or move "
            f"{reader_study_folder(config)} away if no kit was handed out"
        )


def work(workspace: Workspace, pools: Mapping[str, Manifest], job: Job) -> Kits:
    """Draw the images, write the key, and then the kits."""
    from xraysynth.evaluation.reader_study import build, sample

    config, cohort = workspace.config, workspace.cohort
    simulated = len(workspace.audit.simulated) == len(config.sources())
    recipe, known = config.review, _load_existing_key(config)
    drawn = sample.draw_sample(
        cohort,
        pools,
        per_cell=recipe.per_cell,
        calibration=recipe.calibration,
        seed=recipe.seed,
    )
    key = build.build_key(
        recipe,
        drawn,
        classes=config.classes,
        pools={name: images.folder.name.rpartition("-")[2] for name, images in pools.items()},
        cohort=cohort.digest(),
        simulated=simulated,
        made_by=job.key,
        secret=known.secret if known else secrets.token_hex(32),
    )
    if known is None:
        key.write(key_path(config))  # before any kit: one without its key would be lost work
    elif replace(key, created=known.created) != known:
        raise XraysynthError(
            f"{key_path(config)} was written by another version of xraysynth and its kits cannot be "
            "built again; build new ones under another review.name"
        )
    sizes = build.write_kits(
        key,
        {name: image.path for name, image in build.cases_by_id(drawn).items()},
        reader_study_folder(config) / "kits",
        language=recipe.language,
        side_px=_side_px(config),
    )
    return Kits(
        send=[str(path) for path in sizes],
        keep=str(key_path(config)),
        images=len(drawn.cases),
        showings=sum(len(kit.items) for kit in key.kits.values()),
        largest_mb=round(max(sizes.values()) / 1e6, 1),
    )


def _format_instructions(kits: Kits) -> str:
    large = kits.largest_mb > LARGE_MB
    return "\n".join(
        [
            *([f"the largest kit has {kits.largest_mb} MB; {SMALLER_KITS_HINT}"] if large else []),
            "send to the readers, each their own file (they open it in a browser):",
            *(f"  {path}" for path in kits.send),
            "keep, and show no reader (without it the answers say nothing; make a copy):",
            f"  {kits.keep}",
        ]
    )
