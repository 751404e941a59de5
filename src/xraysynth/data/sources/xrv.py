"""The collections that torchxrayvision can read."""

import contextlib
import difflib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from xraysynth.data.sources.base import LoadedImage, file_stamp, resolve_path
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, format_some
from xraysynth.seeds import short_digest

NO_FINDING = "No Finding"


@dataclass(frozen=True, kw_only=True)
class XrvSource:
    """A torchxrayvision data set by class name, such as `NIH_Dataset`, with its `options`.

    An image's label is the one pathology of `labels` that it has; images with none or several of
    them are dropped. `No Finding` means that every pathology is known and absent, unless the data
    set has a pathology of that name. An image whose pathologies matter only because they exclude
    it is named with null. `csvpath` is for data sets whose table does not ship with the package.
    """

    name: str
    dataset: str
    imgpath: str
    csvpath: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str | None] = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.dataset.startswith("MIMIC"):  # PhysioNet's agreement says so, whatever the config
            object.__setattr__(self, "credentialed", True)

    def rows(self) -> pd.DataFrame:
        """One row a kept image; the stamp follows its record and the image folder's mtime."""
        resolve_path(self, "imgpath")
        if self.csvpath:
            resolve_path(self, "csvpath")
        dataset = self._open_dataset()
        label = pd.Series(self._select_labels(dataset.pathologies, dataset.labels))
        records = dataset.csv.reset_index(drop=True).loc[(label != "").to_numpy()]
        index = [f"{i:06d}" for i in records.index]
        changed = Path(self.imgpath).expanduser().stat().st_mtime_ns
        return pd.DataFrame(
            {
                "locator": index,
                "stamp": [
                    f"{changed}:{short_digest(row)}"
                    for row in records.astype(str).to_numpy().tolist()
                ],
                "image_id": [f"{self.name}-{i}" for i in index],
                "label": label[label != ""].tolist(),
                "patient_id": _text_column(records, "patientid"),
                "view": _text_column(records, "view"),
                "source": self.name,
                "license": self.license,
            }
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """One image at its own size; torchxrayvision's [-1024, 1024] becomes 0 to 255."""
        dataset = self._open_dataset()
        try:
            with _preserve_numpy_state():
                image = np.asarray(dataset[int(locator)]["img"])[0]
        except Exception as error:  # image readers each raise their own
            raise ImageError(
                f"source {self.name}: image {int(locator)} of {self.dataset} in {self.imgpath} "
                f"cannot be read ({error}); download it again, or remove its row from the table"
            ) from error
        return LoadedImage(np.rint((image + 1024.0) / 2048.0 * 255.0).clip(0, 255).astype(np.uint8))

    def _open_dataset(self) -> Any:
        paths = {"imgpath": str(Path(self.imgpath).expanduser())}
        if self.csvpath:
            paths["csvpath"] = str(Path(self.csvpath).expanduser())
        version = file_stamp(Path(paths["csvpath"])) if self.csvpath else ""
        try:
            return _open_cached(
                self.dataset, json.dumps({**self.options, **paths}, default=list), version
            )
        except ConfigError:
            raise
        except Exception as error:  # the package raises bare Exceptions and pandas' own
            raise DataNotFoundError(
                f"source {self.name}: torchxrayvision's {self.dataset} cannot be opened with "
                f"{paths} and options {dict(self.options)} ({error}). {self.how_to_get} "
                f"{self.homepage}"
            ) from error

    def _select_labels(self, pathologies: list[str], findings: np.ndarray) -> list[str]:
        """Label per image, "" for those to drop; `present` `(N, P)` is 1, 0 or NaN for unknown."""
        columns = dict(zip(pathologies, (findings == 1).T, strict=True))
        columns.setdefault(NO_FINDING, (findings == 0).all(axis=1))
        unknown = [label for label in self.labels if label not in columns]
        if unknown or not self.labels:
            near = difflib.get_close_matches(format_some(unknown), columns, n=3) or sorted(columns)
            raise ConfigError(
                f"source.{self.name}.labels names {format_some(unknown) or 'no pathology'}; "
                f"{self.dataset} has {format_some(near, 20)}; map them to classes, for example "
                f"'source.{self.name}.labels={{{near[0]}: pneumonia}}'"
            )
        mapped = np.column_stack([columns[label] for label in self.labels])
        chosen = np.array(list(self.labels), dtype=object)[mapped.argmax(axis=1)]
        return [str(label) for label in np.where(mapped.sum(axis=1) == 1, chosen, "")]


def _text_column(records: pd.DataFrame, column: str) -> list[str]:
    return (
        records[column].fillna("").astype(str).tolist()
        if column in records
        else [""] * len(records)
    )


@functools.lru_cache(maxsize=2)
def _open_cached(name: str, arguments: str, version: str) -> Any:
    """The data set at this version of its table, kept: opening parses up to 200,000 rows."""
    from torchxrayvision import datasets

    known = [key for key in vars(datasets) if key.endswith("_Dataset")]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise ConfigError(
            f"torchxrayvision has no data set {name!r}; nearest: {format_some(near, 20)}"
        )
    with _preserve_numpy_state():
        return getattr(datasets, name)(**json.loads(arguments))


@contextlib.contextmanager
def _preserve_numpy_state() -> Iterator[None]:
    """torchxrayvision seeds and draws from NumPy's global generator; put back what it was."""
    state = np.random.get_state()  # noqa: NPY002 - the global state is the point
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
