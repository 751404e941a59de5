"""Images of simulated patients whom no cohort here has: what a perfect generator could give.

python experiments/generator_comparison/others.py outputs/generator_comparison/others
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from xraysynth.data.sources.simulated import Simulated

sys.path.insert(0, str(Path(__file__).parent.parent / "null_study"))
from archives import SIZE_PX, Image, write

PER_CLASS = 46
"""As many as take the place of every training image."""


def others() -> Iterator[Image]:
    """One image a patient, from the cohort's distribution."""
    rows = Simulated(patients_per_class=PER_CLASS, images_per_patient=1.0, seed=1)
    for row in rows.rows().itertuples():
        yield str(row.label), rows.load(str(row.locator), SIZE_PX).pixels


if __name__ == "__main__":
    (folder,) = map(Path, sys.argv[1:])
    write(folder, others())
    print(folder)
