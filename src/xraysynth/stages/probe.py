"""Probe the cohort for shortcuts, by which a classifier could predict a class without the disease.

Linear probes of the class and of the source see only thumbnails, borders, the area around the lungs, or
the grain, and are scored on patients that they were not trained on. A shortcut is found if a probe
predicts the class from anything but the whole image, or if it predicts the source. Prepares the cohort
if it is missing; trains nothing that a study would use.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from xraysynth import tracking
from xraysynth.data.persons import person_keys
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.records import formerly
from xraysynth.stages._workspace import Workspace

SECTIONS = (
    "classes",
    "size_px",
    "missing_patient_id",
    "acknowledge_confounding",
    "source",
    "splits",
)
"""The options that this stage reads."""

SEED = 0


@formerly(findings="told")
@dataclass(frozen=True)
class ProbeResult:
    """The probes of a cohort.

    Attributes:
        images: Number of images in the cohort.
        findings: One sentence per probe that found a shortcut.
        shortcuts: The results of all probes.
    """

    images: int
    findings: list[str]
    shortcuts: list[Shortcut]


def run(workspace: Workspace) -> ResultLine:
    """Probe the cohort, unless it is probed.

    Returns:
        The job's result, with a sentence per shortcut that was found under "findings".
    """
    job = build_job(workspace)
    return workspace.run_job(job, partial(work, workspace, job))


def jobs(workspace: Workspace) -> list[Job]:
    """List the one job of this stage."""
    return [build_job(workspace)]


def build_job(workspace: Workspace) -> Job:
    """Build the job that probes the cohort; its identity holds the cohort and the probes' settings."""
    from xraysynth.evaluation.metrics import probes

    config = workspace.config
    identity: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "size_px": config.size_px,
        "views": list(probes.VIEWS),
        "folds": probes.FOLDS,
        "at_most": probes.MAX_IMAGES,
        "replicates": config.evaluate.replicates,
        "seed": SEED,
    }
    if workspace.audit.has_linked_patients:
        identity["patients"] = "linked"  # Without linked patients, earlier versions found the same.
    return Job("probe", identity, config.output)


def work(workspace: Workspace, job: Job) -> ProbeResult:
    """Probe the cohort; patients with near-duplicates of each other count as one and share a fold.

    Args:
        workspace: The configuration and its cohort.
        job: The job that is logged to W&B.
    """
    from xraysynth.data.pixels import load_cached_pixels
    from xraysynth.evaluation.metrics.probes import probe_shortcuts

    config, cohort = workspace.config, workspace.cohort
    images = load_cached_pixels(
        cohort, size_px=config.size_px, folder=workspace.cache, memory_mapped=True
    )
    shortcuts = probe_shortcuts(
        images,
        cohort.table["source"].to_numpy(),
        cohort.table["label"].to_numpy(),
        person_keys(cohort.table, workspace.linked_patients).to_numpy(),
        seed=SEED,
        replicates=config.evaluate.replicates,
    )
    findings = list(map(_format_shortcut, filter(_is_shortcut, shortcuts)))
    with tracking.open_run(config, job) as run:
        tracking.log_shortcuts(run, shortcuts)
    return ProbeResult(len(cohort), findings, shortcuts)


def _is_shortcut(probe: Shortcut) -> bool:
    """Return whether a probe is above chance, unless it predicts the class from the whole image."""
    is_class_from_whole_image = probe.target == "class" and probe.view == "thumbnail"
    return probe.low > probe.chance and not is_class_from_whole_image


def _format_shortcut(probe: Shortcut) -> str:
    """Format a probe as "source from border: balanced accuracy 0.71 (0.64 to 0.78; chance 0.50)"."""
    return (
        f"{probe.target} from {probe.view}: {probe.measure} {probe.value:.2f} "
        f"({probe.low:.2f} to {probe.high:.2f}; chance {probe.chance:.2f})"
    )
