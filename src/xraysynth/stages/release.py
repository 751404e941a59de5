"""Write a study's weights, images and report with their cards, ready for the Hugging Face Hub.

Writes paths.output/releases/<study.name>/{model-<generator>, data-<generator>, study}, and nothing
that identifies a patient, this machine or its user. Weights and images that come from sources under a
data use agreement are refused until its terms are acknowledged. With release.push=true each part is
uploaded to its own repository, with the token in HF_TOKEN; a second run only uploads what is missing.
The folder holds the last release of that name only. Needs: pip install 'xraysynth[hub]'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from xraysynth import __version__
from xraysynth.config import Config
from xraysynth.errors import DamageError, PrivacyError, XraysynthError
from xraysynth.generation import pool
from xraysynth.generation.generators.base import FineTuning
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.jobs.provenance import collect_environment
from xraysynth.jobs.record import RunRecord, load_finished_records
from xraysynth.manifest import Manifest
from xraysynth.privacy import Scrubber, key_variables
from xraysynth.records import LEARNING_RECORD_FILE, JsonObject, LearningRecord, to_json
from xraysynth.release import croissant, hub
from xraysynth.release.folder import ReleaseContents, marker_name, write_release
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, part_names
from xraysynth.release.origin import summarize_train_split
from xraysynth.release.study import StudyRecord
from xraysynth.stages import finetune, prepare, report
from xraysynth.stages._study import plan
from xraysynth.stages._study.arm_configs import with_one_generator
from xraysynth.stages._workspace import Workspace

SECTIONS = ("release", "study", "source", "generator", "prompts", "generate", "data")
"""The options that this stage reads, besides those of the study."""

CARDS_VERSION = 2
"""Raised whenever a card changes, so that old releases are written again."""


@dataclass(frozen=True)
class ReleaseResult:
    """A written release.

    Attributes:
        release: Its folder.
        parts: Number of files by part.
    """

    release: str
    parts: dict[str, int]


def run(workspace: Workspace) -> ResultLine:
    """Write the release, unless it is written, and upload it if release.push is true.

    Returns:
        The job's result; with release.push also the address of each uploaded part under "pushed".

    Raises:
        ConfigError: If the token or a package is missing, or there is nothing to release.
        PrivacyError: If parts come from credentialed sources and release.acknowledge_terms is false.
        DamageError: If the report leaves out finished work that is damaged.
        XraysynthError: If a job of the study that is to be released is not done.
    """
    config, recipe = workspace.config, workspace.config.release
    # A missing token is an error before anything is written.
    token = hub.read_token() if recipe.push else ""
    if "data" in recipe.parts:
        croissant.require_mlcroissant()
    generators = _collect_generators(plan.with_images_per_class(workspace))
    _require_acknowledged_terms(config, generators)
    parts = part_names(recipe, generators)
    report_result = _run_report(workspace) if "study" in recipe.parts else {}
    job = build_job(workspace, generators, report_result)
    result = workspace.run_job(job, partial(work, workspace, generators, report_result, job))
    if not recipe.push:
        return result
    addresses = hub.push(
        _folder(config), parts, repo=recipe.repo, private=recipe.private, token=token
    )
    return result | {"pushed": addresses}


def _run_report(workspace: Workspace) -> ResultLine:
    """Write the report of the study, and refuse one that leaves out damaged work."""
    result = report.run(workspace)
    if result["state"] == "failed":
        raise DamageError(
            "the report of the study leaves out finished work that is damaged: "
            f"{'; '.join(result['failures'])}. Make that work again first, or leave the report out with "
            "release.parts=[model,data]"
        )
    return result


def build_job(
    workspace: Workspace, generators: Sequence[ReleasedGenerator], report_result: Mapping[str, Any]
) -> Job:
    """Build the job that writes this release; its output is the marker file in the release.

    Args:
        workspace: The study's configuration.
        generators: What is released of each generator.
        report_result: The result of the report's job; empty if the study is not released.
    """
    config = workspace.config
    recipe = asdict(config.release)
    del recipe["push"], recipe["private"]  # They change nothing in the folder.
    identity = {
        "study": config.study.name,
        "recipe": recipe,
        "cohort": workspace.cohort.digest(),
        "audit": prepare.audit_digest(workspace),
        "made": {generator.key: generator.content_digests() for generator in generators},
        "report": report_result.get("key", ""),
        "version": __version__,
        "cards": CARDS_VERSION,
    }
    job = Job("release", identity, config.output)
    return replace(job, outputs=(_folder(config) / marker_name(job.key),))


def work(
    workspace: Workspace,
    generators: Sequence[ReleasedGenerator],
    report_result: Mapping[str, Any],
    job: Job,
) -> ReleaseResult:
    """Write all parts of the release, which then replaces the last release of this name.

    Args:
        workspace: The study's configuration.
        generators: What is released of each generator.
        report_result: The result of the report's job; empty if the study is not released.
        job: The job whose key the release carries.

    Raises:
        PrivacyError: If a file names a real image, a patient, this machine or its user.
    """
    config = workspace.config
    contents = ReleaseContents(
        recipe=config.release,
        study_info=_study_info(workspace),
        generators=generators,
        study=_study_record(workspace, report_result) if report_result else None,
        prompt=config.prompts.prompt(config.classes[-1], 0, seed=config.generate.seed),
        real_ids=_real_ids(workspace.cohort),
        secret_variables=key_variables(config.to_dict()),
        with_pictures=config.release.acknowledge_terms or not _credentialed_sources(config),
    )
    folder = _folder(config)
    scrubber = Scrubber.from_folders(config.output)
    files = write_release(folder, contents, key=job.key, scrubber=scrubber)
    return ReleaseResult(str(folder), {part: len(digests) for part, digests in files.items()})


def _folder(config: Config) -> Path:
    """Return the folder of the release."""
    return config.output / "releases" / config.study.name


def _collect_generators(workspace: Workspace) -> list[ReleasedGenerator]:
    """Collect the images, weights, learning record and evaluation of every selected generator."""
    keys, names = workspace.config.generator, workspace.generators
    return [_collect_generator(workspace, key, name) for key, name in zip(keys, names, strict=True)]


def _collect_generator(workspace: Workspace, key: str, name: str) -> ReleasedGenerator:
    """Collect what is released of one generator, by its key in the configuration and its name."""
    images, store = _load_pool(workspace, key, name), workspace.pool_store(name)
    finetune_job = None
    if name in workspace.generators_to_finetune:
        finetune_job = finetune.build_job(workspace, name)
    learning_record = pool.read_learning_record(store) or _load_learning_record(finetune_job)
    generator = ReleasedGenerator(
        key=key,
        generator=workspace.generators[name],
        images=images,
        outcomes=pool.count_outcomes(store),
        refusals=pool.count_refusals(store),
        learning_record=learning_record,
        evaluation=_latest_evaluation(workspace, images) if images is not None else {},
    )
    if finetune_job is None or "model" not in workspace.config.release.parts:
        return generator
    finetuning = finetune_job.result(FineTuning, workspace.command("finetune"))
    return replace(generator, weights=finetune_job.folder, finetuning=finetuning)


def _load_pool(workspace: Workspace, key: str, name: str) -> Manifest | None:
    """Load the images of one generator; None if there is no pool and its images are not released."""
    config = with_one_generator(workspace.config, key)
    try:
        return workspace.with_config(config).pools(workspace.images_per_class)[name]
    except XraysynthError:
        if "data" in config.release.parts:
            raise
        return None


def _load_learning_record(finetune_job: Job | None) -> LearningRecord | None:
    """Load the record of the images that a fine-tuning saw; None if it is not done."""
    if finetune_job is None or not finetune_job.done:
        return None
    return LearningRecord.read(finetune_job.folder / LEARNING_RECORD_FILE)


def _latest_evaluation(workspace: Workspace, images: Manifest) -> JsonObject:
    """Return the newest evaluation of exactly these images on this cohort, by any settings."""
    inputs = {"cohort": workspace.cohort.digest(), "pool": images.digest()}
    records = load_finished_records(workspace.output, "evaluate")
    matching = [record for record in records if inputs.items() <= record.identity.items()]
    return max(matching, key=attrgetter("started")).result if matching else {}


def _credentialed_sources(config: Config) -> list[str]:
    """List the sources that are under a data use agreement."""
    sources = [*config.sources(), *config.test_sources()]
    return [source.name for source in sources if source.credentialed]


def _require_acknowledged_terms(config: Config, generators: Sequence[ReleasedGenerator]) -> None:
    """Refuse weights and images that come from credentialed sources until the terms are acknowledged.

    The results of a study are numbers over many patients; they may be released, but without pictures.
    """
    recipe = config.release
    credentialed = _credentialed_sources(config)
    derived_parts = []
    for part in ("model", "data"):
        for generator in generators:
            if part in recipe.parts and generator.may_have_seen_real:
                derived_parts.append(f"{part}-{generator.generator.name}")
    if credentialed and derived_parts and not recipe.acknowledge_terms:
        raise PrivacyError(
            f"source {', '.join(credentialed)} is under a data use agreement that forbids passing "
            f"anything of it on to third parties, and {', '.join(derived_parts)} come from generators that "
            "were fine-tuned on it or may have been. If the agreement allows their release, say so with "
            "release.acknowledge_terms=true, which the cards then state; or leave them out with "
            "release.parts=[study]"
        )


def _study_info(workspace: Workspace) -> StudyInfo:
    """Collect the facts of the study that the cards of all parts state."""
    config, audit, recipe = workspace.config, workspace.audit, workspace.config.release
    notes = [f"Real images were put into one format: grey, square, {config.size_px} px."]
    for sentence in audit.acknowledged:
        notes.append(f"Confounded: {sentence}.")
    all_simulated = len(audit.simulated) == len(config.sources())
    return StudyInfo(
        study=config.study.name,
        classes=config.classes,
        simulated=audit.simulated if all_simulated else [],
        train_split=summarize_train_split(workspace.cohort),
        credentialed_sources=_credentialed_sources(config) if recipe.acknowledge_terms else (),
        licence=recipe.licence,
        notes=[*notes, *audit.notes],
        repo=recipe.repo,
    )


def _study_record(workspace: Workspace, report_result: Mapping[str, Any]) -> StudyRecord:
    """Collect the report's folder and what reproduces it: configuration, overrides, environment."""
    folder = Path(report_result["folder"])
    config = _public_config(workspace.config)
    return StudyRecord(folder, config, workspace.overrides, _environment(folder))


def _public_config(config: Config) -> JsonObject:
    """Return the configuration without options on this machine, its user and this release."""
    public_config = config.to_dict()
    for section in ("paths", "tracking", "release", "real", "synthetic", "trained_on"):
        del public_config[section]
    return public_config


def _environment(folder: Path) -> JsonObject:
    """Return the machine and the package versions that the report was written with."""
    recorded: JsonObject = RunRecord.read(folder).environment
    return recorded or to_json(collect_environment())


def _real_ids(cohort: Manifest) -> set[str]:
    """Return the ids of all real images and patients, which no released file may contain."""
    real_ids: set[str] = set()
    for column in ("image_id", "patient_id", "sha256"):
        real_ids.update(cohort.table[column].astype(str))
    return real_ids
