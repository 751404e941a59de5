"""The source of MedMNIST's greyscale chest sets, from their .npz files."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from xraysynth.data.fetching.collections import Collection, fetch_file
from xraysynth.data.fetching.recipe import RemoteFile
from xraysynth.data.sources._inflation import require_plausible_arrays
from xraysynth.data.sources.base import LoadedImage, file_stamp
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.options import FolderName, Labels, PathText, expand_path
from xraysynth.records import SPLITS


@dataclass(frozen=True, kw_only=True)
class MedMnistSource:
    """One MedMNIST set in its official splits; labels are the class numbers as text.

    MedMNIST publishes no patients, so each image counts as a patient of its own, `<split>-<index>`,
    and the images of one person may lie in more than one split. `flag` is MedMNIST's name of the set,
    such as `pneumoniamnist`; `size_px` is the size of its images: 28, 64, 128 or 224. With `download`
    a missing file is downloaded into `root`.
    """

    name: FolderName
    root: PathText
    flag: str
    size_px: int = 28
    download: bool = False
    labels: Labels = field(default_factory=dict)
    license: str = ""
    homepage: str = "https://medmnist.com"
    how_to_get: str = ""
    credentialed: ClassVar[bool] = False
    is_simulated: ClassVar[bool] = False

    def rows(self) -> pd.DataFrame:
        """List the images, one row per image, split by split.

        Raises:
            DataNotFoundError: The file is missing and `download` is false.
            ManifestError: The file is damaged, or its images have several labels.
        """
        file = self._file_path()
        if self.download and not file.exists():
            self._download()
        if not file.exists():
            raise DataNotFoundError(
                f"source {self.name}: there is nothing at {file.absolute()}; set source.{self.name}.root to "
                f"its folder or source.{self.name}.download=true. {self.how_to_get} {self.homepage}"
            )
        version = file_stamp(file)
        tables = []
        for split in SPLITS:
            labels = _load_array(str(file), version, f"{split}_labels")
            tables.append(self._split_rows(split, labels))
        return pd.concat(tables, ignore_index=True).assign(
            stamp=version, source=self.name, license=self.license
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at the size of the file (`MedMnistSource.size_px`)."""
        split, _, index = locator.partition("-")
        file = self._file_path()
        images = _load_array(str(file), file_stamp(file), f"{split}_images")
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ImageError(
                f"source {self.name}: {file} holds {images.dtype} images of shape "
                f"{images.shape[1:]}, but a radiograph is (H, W) uint8; choose a greyscale 2D set"
            )
        return LoadedImage(images[int(index)])

    def _file_path(self) -> Path:
        size = "" if self.size_px == 28 else f"_{self.size_px}"
        return expand_path(self.root) / f"{self.flag}{size}.npz"

    def _split_rows(self, split: str, labels: np.ndarray) -> pd.DataFrame:
        if labels.ndim != 2 or labels.shape[1] != 1:
            raise ManifestError(
                f"source {self.name}: {self.flag} has {labels.shape[-1]} labels per image, but one "
                "class per image is needed; read the original collection with source=xrv"
            )
        ids = [f"{split}-{index:05d}" for index in range(len(labels))]
        table = pd.DataFrame({"locator": ids, "patient_id": ids, "split": split})
        return table.assign(
            image_id=f"{self.name}-" + table["locator"], label=labels[:, 0].astype(str)
        )

    def _download(self) -> None:
        """Download the file; the package medmnist knows its address and MD5."""
        try:
            from medmnist import INFO
        except ImportError as error:
            raise DataNotFoundError(
                f"source.{self.name}.download=true needs the package medmnist ({error}); install it with: "
                "pip install 'xraysynth[medmnist]'"
            ) from error
        file = self._file_path()
        size = file.stem.removeprefix(self.flag)
        info = INFO.get(self.flag, {})
        if f"url{size}" not in info:
            raise DataNotFoundError(
                f"source {self.name}: MedMNIST has no set {file.stem}; correct source.{self.name}.flag or "
                f"source.{self.name}.size_px"
            )
        remote = RemoteFile(
            name=file.name, urls=[info[f"url{size}"]], checksum=f"md5:{info[f'MD5{size}']}"
        )
        collection = Collection(name=self.name, license=self.license, homepage=self.homepage)
        fetch_file(collection, remote, file.parent)


@functools.lru_cache(maxsize=4)
def _load_array(file: str, version: str, key: str) -> np.ndarray:
    """Load an array of a version of the file once: every image is a row of the same array."""
    try:
        require_plausible_arrays(Path(file))
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays[key])
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise ManifestError(
            f"{file}: this is not a MedMNIST file with the array {key} ({error}); download it again"
        ) from error
