"""Shortcuts: what gives away the source of real images, or their class without the lungs.

Linear probes look at thumbnails, at borders, at what lies around the lungs, and at the grain, and
are scored on patients they have not seen. The class told from anything but the lungs, or the source
told at all, is what a classifier could learn instead of the disease. Prepares the cohort if needed;
nothing is trained that a study would use.
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
    """The probes of a cohort; `findings` are sentences on those that found a shortcut."""

    images: int
    findings: list[str]
    shortcuts: list[Shortcut]


def run(workspace: Workspace) -> ResultLine:
    """Probe the cohort, or find it probed."""
    this = build_job(workspace)
    return workspace.run_job(this, partial(work, workspace, this))


def jobs(workspace: Workspace) -> list[Job]:
    """The one job of this stage."""
    return [build_job(workspace)]


def build_job(workspace: Workspace) -> Job:
    """The job that probes the cohort."""
    from xraysynth.evaluation.metrics import probes

    config = workspace.config
    decides: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "size_px": config.size_px,
        "views": list(probes.VIEWS),
        "folds": probes.FOLDS,
        "at_most": probes.MAX_IMAGES,
        "replicates": config.evaluate.replicates,
        "seed": SEED,
    }
    if workspace.audit.has_linked_patients:
        decides["patients"] = "linked"  # where none are, jobs of earlier versions found the same
    return Job("probe", decides, config.output)


def work(workspace: Workspace, job: Job) -> ProbeResult:
    """Probe the cohort; patients who share near-duplicates are one, and lie in one fold."""
    from xraysynth.data.pixels import load_cached_pixels
    from xraysynth.evaluation.metrics.probes import probe_shortcuts

    config, cohort = workspace.config, workspace.cohort
    images = load_cached_pixels(
        cohort, size_px=config.size_px, folder=workspace.cache, memory_mapped=True
    )
    found = probe_shortcuts(
        images,
        cohort.table["source"].to_numpy(),
        cohort.table["label"].to_numpy(),
        person_keys(cohort.table, workspace.linked_patients).to_numpy(),
        seed=SEED,
        replicates=config.evaluate.replicates,
    )
    told = [_format_shortcut(row) for row in found if _is_shortcut(row)]
    with tracking.open_run(config, job) as run:
        tracking.log_shortcuts(run, found)
    return ProbeResult(len(cohort), told, found)


def _is_shortcut(row: Shortcut) -> bool:
    """True above chance, except for the class from the whole image, which is no shortcut."""
    return row.low > row.chance and (row.target, row.view) != ("class", "thumbnail")


def _format_shortcut(row: Shortcut) -> str:
    return (
        f"{row.target} from {row.view}: {row.measure} {row.value:.2f} "
        f"({row.low:.2f} to {row.high:.2f}; chance {row.chance:.2f})"
    )
