"""Measuring any folder of synthetic images against a folder of real ones, without a study."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.config import Config
from xraysynth.errors import ConfigError
from xraysynth.files import write_csv
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.stages._measuring import (
    build_encoders,
    build_resampling,
    image_measures,
    measures_identity,
)
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:  # A wrong option must be refused before torch is imported.
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.folders import ImageFolder
    from xraysynth.evaluation.results import Evaluation, FolderEvaluation

PAGE_FILE = "evaluation.html"
TABLE_FILE = "measures.csv"


@dataclass(frozen=True)
class _FolderInputs:
    """The image sets to compare, all with the same classes.

    Attributes:
        real: The images that are compared with.
        synthetic: The images that are measured.
        train: Images that may have been copied; None if trained_on names no folder.
        size_px: Side in pixels to which all images are brought.
        folders: What was read, in the order of `manifests`, with the images that are not used.
    """

    real: Manifest
    synthetic: Manifest
    train: Manifest | None
    size_px: int
    folders: "Sequence[ImageFolder]"

    @property
    def manifests(self) -> list[Manifest]:
        """The image sets in the order real, synthetic, train."""
        manifests = [self.real, self.synthetic]
        return manifests if self.train is None else [*manifests, self.train]


def run(workspace: Workspace) -> ResultLine:
    """Measure the folder `synthetic` against the folder `real`, unless this is done.

    Raises:
        ConfigError: If one of the two folders is not named, or evaluate.encoders names only the
            classifier and evaluate.weights has no classifier.
    """
    config = workspace.config
    inputs = _load_folders(config)
    classifier = config.evaluate.weights.get("classifier")
    encoder_names = list(config.evaluate.encoders)
    if not classifier:
        encoder_names = [name for name in encoder_names if name != "classifier"]
    if not encoder_names:
        raise ConfigError(
            "evaluate.encoders=[classifier] needs a classifier for two folders; name its file with "
            "evaluate.weights.classifier=FILE, or use evaluate.encoders=[embedded]"
        )
    identity = {
        "sets": [manifest.digest() for manifest in inputs.manifests],
        "size_px": inputs.size_px,
        **measures_identity(config),
    }
    job = Job("evaluate", identity, config.output, outputs=(PAGE_FILE, TABLE_FILE))
    encoders = build_encoders(config, encoder_names, Path(classifier) if classifier else None)
    return workspace.run_job(job, partial(work, workspace, inputs, encoders, job))


def _load_folders(config: Config) -> _FolderInputs:
    """Read the folders of the configuration, and bring them to the same classes and size."""
    from xraysynth.evaluation.folders import read_image_folder

    if config.real is None or config.synthetic is None:
        raise ConfigError(
            "real and synthetic must both be given: xraysynth evaluate real=DIR synthetic=DIR"
        )
    folders = [
        read_image_folder(Path(config.real)),
        read_image_folder(Path(config.synthetic), is_synthetic=True),
    ]
    if config.trained_on is not None:
        folders.append(read_image_folder(Path(config.trained_on)))
    return _build_inputs(config, folders)


def _build_inputs(config: Config, folders: "Sequence[ImageFolder]") -> _FolderInputs:
    """Bring folders to the same classes and size.

    Raises:
        ImageError: More images of a folder cannot be used than screening allows.
    """
    from xraysynth.evaluation.folders import choose_common_size, unify_classes

    for folder in folders:
        folder.require_few_unusable(config.screening)
    manifests = unify_classes(*(folder.manifest for folder in folders))
    return _FolderInputs(
        real=manifests[0],
        synthetic=manifests[1],
        train=manifests[2] if len(manifests) > 2 else None,
        size_px=config.evaluate.size_px or choose_common_size(*manifests),
        folders=folders,
    )


def work(
    workspace: Workspace, inputs: _FolderInputs, encoders: Sequence["Encoder"], job: Job
) -> "FolderEvaluation":
    """Measure the synthetic images, and write the page and the table of measures.

    Args:
        workspace: The configuration.
        inputs: The image sets.
        encoders: The encoders whose features are compared.
        job: The job whose folder takes page and table.

    Images that cannot be decoded are left out, and said to be in the page.

    Returns:
        All measures, the paths of page and table, and the measures over all classes as a headline.
    """
    from xraysynth.evaluation.images import evaluate
    from xraysynth.evaluation.results import FolderEvaluation, format_headline

    intact = [folder.without_damaged() for folder in inputs.folders]
    inputs = replace(_build_inputs(workspace.config, intact), size_px=inputs.size_px)
    evaluation = evaluate(
        real=inputs.real,
        synthetic=inputs.synthetic,
        train=inputs.train,
        encoders=encoders,
        size_px=inputs.size_px,
        cache=workspace.cache,
        resampling=build_resampling(workspace.config),
    )
    encoder_names = [encoder.name for encoder in encoders]
    command = workspace.command("evaluate")
    _write_page_and_table(inputs, evaluation, encoder_names, command, job.folder)
    return FolderEvaluation(
        **image_measures(evaluation),
        size_px=inputs.size_px,
        page=str(job.folder / PAGE_FILE),
        table=str(job.folder / TABLE_FILE),
        headline=format_headline(evaluation.measures),
    )


def _write_page_and_table(
    inputs: _FolderInputs,
    evaluation: "Evaluation",
    encoder_names: Sequence[str],
    command: str,
    folder: Path,
) -> None:
    """Render the page and the table of a comparison into the job's folder."""
    from xraysynth.evaluation.folders import comparison_limitations
    from xraysynth.report import content as report_content
    from xraysynth.report import page, tables

    real, synthetic = inputs.real, inputs.synthetic
    not_assessable_reason = ""
    if not inputs.train:
        not_assessable_reason = "no training images given (trained_on=DIR): not assessed"
    content = report_content.Evaluation(
        title=f"{synthetic.folder.name} against {real.folder.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        real=real,
        synthetic=synthetic,
        train=inputs.train,
        measures=evaluation.measures,
        diversity=evaluation.diversity,
        nearest_similarity=evaluation.nearest_similarity,
        not_assessable_reason=not_assessable_reason,
        closest=evaluation.closest,
        appearance=evaluation.appearance,
        limits=comparison_limitations(
            inputs.manifests,
            encoder_names,
            inputs.size_px,
            [folder.note() for folder in inputs.folders],
        ),
    )
    (folder / PAGE_FILE).write_text(page.render_evaluation(content), encoding="utf-8")
    write_csv(tables.measures_table(content), folder / TABLE_FILE)
