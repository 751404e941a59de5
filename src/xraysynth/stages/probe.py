"""Shortcuts: what gives away the source of real images, or their class without the lungs.

Linear probes look at thumbnails, at borders, at what lies around the lungs, and at the grain, and
are scored on patients they have not seen. The class told from anything but the lungs, or the source
told at all, is what a classifier could learn instead of the disease. Prepares the cohort if needed;
nothing is trained that a study would use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import person_keys
from xraysynth.jobs.job import Job
from xraysynth.manifest import Manifest
from xraysynth.records import to_json
from xraysynth.stages import prepare

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.probes import Shortcut

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


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Probe the cohort, or find it probed."""
    cohort, _ = prepare.cohort(config, overrides)
    this = job(config, cohort)
    return this.run(lambda: _work(config, cohort, this), config=config.plain(), overrides=overrides)


def job(config: Config, cohort: Manifest) -> Job:
    """The job that probes this cohort."""
    from xraysynth.evaluation.metrics import probes

    decides: dict[str, Any] = {
        "cohort": cohort.digest(),
        "size_px": config.size_px,
        "views": list(probes.VIEWS),
        "folds": probes.FOLDS,
        "at_most": probes.AT_MOST,
        "replicates": config.evaluate.replicates,
        "seed": SEED,
    }
    if prepare.may_link_patients(prepare.audit_of(config)):
        decides["patients"] = "linked"  # where none are, jobs of earlier versions found the same
    return Job("probe", decides, config.output)


def _person_keys(config: Config, cohort: Manifest) -> np.ndarray:
    """Whom each image is of; patients who share near-duplicates are one, and lie in one fold."""
    linked = prepare.same_persons(cohort, prepare.audit_of(config))
    return np.asarray(person_keys(cohort.table, linked))


def _work(config: Config, cohort: Manifest, this: Job) -> dict[str, Any]:
    from xraysynth.data.pixels import pixels
    from xraysynth.evaluation.metrics.probes import shortcuts

    folder, table = config.output / "cache", cohort.table
    images = pixels(cohort, size_px=config.size_px, folder=folder, memory_mapped=True)
    found = shortcuts(
        images,
        table["source"].to_numpy(),
        table["label"].to_numpy(),
        _person_keys(config, cohort),
        seed=SEED,
        replicates=config.evaluate.replicates,
    )
    summary = {
        "images": len(cohort),
        "told": [_sentence(row) for row in found if _gives_away(row)],
        "shortcuts": to_json(found),
    }
    with tracking.tracked(config, this) as run:
        tracking.log_shortcuts(run, summary)
    return summary


def _gives_away(row: "Shortcut") -> bool:
    """True above chance, except for the class from the whole image, which is no shortcut."""
    return row.low > row.chance and (row.question, row.view) != ("class", "thumbnail")


def _sentence(row: "Shortcut") -> str:
    return (
        f"{row.question} from {row.view}: {row.measure} {row.value:.2f} "
        f"({row.low:.2f} to {row.high:.2f}; chance {row.chance:.2f})"
    )
