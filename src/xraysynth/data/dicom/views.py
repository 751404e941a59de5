"""The view of a radiograph, from whichever element of its header tells it."""

import re

from xraysynth.data.dicom.headers import VALUE_SEPARATOR, Header

FRONTAL_VIEWS = ("PA", "AP", "frontal")
"""Views of a frontal radiograph: the X-rays enter from behind, from the front, or it is not said."""

_WORDS_OF_VIEW = {
    "PA": r"PA|POSTERO ?ANTERIOR|POSTEROANT\w*|DORSOVENTRAL\w*|272479007|R-10214",
    "AP": r"AP|ANTERO ?POSTERIOR|ANTEROPOST\w*|VENTRODORSAL\w*|399348003|R-10206",
    "frontal": r"FRONTAL\w*|FRONT|FACE|FACING|399033003",
    "lateral view": (
        r"LAT|LATS|LL|LLAT|RLAT|LATERAL\w*|LATERO ?LATERAL\w*|SEITL\w*|PROFIL\w*|PERFIL|SAGITTAL|"
        r"399067008|399173006|399198007|30730003|R-10228|R-10232|R-10236"
    ),
    "oblique view": r"OBL|OBLIQ\w*|SCHRÄG\w*|LAO|RAO|LPO|RPO|399182000|R-10220",
    "decubitus view": r"\w*DECUB\w*|LLD|RLD",
}
OTHER_VIEWS = ("lateral view", "oblique view", "decubitus view")
"""Views that are left out, and why they are."""

_POSITION_CODES = {"RL": "lateral view", "LLO": "oblique view", "RLO": "oblique view"}
_PATTERN_OF_VIEW = {
    view: re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    for view, words in _WORDS_OF_VIEW.items()
}


def resolve_view(header: Header) -> str:
    """Return the view that a header tells: one of `FRONTAL_VIEWS`, a reason to leave it out, or "".

    The first that tells one view of these: ViewPosition, ViewCodeSequence, the descriptions of series,
    protocol and processing, PatientOrientation. One that names several, as "PA and lateral" does of a
    whole study, tells nothing.

    >>> resolve_view(Header(view_position="PA")), resolve_view(Header(series_description="Thorax seitl."))
    ('PA', 'lateral view')
    """
    position = header.view_position.upper()
    if position in _POSITION_CODES:
        return _POSITION_CODES[position]
    texts = (
        header.view_position,
        header.view_codes,
        header.series_description,
        header.protocol_name,
        header.processing_description,
    )
    for text in texts:
        view = parse_view(text)
        if view:
            return view
    return _view_of_orientation(header.patient_orientation)


def frontal_view(header: Header) -> str:
    """Return the frontal view that a header tells (`resolve_view`); "" if it tells another one or none."""
    view = resolve_view(header)
    return view if view in FRONTAL_VIEWS else ""


def parse_view(text: str) -> str:
    """Return the one view that a text names (`resolve_view`); "" if it names none or several.

    >>> parse_view("W033 Chest p.a."), parse_view("AP lateral decubitus"), parse_view("Chest PA/LAT")
    ('PA', 'decubitus view', '')
    """
    plain = re.sub(r"[_\-,;:/\\]", " ", text.replace(".", ""))
    views = [view for view, pattern in _PATTERN_OF_VIEW.items() if pattern.search(plain)]
    for special in ("decubitus view", "oblique view"):  # these name the side they lie on as well
        if special in views:
            return special
    return views[0] if len(views) == 1 else ""


def _view_of_orientation(orientation: str) -> str:
    """The view that the direction of the rows tells: towards a side of the patient, front or back."""
    rows = orientation.split(VALUE_SEPARATOR)[0].upper()
    if rows[:1] in ("A", "P"):
        return "lateral view"
    return "frontal" if rows[:1] in ("L", "R") else ""
