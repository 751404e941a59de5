"""Generated DICOM images with any header, and what should become of each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dicom_reference import Described, Table
from dicom_writer import new_dataset, toy_chest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

SIDE = 40
REFUSED = "refused"
EITHER = "either"


@dataclass
class Case:
    """A generated file: what it shows, and whether it must be shown, refused, or either of the two."""

    image: Described
    outcome: str = "shown"
    oddity: str = ""


def write_case(rng: np.random.Generator, path: Path) -> Case:
    """Write a file of random form, and return what is known of it."""
    bits = int(rng.integers(8, 17))
    allocated = 8 if bits == 8 and rng.random() < 0.7 else 16
    image = Described(np.zeros(0), bits, bool(rng.random() < 0.3), is_8bit=allocated == 8)
    image.photometric = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    image.stored = _picture(rng, image)
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
    dataset = new_dataset(syntaxes[rng.integers(3)])
    _set_pixels(rng, dataset, image, allocated)
    for add in (_add_modality, _add_voi, _add_masks, _add_polarity):
        add(rng, dataset, image)
    case = Case(image)
    if rng.random() < 0.35:
        _add_oddity(rng, dataset, case)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return case


def _picture(rng, image):
    """A toy chest somewhere in the range of the bits, sometimes with letters at an end of it."""
    low, high = 0, 2**image.bits - 1
    if image.signed:
        low, high = -(2 ** (image.bits - 1)), 2 ** (image.bits - 1) - 1
    share = toy_chest(int(rng.integers(1000)), SIDE).astype(float) / 4095
    start, stop = np.sort(rng.uniform(low, high, 2))
    stored = np.rint(start + share * (stop - start))
    if rng.random() < 0.3:
        side = int(rng.integers(2, 9))
        stored[1 : 1 + side, 1 : 1 + side] = rng.choice([low, high])
    return stored.astype(np.int64)


def _set_pixels(rng, dataset, image, allocated):
    """Write the values with the bits, now and then left in the word or with noise in the unused bits."""
    shift = allocated - image.bits if rng.random() < 0.15 else 0
    words = (image.stored & (2**image.bits - 1)) << shift
    unused = allocated - image.bits
    if (
        unused and rng.random() < 0.3
    ):  # an overlay of old, in the bits that the picture does not use
        noise = rng.integers(0, 2**unused, image.stored.shape)
        words |= noise if shift else noise << image.bits
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, image.photometric
    dataset.BitsAllocated, dataset.BitsStored = allocated, image.bits
    dataset.HighBit, dataset.PixelRepresentation = shift + image.bits - 1, int(image.signed)
    dataset.PixelData = words.astype(f"{order}u{allocated // 8}").tobytes()
    dataset["PixelData"].VR = "OW" if allocated == 16 else "OB"


def _table(rng, dataset, first, n_entries):
    """A lookup table of a rising or falling curve, and its item."""
    bits = int(rng.integers(8, 17))
    curve = np.linspace(0, 1, n_entries) ** rng.uniform(0.5, 2)
    if rng.random() < 0.2:
        curve = curve[::-1]
    entries = np.rint(curve * (2**bits - 1)).astype(int)
    item = Dataset()
    vr = "SS" if first < 0 else "US"
    item.add_new("LUTDescriptor", vr, [n_entries if n_entries < 2**15 else 0, first, bits])
    if rng.random() < 0.5:
        item.add_new("LUTData", "US", entries.tolist())
    else:
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    return Table(first, entries.tolist(), bits), item


def _add_modality(rng, dataset, image):
    kind = rng.random()
    if kind < 0.35:
        slope = float(rng.choice([1.0, 2.0, 0.5, -1.0, 0.25]))
        intercept = float(rng.choice([0.0, -1024.0, 100.0, 0.5]))
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        image.rescale = (slope, intercept)
    elif kind < 0.5:
        low = max(int(image.stored.min()) - int(rng.integers(3)), -(2**15))
        first = low if image.signed else max(low, 0)
        n_entries = min(int(np.ptp(image.stored)) + int(rng.integers(1, 5)), 4000)
        image.modality_table, item = _table(rng, dataset, first, n_entries)
        dataset.ModalityLUTSequence = [item]


def _values_range(image):
    if image.modality_table:
        return 0.0, 2.0**image.modality_table.bits - 1
    slope, intercept = image.rescale or (1.0, 0.0)
    ends = sorted(
        float(value) * slope + intercept for value in (image.stored.min(), image.stored.max())
    )
    return ends[0], ends[1]


def _add_voi(rng, dataset, image):
    low, high = _values_range(image)
    kind = rng.random()
    if kind < 0.5:
        image.function = str(rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
        for _ in range(int(rng.integers(1, 4))):
            center = round(float(rng.uniform(low - 20, high + 20)), 2)
            width = round(float(rng.uniform(2, max(high - low, 4) * 1.5)), 2)
            image.windows.append((center, width))
        dataset.WindowCenter = [center for center, _ in image.windows]
        dataset.WindowWidth = [width for _, width in image.windows]
        if image.function != "LINEAR" or rng.random() < 0.3:
            dataset.VOILUTFunction = image.function
    elif kind < 0.6:
        dataset.WindowCenter, dataset.WindowWidth = None, None
    if rng.random() < 0.15 and -(2**15) <= low < 2**16:
        n_entries = min(int(high - low) + 1, 4000)
        image.voi_table, item = _table(rng, dataset, int(low), max(n_entries, 2))
        dataset.VOILUTSequence = [item]


def _add_masks(rng, dataset, image):
    if rng.random() < 0.25:
        value = int(rng.choice(image.stored.ravel()))
        image.padding = (value, value)
        vr = "SS" if image.signed else "US"
        dataset.add_new("PixelPaddingValue", vr, value)
        if rng.random() < 0.5:
            limit = min(value + int(rng.integers(0, 40)), 2**15 - 1 if image.signed else 2**16 - 1)
            image.padding = (value, max(limit, value))
            dataset.add_new("PixelPaddingRangeLimit", vr, max(limit, value))
    if rng.random() < 0.2:
        left, right, upper, lower = 3, SIDE - int(rng.integers(0, 8)), 2, SIDE - 4
        dataset.ShutterShape = "RECTANGULAR"
        dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = left, right
        dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = upper, lower
        image.shutters.append(("rectangle", left, right, upper, lower))
        if rng.random() < 0.5:
            dataset.ShutterShape = ["RECTANGULAR", "CIRCULAR"]
            dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = [20, 21], 17
            image.shutters.append(("circle", 20, 21, 17))


def _add_polarity(rng, dataset, image):
    if rng.random() < 0.3:
        image.shape = str(rng.choice(["IDENTITY", "INVERSE"]))
        dataset.PresentationLUTShape = image.shape
    if rng.random() < 0.3:
        image.sign = int(rng.choice([-1, 1]))
        dataset.PixelIntensityRelationshipSign = image.sign


def _set_raw(dataset, keyword, vr, value):
    """Set an element to bytes that need not fit its VR."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    is_little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    raw = RawDataElement(tag, vr, len(value), value, 0, False, is_little, True)
    dataset._dict[tag] = raw


