"""Labels as people write them: words for the classes, and several findings of one image.

>>> findings_of_cell("Infiltration|Pneumonia"), findings_of_cell("['No Finding']")
(['Infiltration', 'Pneumonia'], ['No Finding'])
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_CLASS_WORDS = {
    "normal": "normal nofinding nofindings healthy unremarkable unauffällig gesund",
    "pneumonia": "pneumonia pneumonie lungenentzündung bacterialpneumonia viralpneumonia pnemonia",
    "covid19": "covid19 covid covid19pneumonia covidpneumonia sarscov2 sarscov2pneumonia",
    "tuberculosis": "tuberculosis tuberkulose tuberculose tb tbc ptb pulmonarytuberculosis activetb",
}
"""Class -> words that mean it and nothing else, in lower case without spaces and signs."""

_OTHER_FINDINGS = """
    abnormal positive negative control sick other atelectasis cardiomegaly effusion pleuraleffusion
    infiltration infiltrate mass nodule pneumothorax consolidation edema emphysema fibrosis
    pleuralthickening hernia lungopacity opacity lunglesion enlargedcardiomediastinum pleuralother
    fracture supportdevices ards influenza sars mers virus bacteria viral bacterial
"""
"""Other words by which a column of labels is told; what they mean depends on the table."""


def _build_class_words() -> dict[str, str]:
    class_of = {}
    for name, words in _CLASS_WORDS.items():
        class_of.update(dict.fromkeys(words.split(), name))
    return class_of


_CLASS_OF_WORD = _build_class_words()
_FINDING_WORDS = {*_CLASS_OF_WORD, *_OTHER_FINDINGS.split()}


def class_of_word(text: str) -> str | None:
    """Return the class that a label means by itself; None if it is no known word for one.

    >>> class_of_word("No Finding"), class_of_word("COVID-19"), class_of_word("TB"), class_of_word("0")
    ('normal', 'covid19', 'tuberculosis', None)
    """
    return _CLASS_OF_WORD.get(_simplify(text))


def is_finding(text: str) -> bool:
    """Return whether a text is a known word for a finding, or for none.

    >>> is_finding("Pleural Effusion"), is_finding("No Finding"), is_finding("PA")
    (True, True, False)
    """
    return _simplify(text) in _FINDING_WORDS


def holds_finding(cell: str) -> bool:
    """Return whether one of the findings in a cell is a known word."""
    return any(map(is_finding, findings_of_cell(cell)))


def _simplify(text: str) -> str:
    return re.sub(r"[\s_\-./]+", "", unicodedata.normalize("NFC", text).casefold())


_LISTED = re.compile(r"\s*\[(.*)\]\s*", re.DOTALL)
NO_FINDING_AT_ALL = "none"
"""The label of a row in which no column of findings is 1 or -1."""

_UNCERTAIN = "?"
"""What a finding ends with that its table calls uncertain (-1 in CheXpert)."""


def findings_of_cell(cell: str) -> list[str]:
    """Return the findings in a cell: `A|B`, `A;B`, a list as Python or JSON writes it, or one alone.

    >>> findings_of_cell("['A', 'B']"), findings_of_cell("A; B"), findings_of_cell("COVID-19, ARDS")
    (['A', 'B'], ['A', 'B'], ['COVID-19, ARDS'])
    """
    listed = _LISTED.fullmatch(cell)
    parts = _items_of_list(listed[1]) if listed else re.split(r"[|;]", cell)
    findings = [part.strip() for part in parts]
    return [finding for finding in findings if finding]


def is_list(cell: str) -> bool:
    """Return whether a cell is a list as Python or JSON writes it."""
    return _LISTED.fullmatch(cell) is not None


def without_uncertainty(finding: str) -> str:
    """Return a finding without the mark that its table calls it uncertain.

    >>> without_uncertainty("Pneumonia?")
    'Pneumonia'
    """
    return finding.removesuffix(_UNCERTAIN)


def _items_of_list(inner: str) -> Sequence[str]:
    """The items between the brackets of a list, quoted or not."""
    quoted = re.findall(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(?:,|$)""", inner)
    if quoted:
        return [single or double for single, double in quoted]
    return inner.split(",")


_TRUE = frozenset(["1", "1.0", "True", "true"])
_UNCERTAIN_VALUES = frozenset(["-1", "-1.0"])


def join_findings(table: "pd.DataFrame") -> "pd.Series":
    """Return one cell of labels per row of a table with one column of 1, 0, -1 or nothing per finding.

    A finding with -1 is uncertain and ends with "?". A row without any finding is called "none".

    >>> import pandas as pd
    >>> join_findings(pd.DataFrame({"Edema": ["1", "0"], "Pneumonia": ["-1.0", ""]})).tolist()
    ['["Edema", "Pneumonia?"]', '["none"]']
    """
    import pandas as pd

    cells = []
    for values in table.itertuples(index=False, name=None):
        findings = []
        for name, value in zip(table.columns, values, strict=True):
            if value in _TRUE:
                findings.append(name)
            elif value in _UNCERTAIN_VALUES:
                findings.append(name + _UNCERTAIN)
        cells.append(json.dumps(findings or [NO_FINDING_AT_ALL], ensure_ascii=False))
    return pd.Series(cells, table.index, dtype=object)
