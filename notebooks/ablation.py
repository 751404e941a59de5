# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An ablation: score against synthetic fraction
#
# The question of the study: is a classifier better for synthetic images among its training images? First
# from `results.parquet`, where every number has its interval, then from the records of the runs, run
# by run. Without options this is `make quickstart`, whose "real" images are **simulated**.

# %%
import os
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from xraysynth import compose
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.differences import MeasuredDifference
from xraysynth.report.verdicts import utility
from xraysynth.stages import Workspace, study
from xraysynth.tracking.export import read_runs

# The folder in which the study is run, so that its `outputs` are found: here, the one above.
os.chdir(os.environ.setdefault("XRAYSYNTH_FOLDER", os.path.abspath("..")))
overrides = shlex.split(os.environ.get("XRAYSYNTH_OVERRIDES", "experiment=quickstart"))
config = compose(overrides)
result = study.run(Workspace(config, overrides))  # what is done is not done again
results = pd.read_parquet(Path(result["results"]).with_suffix(".parquet"))
results.sample(3, random_state=0)

# %% [markdown]
# ## Every arm
# A row is an arm, one metric and one training seed; rows without a seed are means over seeds, and these
# alone have intervals (95 %, over patients and seeds). Choose the metric before looking at the others.

# %%
METRIC = "macro_f1"
own = results[
    (results["test_set"] == "") & (results["left_out"] == "") & (results["real_fraction"] == 1)
]
scores = own[own["metric"] == METRIC]
means, seeds = scores[scores["seed"].isna()], scores[scores["seed"].notna()]
shown = ["generator", "share", "mode", "control", "value", "low", "high"]
means[[*shown, "n_test", "n_seeds", "real_images", "synthetic_images"]].round(3)

# %% [markdown]
# ## Score against synthetic fraction
# The dotted line is training on real images alone. Small dots are seeds: where they lie as far apart as
# the arms do, more seeds are needed before anything is said. Crosses are permuted labels and diamonds are
# repeats of real images: synthetic images that do no better than these teach nothing of their own.

# %%
MARKERS = {"": "o", "duplicate": "D", "permuted": "x"}
generators = list(means.loc[means["generator"] != "", "generator"].unique())
real_only = means[means["share"] == 0].iloc[0]
arms = means[means["share"] > 0].groupby(["generator", "mode", "control"], sort=False)
figure, axes = plt.subplots(figsize=(7, 4))
axes.axhline(real_only["value"], color="black", linestyle=":", label="real only")
axes.axhspan(real_only["low"], real_only["high"], color="0.93")
dots = seeds.loc[seeds["share"] == 0, "value"]
axes.plot([0] * len(dots), dots, "k.", markersize=4)
for number, ((generator, mode, control), line) in enumerate(arms):
    line = line.sort_values("share")
    x = 100 * line["share"] + 1.2 * (number - (len(arms) - 1) / 2)  # side by side, not on top
    colour = "0.5" if control else f"C{generators.index(generator)}"
    label = ", ".join(filter(None, [generator, mode, control]))
    bars = (line["value"] - line["low"], line["high"] - line["value"])
    style = {"linestyle": "none" if control else "-", "capsize": 3, "markersize": 6}
    axes.errorbar(x, line["value"], bars, fmt=MARKERS[control], color=colour, label=label, **style)
    for place, share in zip(x, line["share"], strict=True):
        same = (seeds[["generator", "mode", "control"]] == [generator, mode, control]).all(axis=1)
        dots = seeds.loc[same & (seeds["share"] == share), "value"]
        axes.plot([place + 0.6] * len(dots), dots, ".", color=colour, markersize=4)
axes.set_xticks([100 * share for share in sorted(means["share"].unique())])
axes.set_xlabel("synthetic fraction of the training images, %")
axes.set_ylabel(METRIC)
axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
figure.tight_layout()

# %% [markdown]
# ## Paired differences and the verdict
# Two arms are tested on the same patients, so their difference is known better than either score: compare
# the interval of the difference with 0, never two intervals with each other. The verdict is "better" or
# "worse" only where the interval leaves out 0 and the p-value, adjusted for the number of arms (Holm), is
# below 0.05. "No difference shown" is not "the same": `detectable` is the true difference that would have
# been found with a probability of 80 %. With `study.equivalence_margin`, a difference that is shown to be
# smaller than this is "equivalent". Controls have no p-value and no verdict, nor has an arm with one
# training seed. Only macro-F1 has p-values.