def _drop_windows(dataset, image):
    image.windows, image.function = [], "LINEAR"
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
        dataset.pop(Tag(keyword), None)


def _add_oddity(rng, dataset, case):
    """Damage one element in a way whose outcome is known."""
    oddity = ODDITIES[rng.integers(len(ODDITIES))]
    case.oddity = oddity.__name__
    case.outcome = oddity(rng, dataset, case.image) or case.outcome


def missing_element(rng, dataset, image):
    keywords = (
        "Rows",
        "BitsAllocated",
        "PixelRepresentation",
        "PhotometricInterpretation",
        "PixelData",
    )
    del dataset[Tag(str(rng.choice(keywords)))]
    return REFUSED


def impossible_number(rng, dataset, image):
    numbers = {
        "Rows": 0,
        "Columns": 60_000,
        "BitsAllocated": 24,
        "BitsStored": 0,
        "SamplesPerPixel": 7,
    }
    keyword = str(rng.choice(list(numbers)))
    dataset[Tag(keyword)] = DataElement(Tag(keyword), "US", numbers[keyword])
    return REFUSED


def other_colours(rng, dataset, image):
    dataset.PhotometricInterpretation = str(rng.choice(["HSV", "CMYK", "ARGB", "GREY", "RGB"]))
    return REFUSED


def several_frames(rng, dataset, image):
    dataset.NumberOfFrames = int(rng.integers(2, 9))
    return REFUSED


def frames_in_words(rng, dataset, image):
    _set_raw(dataset, "NumberOfFrames", "IS", b"one")
    return REFUSED


def cut_pixels(rng, dataset, image):
    dataset["PixelData"].value = dataset.PixelData[: -2 * int(rng.integers(1, 300))]
    return REFUSED


def more_pixels(rng, dataset, image):
    dataset["PixelData"].value = dataset.PixelData + b"\0" * 2 * int(rng.integers(1, 20))
    return ""


def window_in_words(rng, dataset, image):
    _drop_windows(dataset, image)
    _set_raw(dataset, "WindowCenter", "DS", b"NORMAL")
    _set_raw(dataset, "WindowWidth", "DS", b"wide")
    return ""


