"""The studies in one results.csv and one measures.csv beside this file, and their figures.

python experiments/low_data/collect.py outputs/studies

The train split of the second and third study is a third of the first's, with the same test images:
their `real_fraction` is that of the first study's real images.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))
import figure

WHOLE = "low_data"
OWN = {
    "low_data_own": "sd_lora_own",
    "low_data_own_80_steps": "sd_lora_own_80_steps",
}
"""Studies whose LoRA has seen no more than their classifiers: what it is called here."""


def results(studies: Path) -> pd.DataFrame:
    """Scores of every arm; real-only of the smaller train split once."""
    whole = figure.read(studies / WHOLE / "results.csv")
    found = [whole]
    for study, name in OWN.items():
        own = figure.read(studies / study / "results.csv")
        fraction = round(own["real_images"].max() / whole["real_images"].max(), 4)
        own["generator"] = own["generator"].where(own["generator"] == "", name)
        found.append(own.assign(real_fraction=fraction))
    columns = [*figure.ARM, "seed", "metric", "test_set"]
    return pd.concat(found).drop_duplicates(columns)


def measures(studies: Path) -> pd.DataFrame:
    """What was measured of every pool."""
    tables = [pd.read_csv(studies / WHOLE / "measures.csv")]
    for study, name in OWN.items():
        tables.append(pd.read_csv(studies / study / "measures.csv").assign(generator=name))
    return pd.concat(tables)


if __name__ == "__main__":
    (studies,) = map(Path, sys.argv[1:])
    here = Path(__file__).parent
    table = results(studies)
    table.to_csv(here / "results.csv", index=False)
    measures(studies).to_csv(here / "measures.csv", index=False)
    figure.save("differences", table, here)
    figure.save("learning", figure.read(studies / WHOLE / "results.csv"), here)
