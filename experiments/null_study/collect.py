"""The figures of the three studies in one table, results.csv beside this file."""

import sys
from pathlib import Path

import pandas as pd

ARCHIVES = ("others", "noise", "copies")
MEASURES = ("FD(classifier)", "FD(embedded)", "memorised share", "AuthPct", "C_T")


def rows(folder: Path, name: str) -> pd.DataFrame:
    """Macro-F1 of every arm, and what was measured of all classes of the archive."""
    arms = pd.read_csv(folder / "results.csv", keep_default_na=False)
    arms = arms[(arms["metric"] == "macro_f1") & (arms["seed"] == "") & (arms["test_set"] == "")]
    chosen = ["generator", "share", "control", "real_fraction", "metric", "value", "low", "high"]
    measured = pd.read_csv(folder / "measures.csv", keep_default_na=False)
    measured = measured[measured["metric"].isin(MEASURES) & (measured["label"] == "")]
    columns = ["encoder", "metric", "value", "low", "high", "n", "floor"]
    tables = [arms[[*chosen, "difference", "difference_low", "difference_high"]], measured[columns]]
    return pd.concat(tables).assign(archive=name)


if __name__ == "__main__":
    (studies,) = map(Path, sys.argv[1:])
    table = pd.concat([rows(studies / f"null_{name}", name) for name in ARCHIVES])
    numbers = ["low", "high", "difference", "difference_low", "difference_high", "floor"]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    table.round(5).to_csv(Path(__file__).parent / "results.csv", index=False)