def window_without_width(rng, dataset, image):
    _drop_windows(dataset, image)
    dataset.WindowCenter, dataset.WindowWidth = [100, 200], [0, -5]
    return ""


def window_as_sequence(rng, dataset, image):
    _drop_windows(dataset, image)
    dataset[Tag("WindowCenter")] = DataElement(Tag("WindowCenter"), "SQ", [Dataset()])
    return ""


def window_as_integers(rng, dataset, image):
    _drop_windows(dataset, image)
    low, high = _values_range(image)
    is_implicit = dataset.file_meta.TransferSyntaxUID.is_implicit_VR  # the VR would not be written
    if is_implicit or not 2 <= (low + high) / 2 < 2**15:
        return ""
    center, width = int((low + high) / 2), max(int(high - low) // 2, 2)
    dataset[Tag("WindowCenter")] = DataElement(Tag("WindowCenter"), "US", center)
    dataset[Tag("WindowWidth")] = DataElement(Tag("WindowWidth"), "US", width)
    image.windows, image.function = [(center, width)], "LINEAR"
    return ""


def window_far_away(rng, dataset, image):
    _drop_windows(dataset, image)
    _, high = _values_range(image)
    image.windows = [(high + 1000, 20.0)]
    dataset.WindowCenter, dataset.WindowWidth = image.windows[0]
    return ""


def other_function(rng, dataset, image):
    if image.windows and all(width >= 1 for _, width in image.windows):
        dataset.VOILUTFunction, image.function = "CUBIC", "LINEAR"
    return ""


def slope_in_words(rng, dataset, image):
    dataset.pop(Tag("ModalityLUTSequence"), None)
    dataset.RescaleIntercept = 0
    _set_raw(dataset, "RescaleSlope", "DS", b"steep")
    return REFUSED


def slope_alone(rng, dataset, image):
    dataset.pop(Tag("RescaleIntercept"), None)
    dataset.RescaleSlope, image.rescale = 3, None
    return ""


def slope_without_value(rng, dataset, image):
    dataset.RescaleSlope, dataset.RescaleIntercept = None, 5
    image.rescale = None
    return ""


def short_voi_table(rng, dataset, image):
    _, item = _table(rng, dataset, 0, 50)
    item.LUTDescriptor = [5000, 0, 16]
    dataset.VOILUTSequence = [item]
    image.voi_table = None
    return ""


def empty_voi_sequence(rng, dataset, image):
    dataset.VOILUTSequence = []
    image.voi_table = None
    return ""


def short_modality_table(rng, dataset, image):
    _, item = _table(rng, dataset, 0, 50)
    item.LUTDescriptor = [5000, 0, 16]
    dataset.ModalityLUTSequence = [item]
    return REFUSED


def padding_in_words(rng, dataset, image):
    dataset.pop(Tag("PixelPaddingRangeLimit"), None)
    _set_raw(dataset, "PixelPaddingValue", "LO", b"black")
    image.padding = None
    return ""


def padding_everywhere(rng, dataset, image):
    low, high = int(image.stored.min()), int(image.stored.max())
    vr = "SS" if image.signed else "US"
    dataset.add_new("PixelPaddingValue", vr, low)
    dataset.add_new("PixelPaddingRangeLimit", vr, high)
    return REFUSED


def senseless_shutter(rng, dataset, image):
    dataset.ShutterShape = "RECTANGULAR"
    for name in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal"):
        setattr(dataset, f"Shutter{name}Edge", 0)
    image.shutters = []
    return ""


def rows_in_words(rng, dataset, image):
    _set_raw(dataset, "Rows", "LO", b"40")
    return EITHER


def overlay_beside(rng, dataset, image):
    dataset.add_new(0x60000010, "US", SIDE)
    dataset.add_new(0x60000011, "US", SIDE)
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"\xff" * (SIDE * SIDE // 8))
    return ""


def constant_picture(rng, dataset, image):
    dataset["PixelData"].value = bytes(len(dataset.PixelData))
    image.stored = np.zeros_like(image.stored)
    return EITHER if image.is_8bit else REFUSED


ODDITIES = (
    missing_element,
    impossible_number,
    other_colours,
    several_frames,
    frames_in_words,
    cut_pixels,
    more_pixels,
    window_in_words,
    window_without_width,
    window_as_sequence,
    window_as_integers,
    window_far_away,
    other_function,
    slope_in_words,
    slope_alone,
    slope_without_value,
    short_voi_table,
    empty_voi_sequence,
    short_modality_table,
    padding_in_words,
    padding_everywhere,
    senseless_shutter,
    rows_in_words,
    overlay_beside,
    constant_picture,
)
