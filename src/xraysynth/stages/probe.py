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
from xraysynth.jobs.job import Job, Line
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


@dataclass(frozen=True)
class Probed:
    """The probes of a cohort; `told` are sentences on those that found a shortcut."""

    images: int
    told: list[str]
    shortcuts: list[Shortcut]


def run(workspace: Workspace) -> Line:
    """Probe the cohort, or find it probed."""
    this = job(workspace)
    return workspace.perform(this, partial(work, workspace, this))


def jobs(workspace: Workspace) -> list[Job]:
    """The one job of this stage."""
    return [job(workspace)]


def job(workspace: Workspace) -> Job:
    """The job that probes the cohort."""
    from xraysynth.evaluation.metrics import probes

    config = workspace.config
    decides: dict[str, Any] = {
        "cohort": workspace.cohort.digest(),
        "size_px": config.size_px,
        "views": list(probes.VIEWS),
        "folds": probes.FOLDS,
        "at_most": probes.AT_MOST,
        "replicates": config.evaluate.replicates,
        "seed": SEED,
    }
    if workspace.audit.may_link_patients:
        decides["patients"] = "linked"  # where none are, jobs of earlier versions found the same
    return Job("probe", decides, config.output)


def work(workspace: Workspace, this: Job) -> Probed:
    """Probe the cohort; patients who share near-duplicates are one, and lie in one fold."""
    from xraysynth.data.pixels import pixels
    from xraysynth.evaluation.metrics.probes import shortcuts

    config, cohort = workspace.config, workspace.cohort
    images = pixels(cohort, size_px=config.size_px, folder=workspace.cache, memory_mapped=True)
    found = shortcuts(
        images,
        cohort.table["source"].to_numpy(),
        cohort.table["label"].to_numpy(),
        person_keys(cohort.table, workspace.linked).to_numpy(),
        seed=SEED,
        replicates=config.evaluate.replicates,
    )
    told = [_sentence(row) for row in found if _gives_away(row)]
    with tracking.tracked(config, this) as run:
        tracking.log_shortcuts(run, found)
    return Probed(len(cohort), told, found)


def _gives_away(row: Shortcut) -> bool:
    """True above chance, except for the class from the whole image, which is no shortcut."""
    return row.low > row.chance and (row.question, row.view) != ("class", "thumbnail")


def _sentence(row: Shortcut) -> str:
    return (
        f"{row.question} from {row.view}: {row.measure} {row.value:.2f} "
        f"({row.low:.2f} to {row.high:.2f}; chance {row.chance:.2f})"
    )
