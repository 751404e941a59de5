"""What each setting changes, averaged over the others: effects.csv beside the results.

python experiments/hyperparameters/main_effects.py experiments/hyperparameters

A full factorial of two levels a setting, read from the generators' names (rank4_steps80_guidance1):
an effect is the mean of the half at the higher level less that of the other. Its interval is
Student's t with the residual of the model without interactions, so that interactions and the luck of
each pool count as noise; that of the test patients, whom all share, is not in it, and that of a LoRA
which several pools share only in part. Several folders are read as one.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

MEASURES = {
    "label faithfulness": ("", "judge sees the class"),
    "trained on real, tested on these: macro_f1": ("", "real-only classifiers' macro-F1 on them"),
    "FD(classifier)": ("classifier", "FD(classifier)"),
    "FD(embedded)": ("embedded", "FD(embedded)"),
    "memorised share": ("classifier", "flagged as memorised"),
}
"""Metric in measures.csv to its encoder and its name here."""


def settings(generators: pd.Index) -> pd.DataFrame:
    """The settings in the generators' names, a column each: -1/2 at the lower level, else 1/2."""
    found = [dict(re.findall(r"([a-z]+)([\d.]+)", name)) for name in generators]
    table = pd.DataFrame(found, index=generators).astype(float)
    if (table.nunique() != 2).any() or len(table) != 2 ** table.shape[1]:
        raise SystemExit(
            f"not two levels of every setting, in all combinations: {list(generators)}"
        )
    return (table == table.max()) - 0.5


def responses(results: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1 of synthetic images alone (mean over seeds) and what was measured of every pool."""
    alone = results[(results["share"] == 1) & results["seed"].isna()]
    alone = alone[alone["metric"] == "macro_f1"]
    columns = {"macro-F1, synthetic only": alone.set_index("generator")["value"]}
    overall = measures[measures["label"].isna()]
    for metric, (encoder, name) in MEASURES.items():
        rows = overall[(overall["metric"] == metric) & (overall["encoder"].fillna("") == encoder)]
        columns[name] = rows.set_index("generator")["value"]
    return pd.DataFrame(columns)


def effects(response: pd.Series, levels: pd.DataFrame) -> pd.DataFrame:
    """One row a setting: value, low, high and the generators they come from."""
    design = np.column_stack([np.ones(len(levels)), levels])
    found, residual, *_ = np.linalg.lstsq(design, response, rcond=None)
    spare = design.shape[0] - design.shape[1]
    half = t.ppf(0.975, spare) * np.sqrt(residual[0] / spare / (len(levels) / 4))
    value = pd.Series(found[1:], levels.columns)
    return pd.DataFrame(
        {"value": value, "low": value - half, "high": value + half, "n": len(levels)}
    )


def main(folders: list[Path]) -> None:
    """Print the effects, and write them into the first folder."""
    results, measures = (
        pd.concat([pd.read_csv(folder / name) for folder in folders])
        for name in ("results.csv", "measures.csv")
    )
    table = responses(results, measures)
    levels = settings(table.index).loc[table.index]
    found = {name: effects(column, levels) for name, column in table.items()}
    written = pd.concat(found, names=["response", "setting"]).round(5)
    print(written.to_string())
    written.to_csv(folders[0] / "effects.csv")


if __name__ == "__main__":
    main([Path(text) for text in sys.argv[1:]])
