"""What the values of a column show of its role; a sample of them is looked at."""

from typing import TYPE_CHECKING

from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.reading.labels import holds_finding, is_finding
from xraysynth.data.reading.names import IMAGE_NAME, MISSING_WORDS
from xraysynth.data.reading.splits import split_of_word
from xraysynth.data.reading.views import view_of_word

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = 50
_MAX_LABELS = 300
"""The number of different cells of a column of labels; combinations of 14 findings make many."""

_FINDING_VALUES = frozenset(
    ["1", "0", "-1", "1.0", "0.0", "-1.0", "True", "False", "true", "false"]
)
_SEX_VALUES = frozenset(
    ["m", "f", "o", "u", "male", "female", "other", "unknown", "man", "woman", "w", "mann", "frau"]
)


def sample_texts(column: "pd.Series") -> list[str]:
    """Return some values of a column that are not empty, from all of its length."""
    filled = column[column != ""]
    step = max(1, len(filled) // _SAMPLE)
    texts: list[str] = filled.iloc[::step].tolist()
    return texts[:_SAMPLE]


def distinct_texts(column: "pd.Series", limit: int = _MAX_LABELS) -> list[str]:
    """Return the different values of a column that are not empty, in order, at most `limit`."""
    texts: list[str] = column[column != ""].drop_duplicates().head(limit).tolist()
    return texts


def holds_image_names(column: "pd.Series") -> bool:
    """Return whether most values end as the names of image files do."""
    sample = sample_texts(column)
    return bool(sample) and sum(map(_is_image_name, sample)) >= 0.8 * len(sample)


def _is_image_name(text: str) -> bool:
    return IMAGE_NAME.fullmatch(text) is not None


def holds_labels(column: "pd.Series") -> bool:
    """Return whether most values are, or hold, known words for findings."""
    filled = column[column != ""]
    if filled.empty:
        return False
    counts = filled.value_counts()
    if len(counts) > max(_MAX_LABELS, len(filled) // 20):
        return False
    is_known = counts.index.map(holds_finding).to_numpy(dtype=bool)
    return bool(counts[is_known].sum() >= 0.5 * len(filled))


def find_finding_columns(table: "pd.DataFrame") -> list[str]:
    """Return the columns that say of one finding each whether it is there (1, 0, -1 or nothing).

    There must be at least two, and a known finding among their names.
    """
    names = [name for name in table.columns if _holds_finding_values(name, table[name])]
    is_filled = any((table[name] != "").any() for name in names)
    return names if is_filled and any(map(is_finding, names)) and len(names) > 1 else []


def _holds_finding_values(name: str, column: "pd.Series") -> bool:
    """Whether a column may say where a finding is; an empty one if it is called as a finding."""
    texts = distinct_texts(column, limit=len(_FINDING_VALUES) + 1)
    return _FINDING_VALUES.issuperset(texts) if texts else is_finding(name)


def fits_role(role: str, column: "pd.Series") -> bool:
    """Return whether the values of a column may be what its name says."""
    texts = [text for text in distinct_texts(column) if text not in MISSING_WORDS]
    if not texts:
        return False
    if role == "split":
        return all(map(split_of_word, texts))
    if role == "patient_id":
        return True
    if role == "sex":
        return all(text.casefold() in _SEX_VALUES for text in texts)
    if role == "age":
        return sum(parse_age_years(text) is not None for text in texts) >= 0.5 * len(texts)
    return sum(map(bool, map(view_of_word, texts))) >= 0.5 * len(texts)
