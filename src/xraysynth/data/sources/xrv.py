"""The source of collections that torchxrayvision can read."""

import contextlib
import difflib
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from xraysynth import images
from xraysynth.data.sources.base import LoadedImage, file_stamp, resolve_path
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, format_some
from xraysynth.options import FolderName, Labels, PathText, expand_path
from xraysynth.quoting import quote_override
from xraysynth.seeds import short_digest

NO_FINDING = "No Finding"
"""Label of images of which every pathology is known to be absent."""


@dataclass(frozen=True, kw_only=True)
class XrvSource:
    """A torchxrayvision data set, by the name of its class such as `NIH_Dataset`, with its `options`.

    The label of an image is the one pathology in `labels` that it has; images with none or several of
    them are dropped. `No Finding` means that every pathology is known to be absent, unless the data set
    has a pathology of that name. A pathology that only excludes images is mapped to null. `imgpath` is
    the folder of the images, `csvpath` the table of a data set that comes without one.
    """

    name: FolderName
    dataset: str
    imgpath: PathText
    csvpath: PathText = ""
    options: dict[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # PhysioNet's agreement holds for MIMIC, whatever the options say.
        if self.dataset.startswith("MIMIC"):
            object.__setattr__(self, "credentialed", True)

    def rows(self) -> pd.DataFrame:
        """List the images that have a label, one row per image.

        The stamp changes with the image's record in the table and the mtime of the image folder.

        Raises:
            DataNotFoundError: A path is missing, or the data set cannot be opened.
            ConfigError: There is no such data set, or a pathology in `labels` that it does not have.
        """
        resolve_path(self, "imgpath")
        if self.csvpath:
            resolve_path(self, "csvpath")
        dataset = self._open_dataset()
        labels = pd.Series(self._select_labels(dataset.pathologies, dataset.labels))
        has_label = (labels != "").to_numpy()
        records = dataset.csv.reset_index(drop=True).loc[has_label]
        mtime = expand_path(self.imgpath).stat().st_mtime_ns
        record_digests = map(short_digest, records.astype(str).to_numpy().tolist())
        locators = list(map("{:06d}".format, records.index))
        return pd.DataFrame(
            {
                "locator": locators,
                "stamp": [f"{mtime}:{record_digest}" for record_digest in record_digests],
                "image_id": [f"{self.name}-{locator}" for locator in locators],
                "label": labels[has_label].tolist(),
                "patient_id": _text_column(records, "patientid"),
                "view": _text_column(records, "view"),
                "source": self.name,
                "license": self.license,
            }
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size; torchxrayvision's range [-1024, 1024] becomes 0 to 255."""
        dataset = self._open_dataset()
        try:
            with _preserve_numpy_state():
                image = np.asarray(dataset[int(locator)]["img"])[0]
        except Exception as error:  # every image reader raises errors of its own
            raise ImageError(
                f"source {self.name}: image {int(locator)} of {self.dataset} in {self.imgpath} "
                f"cannot be read ({images.describe_error(error)}); download it again, "
                "or remove its row from the table"
            ) from error
        return LoadedImage(np.rint((image + 1024.0) / 2048.0 * 255.0).clip(0, 255).astype(np.uint8))

    def _open_dataset(self) -> Any:
        paths, version = {"imgpath": str(expand_path(self.imgpath))}, ""
        if self.csvpath:
            csv_path = expand_path(self.csvpath)
            paths["csvpath"], version = str(csv_path), file_stamp(csv_path)
        arguments = json.dumps({**self.options, **paths}, default=list)
        try:
            return _open_cached(self.dataset, arguments, version)
        except ConfigError:
            raise
        except Exception as error:  # the package raises bare Exceptions and pandas' own
            raise DataNotFoundError(
                f"source {self.name}: torchxrayvision's {self.dataset} cannot be opened with "
                f"{paths} and options {dict(self.options)} ({error}). {self.how_to_get} "
                f"{self.homepage}"
            ) from error

    def _select_labels(self, pathologies: list[str], findings: np.ndarray) -> list[str]:
        """The label of each image, "" to drop it; `findings` `(N, P)` are 1, 0 or NaN if unknown."""
        is_present = dict(zip(pathologies, (findings == 1).T, strict=True))
        is_present.setdefault(NO_FINDING, (findings == 0).all(axis=1))
        unknown = [label for label in self.labels if label not in is_present]
        if unknown or not self.labels:
            similar = difflib.get_close_matches(format_some(unknown), is_present, n=3)
            similar = similar or sorted(is_present)
            raise ConfigError(
                f"source.{self.name}.labels names {format_some(unknown) or 'no pathology'}; "
                f"{self.dataset} has {format_some(similar, 20)}; map them to classes, for example "
                f"{quote_override(f'source.{self.name}.labels', {similar[0]: 'pneumonia'})}"
            )
        selected = pd.DataFrame({label: is_present[label] for label in self.labels})
        has_one_label = selected.sum(axis=1) == 1
        labels: list[str] = selected.idxmax(axis=1).where(has_one_label, "").tolist()
        return labels


def _text_column(records: pd.DataFrame, column: str) -> list[str]:
    if column not in records:
        return [""] * len(records)
    texts: list[str] = records[column].fillna("").astype(str).tolist()
    return texts


@functools.lru_cache(maxsize=2)
def _open_cached(name: str, arguments: str, version: str) -> Any:
    """Open a data set at a version of its table once: opening parses up to 200,000 rows."""
    from torchxrayvision import datasets

    names = [key for key in vars(datasets) if key.endswith("_Dataset")]
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=3) or names
        raise ConfigError(
            f"torchxrayvision has no data set {name!r}; the nearest are {format_some(similar, 20)}"
        )
    _check_images_of(datasets)
    with _preserve_numpy_state():
        return getattr(datasets, name)(**json.loads(arguments))


@functools.cache
def _check_images_of(datasets: Any) -> None:
    """Check images before torchxrayvision's readers see them, as these take any format and size."""
    datasets.imread = _with_checks(datasets.imread)
    datasets.imageio = SimpleNamespace(imread=_with_checks(datasets.imageio.imread))


def _with_checks(read: Callable[..., Any]) -> Callable[..., Any]:
    def read_checked(file: str | bytes) -> Any:
        name = "the image in the archive" if isinstance(file, bytes) else str(file)
        data = file if isinstance(file, bytes) else images.read_file(Path(file))
        with images.name_decoder_errors(name):
            images.open_image(data, name)
            return read(file)

    return read_checked


@contextlib.contextmanager
def _preserve_numpy_state() -> Iterator[None]:
    """Restore the state of NumPy's global generator, which torchxrayvision seeds and draws from."""
    state = np.random.get_state()  # noqa: NPY002 - the global state is the point
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
