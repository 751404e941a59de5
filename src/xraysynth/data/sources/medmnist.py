"""The greyscale chest sets of MedMNIST, from their .npz files."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from xraysynth.data.sources.base import LoadedImage, file_stamp
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.records import SPLITS


@dataclass(frozen=True, kw_only=True)
class MedMnistSource:
    """One MedMNIST set in its official splits; labels are the class numbers as text.

    MedMNIST publishes no patients, so each image counts as a patient of its own, `<split>-<index>`,
    and one person's images may be in more than one split. `size_px` is the file's: 28, 64, 128 or
    224. With `download` a missing file is fetched into `root` by the medmnist package.
    """

    name: str
    root: str
    flag: str
    size_px: int = 28
    download: bool = False
    labels: dict[str, str | None] = field(default_factory=dict)
    license: str = ""
    homepage: str = "https://medmnist.com"
    how_to_get: str = ""
    credentialed: ClassVar[bool] = False
    is_simulated: ClassVar[bool] = False

    def rows(self) -> pd.DataFrame:
        """One row an image, split by split."""
        file = self._file_path()
        if self.download and not file.exists():
            self._download()
        if not file.exists():
            raise DataNotFoundError(
                f"source {self.name}: nothing at {file.absolute()}; set source.{self.name}.root to "
                f"its folder or source.{self.name}.download=true. {self.how_to_get} {self.homepage}"
            )
        version = file_stamp(file)
        parts = [
            self._split_rows(split, _load_array(str(file), version, f"{split}_labels"))
            for split in SPLITS
        ]
        return pd.concat(parts, ignore_index=True).assign(
            stamp=version, source=self.name, license=self.license
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """One image at the file's own size."""
        split, _, index = locator.partition("-")
        file = self._file_path()
        stack = _load_array(str(file), file_stamp(file), f"{split}_images")
        if stack.ndim != 3 or stack.dtype != np.uint8:
            raise ImageError(
                f"source {self.name}: {file} holds {stack.dtype} images of shape "
                f"{stack.shape[1:]}, but a radiograph is (H, W) uint8; choose a greyscale 2D set"
            )
        return LoadedImage(stack[int(index)])

    def _file_path(self) -> Path:
        size = "" if self.size_px == 28 else f"_{self.size_px}"
        return Path(self.root).expanduser() / f"{self.flag}{size}.npz"

    def _split_rows(self, split: str, labels: np.ndarray) -> pd.DataFrame:
        if labels.ndim != 2 or labels.shape[1] != 1:
            raise ManifestError(
                f"source {self.name}: {self.flag} gives {labels.shape[-1]} labels an image, but "
                "one class is needed; read the original collection with source=xrv"
            )
        ids = [f"{split}-{index:05d}" for index in range(len(labels))]
        table = pd.DataFrame({"locator": ids, "patient_id": ids, "split": split})
        image_ids = [f"{self.name}-{image}" for image in ids]
        return table.assign(image_id=image_ids, label=labels[:, 0].astype(str))

    def _download(self) -> None:
        import medmnist

        self._file_path().parent.mkdir(parents=True, exist_ok=True)
        dataset = getattr(medmnist, medmnist.INFO[self.flag]["python_class"])
        dataset(split="train", root=str(self._file_path().parent), size=self.size_px, download=True)


@functools.lru_cache(maxsize=4)
def _load_array(file: str, version: str, key: str) -> np.ndarray:
    """One array of this version of the file, kept: every image is a row of the same one."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays[key])
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise ManifestError(
            f"{file}: not a MedMNIST file with the array {key} ({error}); download it again"
        ) from error
