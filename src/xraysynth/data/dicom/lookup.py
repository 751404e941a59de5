"""From stored to displayed values (PS3.3 C.11.1 and C.11.2): modality and VOI tables, and rescale."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.data.dicom.windows import apply_window, read_window

if TYPE_CHECKING:
    from pydicom import Dataset

INVALID_VOI_TABLE = "invalid VOI lookup table ignored"
SEVERAL_VOI_TABLES = "first of several VOI lookup tables used"

_MOST_ENTRIES = 2**16


def apply_modality(stored: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Apply the modality table, or else the rescale slope and intercept if both are there.

    Returns:
        The values, of the type of `stored` if there is neither.

    Raises:
        ValueError: The table or a number is damaged.
    """
    tables = read_items(dataset, "ModalityLUTSequence")
    if tables:
        return apply_lookup_table(stored, tables[0], dataset)
    rescale = read_rescale(dataset)
    if rescale is None:
        return stored
    slope, intercept = rescale
    values = stored.astype(np.float64) * slope
    values += intercept
    return values


def read_rescale(dataset: "Dataset") -> tuple[float, float] | None:
    """Return the rescale slope and intercept, None unless both are there.

    Raises:
        ValueError: One of them is no number.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return None
    return float(slope), float(intercept)


def read_items(dataset: "Dataset", keyword: str) -> Sequence["Dataset"]:
    """Return the items of a sequence, none if it is missing, empty or no sequence."""
    from pydicom.sequence import Sequence as Items

    items = dataset.get(keyword)
    return items if isinstance(items, Items) else ()


def apply_lookup_table(values: np.ndarray, item: "Dataset", dataset: "Dataset") -> np.ndarray:
    """Map values by a lookup table; those outside get its first or last entry.

    pydicom's own functions for this refuse tables of 9 or 12 bits, and values that are no integers.

    Args:
        values: Values of any number type; fractions are rounded.
        item: Item of a sequence with LUTDescriptor and LUTData.
        dataset: The data set of the image, for the order of bytes.

    Raises:
        ValueError: The table is damaged.
    """
    n_entries, first, n_bits = map(int, item.LUTDescriptor)
    table = _read_entries(item, n_entries or _MOST_ENTRIES, n_bits, _byte_order(dataset))
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # written as unsigned, as older files do
    positions = np.rint(values).astype(np.int64) - first
    return np.asarray(table[np.clip(positions, 0, len(table) - 1)])


def _byte_order(dataset: "Dataset") -> str:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return "<" if syntax is None or syntax.is_little_endian else ">"


def _read_entries(item: "Dataset", n_entries: int, n_bits: int, order: str) -> np.ndarray:
    """The entries of a table, which are bytes in one of two widths, or numbers."""
    data: Any = item.LUTData
    if not isinstance(data, bytes):
        entries = np.atleast_1d(np.asarray(data, np.int64))
    elif len(data) >= 2 * n_entries:
        entries = np.frombuffer(data[: 2 * n_entries], f"{order}u2")
    else:
        entries = np.frombuffer(data, np.uint8)
    if not 1 <= n_bits <= 16 or len(entries) < n_entries:
        raise ValueError(
            f"a lookup table of {n_entries} entries of {n_bits} bits has {len(entries)}"
        )
    entries = entries[:n_entries]
    if not 0 <= entries.min() <= entries.max() < 2**n_bits:
        raise ValueError(f"a lookup table of {n_bits} bits has the entry {entries.max()}")
    return entries.astype(np.uint16)


def apply_voi(values: np.ndarray, dataset: "Dataset") -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Apply the first VOI lookup table, or else the first window that can be used.

    Args:
        values: Values after the modality transformation (`apply_modality`).
        dataset: The data set of the image.

    Returns:
        The displayed values on a scale of their own, None if there is no table and no window, and notes
        on what was ignored.
    """
    notes = []
    tables = read_items(dataset, "VOILUTSequence")
    if tables:
        try:
            shown = apply_lookup_table(values, tables[0], dataset)
            return shown, (SEVERAL_VOI_TABLES,) if len(tables) > 1 else ()
        except Exception:  # a damaged table raises nearly any type
            notes.append(INVALID_VOI_TABLE)
    window, window_notes = read_window(dataset)
    notes.extend(window_notes)
    if window is None:
        return None, tuple(notes)
    return apply_window(values, window, read_output_range(dataset)), tuple(notes)


def read_output_range(dataset: "Dataset") -> tuple[float, float]:
    """Return the range of values after the modality transformation, which a window maps to."""
    tables = read_items(dataset, "ModalityLUTSequence")
    if tables:
        return 0.0, 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    n_bits = int(dataset.BitsStored)
    low, high = 0.0, 2.0**n_bits - 1
    if int(dataset.PixelRepresentation) == 1:
        low, high = -(2.0 ** (n_bits - 1)), 2.0 ** (n_bits - 1) - 1
    rescale = read_rescale(dataset)
    if rescale is not None:
        slope, intercept = rescale
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    return low, high
