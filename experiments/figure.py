"""Figures of an experiment, drawn from its results.csv by the code of the report.

python experiments/figure.py share experiments/ratio_ablation
python experiments/figure.py differences experiments/generator_comparison
python experiments/figure.py learning experiments/low_data
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report import figures
from xraysynth.report.content import Arm, Comparison
from xraysynth.report.templating import TEMPLATES

METRIC, NAME = "macro_f1", "macro-F1"
SCALE = 1.6
TEXT = ["generator", "control", "left_out", "test_set"]
ARM = ["generator", "share", "mode", "control", "real_fraction", "left_out"]
"""Columns of results.csv that tell one arm from the others."""

ARM_FIELDS = [
    "generator",
    "synthetic_fraction",
    "mode",
    "control",
    "real_fraction",
    "left_out_source",
]
"""The fields of an arm that the columns fill."""


def read(path: Path) -> pd.DataFrame:
    """A results.csv."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str)).fillna(dict.fromkeys(TEXT, ""))


def arms(table: pd.DataFrame) -> list[Arm]:
    """The arms of a results.csv in its order, as far as figures need them."""
    table = table[(table["metric"] == METRIC) & (table["test_set"] == "")]
    return [_arm(*rows) for rows in table.groupby(ARM, sort=False)]


def _arm(key: tuple, rows: pd.DataFrame) -> Arm:
    (mean,) = rows[rows["seed"].isna()].to_dict("records")
    seeds = rows[rows["seed"].notna()]
    ends = ["difference", "difference_low", "difference_high"]
    gain = Interval(*(mean[end] for end in ends), n=mean["n_test"])
    return Arm(
        **dict(zip(ARM_FIELDS, key, strict=True)),
        seeds=seeds["seed"].astype(int).to_list(),
        real_images=mean["real_images"],
        synthetic_images=mean["synthetic_images"],
        predictions=[],
        scores={METRIC: Interval(mean["value"], mean["low"], mean["high"], mean["n_test"])},
        over_real=Comparison() if pd.isna(gain.value) else Comparison({METRIC: gain}),
        scores_by_seed=[{METRIC: value} for value in seeds["value"]],
        seconds=[],
    )


def draw(kind: str, found: list[Arm]) -> Iterator[tuple[str, str]]:
    """Names and SVGs of the figures of one kind."""
    names = list(dict.fromkeys(arm.generator for arm in found if arm.generator))
    if kind == "share":
        for name in names:
            yield f"share-{name}", figures.draw_score_by_fraction(found, name, names, METRIC, NAME)
    else:
        drawn = {"differences": figures.draw_differences, "learning": figures.draw_learning_curve}[
            kind
        ]
        yield kind, drawn(found, names, METRIC, NAME)


def standalone(svg: str, *, simulated: bool) -> str:
    """An SVG of the page as a file of its own: in the page's light colours, on its ground.

    Of a simulated cohort it says so in its corner.
    """
    css = (TEMPLATES / "page.css").read_text()
    (colours,) = re.findall(r"^:root \{(.*?)\}", css, re.S | re.M)
    width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0]
    corner = f'x="{float(width) - 4}" y="{float(height) - 5}" text-anchor="end" font-size="9"'
    note = f'<text {corner} style="fill: var(--muted)">simulated</text>' * simulated
    size = f'width="{float(width) * SCALE:.0f}" height="{float(height) * SCALE:.0f}"'
    font = "font-family: system-ui, sans-serif;"
    style = f"<style>svg {{{colours} background: var(--page); {font} }}</style>"
    head, rest = svg.rstrip().removesuffix("</svg>").split(">", 1)
    head = head.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" {size}')
    return f"{head}>{style}{rest}{note}</svg>\n"


def save(kind: str, table: pd.DataFrame, folder: Path) -> None:
    """Write the figures of one kind below the folder's `figures`."""
    (folder / "figures").mkdir(exist_ok=True)
    for name, svg in draw(kind, arms(table)):
        path = folder / "figures" / f"{name}.svg"
        path.write_text(standalone(svg, simulated=bool(table["simulated"].any())))
        print(path)


if __name__ == "__main__":
    kind, folder = sys.argv[1], Path(sys.argv[2])
    save(kind, read(folder / "results.csv"), folder)
