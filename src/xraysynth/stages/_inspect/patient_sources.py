"""How patients are told, in words."""

from typing import Any

from xraysynth.data.inspection.rehearsal import Rehearsal, count_patients
from xraysynth.stages._inspect.gathering import Gathered


def describe_patients(gathered: Gathered, rehearsal: Rehearsal) -> str:
    """Write how patients are told, and how many there are."""
    used = gathered.used_rows()
    has_patient = used["patient_id"] != ""
    known, total = int(has_patient.sum()), len(used)
    if not known:
        return "cannot be told: near-duplicates count as one patient, other images as one each"
    ways = ", ".join(dict.fromkeys(_way(source) for source in gathered.sources))
    text = f"{count_patients(used.assign(source=used['source'].astype(str))):,}, by {ways}"
    if known < total:
        text += f"; {total - known:,} {'image has' if total - known == 1 else 'images have'} none"
    if "person" in rehearsal.table and known == total:
        persons = rehearsal.table["person"].nunique()
        patients = count_patients(rehearsal.table)
        if persons < patients:
            text += f"; {patients - persons:,} of them share near-duplicates with others and count as one"
    return text


def _way(source: Any) -> str:
    """Where a source finds the patient."""
    if hasattr(source, "flag"):
        return "nothing but the image (none are published)"
    if hasattr(source, "photometric"):
        return "the DICOM tag PatientID"
    if hasattr(source, "columns"):
        return f"the column {source.columns.get('patient_id', 'patient_id')}"
    if getattr(source, "patient", ""):
        return f"the file names ({source.patient})"
    return "the source"