# %%
def difference(row, kind=""):
    """The arm minus real only, or minus a control, with what was tested of it."""
    ends = [row[f"{kind or 'difference'}{end}"] for end in ("", "_low", "_high")]
    prefix = f"{kind}_" if kind else ""
    return MeasuredDifference(
        None if pd.isna(ends[0]) else Interval(*map(float, ends), n=int(row["n_test"])),
        p_holm=row[f"{prefix}p_holm"],
        detectable=row[f"{prefix}detectable"],
        margin=row["equivalence_margin"],
        p_equivalent=row[f"{prefix}p_equivalent"],
    )


compared = means[means["share"] > 0]
pd.DataFrame(
    {
        "arm": compared[["generator", "share", "mode", "control"]]
        .astype(str)
        .agg(" ".join, axis=1),
        "difference": compared["difference"].round(3),
        "low": compared["difference_low"].round(3),
        "high": compared["difference_high"].round(3),
        "p (Holm)": compared["p_holm"].round(3),
        "verdict": compared["verdict"],
        "detectable": compared["detectable"].round(3),
    }
).reset_index(drop=True)


# %%
for _, row in compared[compared["control"] == ""].iterrows():
    found = utility(
        arm=f"{row['generator']} {row['share']:.0%}",
        metric=METRIC,
        over_real=difference(row),
        over_duplicates=difference(row, "over_duplicates"),
        over_permuted=difference(row, "over_permuted"),
    )
    print(found.sentence)

# %% [markdown]
# ## The same run by run
# `read_runs` takes the folder of outputs, where every job has a run.json, or the CSV that the runs table
# of the W&B page downloads (let it show Group and Job Type). It gives a row a run: `config.` what it was,
# `summary.` what came of it. Runs of a project that is online give the same columns by
#
# ```python
# runs = wandb.Api().runs("<entity>/xraysynth", filters={"group": "quickstart"})
# said = [{"name": run.name, "group": run.group, "state": run.state} for run in runs]
# found = [{"config": run.config, "summary": dict(run.summary_metrics)} for run in runs]
# runs = pd.json_normalize([one | other for one, other in zip(said, found)])
# ```
#
# which needs a network and a key and is therefore not run here. A run belongs to the group of the study
# that did it: jobs that an earlier study had done already are found under that study's name.

# %%
runs = read_runs(config.output)
runs["state"].value_counts()

# %%
trained = runs[runs["config.arm.share"].notna() & (runs["state"] == "finished")]
trained = trained[trained["group"] == config.study.name]
arm = trained.filter(regex=r"^config\.arm\.").rename(columns=lambda name: name.split(".")[-1])
logged = arm.assign(recorded=trained[f"summary.test/{METRIC}"])
logged["generator"] = logged["generator"].replace({"real only": "", "duplicate real": ""})
logged["control"] = logged["control"].replace({"none": ""})
keys = ["generator", "share", "mode", "control", "real_fraction", "left_out", "seed"]
both = seeds.astype({"seed": int}).merge(logged.astype({"seed": int}), on=keys, how="left")
largest = (both["value"] - both["recorded"]).abs().max()
print(
    f"{both['recorded'].count()} of {len(both)} runs; largest difference to results.parquet: {largest}"
)

# %% [markdown]
# A run has an interval over patients, but what belongs to several runs, such as the paired interval
# above, is in `results.parquet` alone. What the table of runs can show is each seed against the
# real-only run of the same seed: look whether the seeds agree on the sign.

# %%
by_seed = logged.pivot_table("recorded", ["series", "share"], "seed")
gain = by_seed.drop("real only") - by_seed.loc[("real only", 0)]
figure, axes = plt.subplots(figsize=(7, 0.9 + 0.35 * len(gain)))
axes.axvline(0, color="black", linewidth=1)
for y, values in enumerate(gain.to_numpy()):
    axes.plot(values, [y] * len(values), "o", color="C0", alpha=0.7)
axes.set_yticks(range(len(gain)), [f"{series}, {share:.0%}" for series, share in gain.index])
axes.set_xlabel(f"{METRIC} minus real only, one dot per seed")
figure.tight_layout()

# %% [markdown]
# The runs have what `results.parquet` has not: the cost of the images beside the score.

# %%
costs = trained.filter(regex=r"^summary\.(cost/|fit_seconds)")
costs.rename(columns=lambda name: name.split(".", 1)[1]).groupby(arm["series"]).mean().round(4)
