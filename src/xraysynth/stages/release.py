"""A study's weights, images and report with their cards, ready for the Hugging Face Hub.

Writes paths.output/releases/<study.name>/{model-<generator>, data-<generator>, study}, and nothing
that tells a patient, this machine or its user; what a data use agreement binds is refused until its
terms are acknowledged. With release.push=true each part goes to a repository of its own, by the
token in HF_TOKEN; started again, only what is missing is sent. The folder holds the last release
of that name only. Needs: pip install 'xraysynth[hub]'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xraysynth import __version__
from xraysynth.config import Config
from xraysynth.errors import PrivacyError, XraysynthError
from xraysynth.generation import pool
from xraysynth.generation.generators.base import FineTuning
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.jobs.provenance import collect_environment
from xraysynth.jobs.record import RunRecord, load_finished_records
from xraysynth.manifest import Manifest
from xraysynth.privacy import Scrubber
from xraysynth.records import LEARNING_RECORD_FILE, JsonObject, LearningRecord, to_json
from xraysynth.release import croissant, hub
from xraysynth.release.folder import ReleaseContents, marker_name, write_release
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, part_names
from xraysynth.release.origin import summarize_train_split
from xraysynth.release.study import StudyRecord
from xraysynth.stages import finetune, prepare, report
from xraysynth.stages._study import plan
from xraysynth.stages._workspace import Workspace

SECTIONS = ("release", "study", "source", "generator", "prompts", "generate", "data")
"""The options that this stage reads, besides those of the study."""

CARDS_VERSION = 2
"""Raised whenever a card changes, so that old releases are written anew."""


@dataclass(frozen=True)
class ReleaseResult:
    """The folder of a release, and how many files each part has."""

    release: str
    parts: dict[str, int]


def run(workspace: Workspace) -> ResultLine:
    """Write the release, or find it written; then send it, if it is to be sent."""
    config, recipe = workspace.config, workspace.config.release
    token = hub.read_token() if recipe.push else ""  # before anything is written
    if "data" in recipe.parts:
        croissant.require_mlcroissant()
    made = _collect_generators(plan.with_images_per_class(workspace))
    _require_acknowledged_terms(config, made)
    names = part_names(recipe, made)
    study = report.run(workspace) if "study" in recipe.parts else {}
    this = build_job(workspace, made, study)
    result = workspace.run_job(this, partial(work, workspace, made, study, this))
    if not recipe.push:
        return result
    sent = hub.push(_folder(config), names, repo=recipe.repo, private=recipe.private, token=token)
    return result | {"pushed": sent}


def _collect_generators(workspace: Workspace) -> list[ReleasedGenerator]:
    """Every selected generator with what it learned, made, and was measured to do."""
    config = workspace.config
    found = []
    for key, (name, generator) in zip(config.generator, workspace.generators.items(), strict=True):
        images, store = _load_pool(workspace, key, name), workspace.pool_store(name)
        taught = (
            finetune.build_job(workspace, name)
            if name in workspace.generators_to_finetune
            else None
        )
        made = ReleasedGenerator(
            key=key,
            generator=generator,
            images=images,
            outcomes=pool.count_outcomes(store),
            refusals=pool.count_refusals(store),
            learning_record=pool.read_learning_record(store) or _load_learning_record(taught),
            evaluation=_latest_evaluation(workspace, images) if images is not None else {},
        )
        if taught and "model" in config.release.parts:
            result = taught.result(FineTuning, workspace.command("finetune"))
            made = replace(made, weights=taught.folder, finetuning=result)
        found.append(made)
    return found


def _load_pool(workspace: Workspace, key: str, name: str) -> Manifest | None:
    config = workspace.config
    own = workspace.with_config(replace(config, generator={key: config.generator[key]}))
    try:
        return own.pools(workspace.images_per_class)[name]
    except XraysynthError:
        if "data" in config.release.parts:
            raise
        return None


def _load_learning_record(finetune_job: Job | None) -> LearningRecord | None:
    if finetune_job is None or not finetune_job.done:
        return None
    return LearningRecord.read(finetune_job.folder / LEARNING_RECORD_FILE)


def _latest_evaluation(workspace: Workspace, images: Manifest) -> JsonObject:
    """The newest evaluation of exactly these images on exactly this cohort, by any settings."""
    inputs = {"cohort": workspace.cohort.digest(), "pool": images.digest()}
    done = [
        record
        for record in load_finished_records(workspace.output, "evaluate")
        if inputs.items() <= record.identity.items()
    ]
    newest = max(done, key=lambda record: record.started, default=None)
    return newest.result if newest else {}


def _credentialed_sources(config: Config) -> list[str]:
    """Sources under a data use agreement."""
    return [s.name for s in (*config.sources(), *config.test_sources()) if s.credentialed]


def _require_acknowledged_terms(config: Config, generators: Sequence[ReleasedGenerator]) -> None:
    """Refuse what comes from bound sources until their terms are acknowledged.

    The results of a study are numbers of many patients and may go out without, but then without
    pictures.
    """
    recipe, bound = config.release, _credentialed_sources(config)
    derived = [m.generator.name for m in generators if m.may_have_seen_real]
    offends = [
        f"{part}-{name}" for part in ("model", "data") if part in recipe.parts for name in derived
    ]
    if bound and offends and not recipe.acknowledge_terms:
        raise PrivacyError(
            f"source {', '.join(bound)} is under a data use agreement that lets nothing of it reach third "
            f"parties, and {', '.join(offends)} come from generators that learned from it or may have. If "
            "the agreement allows to release them, say so with release.acknowledge_terms=true, which the "
            "cards then state; or leave them out with release.parts=[study]"
        )


def _study_info(workspace: Workspace) -> StudyInfo:
    config, audit, recipe = workspace.config, workspace.audit, workspace.config.release
    simulated = audit.simulated
    return StudyInfo(
        study=config.study.name,
        classes=config.classes,
        simulated=simulated if len(simulated) == len(config.sources()) else [],
        train_split=summarize_train_split(workspace.cohort),
        credentialed_sources=_credentialed_sources(config) if recipe.acknowledge_terms else (),
        licence=recipe.licence,
        notes=[
            f"Real images were put into one format: grey, square, {config.size_px} px.",
            *(f"Confounded: {sentence}." for sentence in audit.acknowledged),
            *audit.notes,
        ],
        repo=recipe.repo,
    )


def _folder(config: Config) -> Path:
    return config.output / "releases" / config.study.name


def build_job(
    workspace: Workspace, generators: Sequence[ReleasedGenerator], report_result: Mapping[str, Any]
) -> Job:
    """The job that writes this release."""
    config = workspace.config
    decides = {
        "study": config.study.name,
        "recipe": {k: v for k, v in asdict(config.release).items() if k not in ("push", "private")},
        "cohort": workspace.cohort.digest(),
        "audit": prepare.audit_digest(workspace),
        "made": {m.key: m.content_digests() for m in generators},
        "report": report_result.get("key", ""),
        "version": __version__,
        "cards": CARDS_VERSION,
    }
    this = Job("release", decides, config.output)
    return replace(this, outputs=(_folder(config) / marker_name(this.key),))


def work(
    workspace: Workspace,
    generators: Sequence[ReleasedGenerator],
    report_result: Mapping[str, Any],
    job: Job,
) -> ReleaseResult:
    """Write all parts beside the last release of this name, and replace it."""
    config = workspace.config
    contents = ReleaseContents(
        recipe=config.release,
        study_info=_study_info(workspace),
        generators=generators,
        study=_study_record(workspace, report_result) if report_result else None,
        prompt=config.prompts.prompt(config.classes[-1], 0, seed=config.generate.seed),
        real_ids=_real_ids(workspace.cohort),
        with_pictures=config.release.acknowledge_terms or not _credentialed_sources(config),
    )
    target = _folder(config)
    files = write_release(
        target, contents, key=job.key, scrubber=Scrubber.from_folders(config.output)
    )
    return ReleaseResult(str(target), {part: len(digests) for part, digests in files.items()})


def _study_record(workspace: Workspace, report_result: Mapping[str, Any]) -> StudyRecord:
    folder = Path(report_result["folder"])
    config = _public_config(workspace.config)
    return StudyRecord(folder, config, workspace.overrides, _environment(folder))


def _public_config(config: Config) -> JsonObject:
    """The configuration without what is about this machine, its user and this release."""
    private = ("paths", "tracking", "release", "real", "synthetic", "trained_on")
    return {name: value for name, value in config.to_dict().items() if name not in private}


def _environment(folder: Path) -> JsonObject:
    """What the report was made with."""
    recorded: JsonObject = RunRecord.read(folder).environment or to_json(collect_environment())
    return recorded


def _real_ids(cohort: Manifest) -> set[str]:
    table = cohort.table
    return {str(v) for name in ("image_id", "patient_id", "sha256") for v in table[name]}
