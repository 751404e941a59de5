"""How patients can be told from file names: patterns are tried and judged by what they find."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

PATTERNS = {
    r"person\d+": "“person” and a number",
    r"(?i:patient|subject|subj|pat|pid|case)[-_ ]?\d+": "“patient”, “subject”, “case” … and a number",
    r"(?:CHNCXR|MCUCXR)_\d+": "the NLM sets' number",
    r"person\d+|IM-\d+|\d+(?=-\d+\.)": "Kermany's person and image numbers",
    r"\b\d+(?=_\d+\.\w+$)": "the number in front of “_” and an image's number",
    r"\b[A-Za-z]*\d{2,}(?=[_-][^/]*$)": "letters and a number in front of “_” or “-”",
}
"""Pattern that is searched in relative paths -> what it is, in words; tried in this order."""

MAX_IMAGES_PER_PATIENT = 30
"""A pattern that finds fewer patients than this many images each found something else, such as years."""

MAX_SPANNING = 0.2
"""A pattern is doubted if a larger fraction of its patients has images of several classes."""


@dataclass(frozen=True)
class PatientPattern:
    """A pattern of patients in relative paths, and what it finds.

    Attributes:
        pattern: Regular expression for the option `patient` of a folder source.
        reason: Why it was chosen, in words.
        patients: Number of different patients.
        spanning: Number of patients with images of several classes.
    """

    pattern: str
    reason: str
    patients: int
    spanning: int


def find_patient_pattern(files: Sequence[str], labels: Sequence[str]) -> PatientPattern | None:
    """Find the first pattern that names a patient in every path and is plausible; None if none is.

    A pattern is plausible if it finds several patients and few of them have images of several classes.
    A number that merely counts the images, such as img_0001.png, names no patient.

    Args:
        files: Relative paths of the images.
        labels: Their labels.
    """
    for pattern, description in PATTERNS.items():
        found = _judge(pattern, description, files, labels)
        if found is not None:
            return found
    return None


def _judge(
    pattern: str, description: str, files: Sequence[str], labels: Sequence[str]
) -> PatientPattern | None:
    """The pattern with its counts; None if it misses a path or is not plausible."""
    compiled = re.compile(pattern)
    patients = []
    for file in files:
        match = compiled.search(file)
        if match is None:
            return None
        patients.append(match.groupdict().get("patient") or match[0])
    classes_per_patient = pd.Series(list(labels)).groupby(patients).nunique()
    n_patients, spanning = len(classes_per_patient), int((classes_per_patient > 1).sum())
    has_enough = n_patients > max(1, len(files) / MAX_IMAGES_PER_PATIENT)
    if not has_enough or spanning > MAX_SPANNING * n_patients:
        return None
    reason = f"{description}: {n_patients:,} patients in {len(files):,} file names"
    return PatientPattern(pattern, reason, n_patients, spanning)
