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
# # Pools: what the generators made
#
# A pool is a folder of one generator's images, named by what made them. Before a classifier is trained on
# it: do the images look like their class, what did they cost, how far are they from real ones, and are
# they copies? Without options these are the pools of `make quickstart`, made from **simulated**
# radiographs.

# %%
import os
import shlex
import textwrap

import matplotlib.pyplot as plt
import pandas as pd

from xraysynth import compose
from xraysynth.evaluation.encoders import build
from xraysynth.evaluation.images import Resampling, evaluate
from xraysynth.generation import pool
from xraysynth.images import read_image
from xraysynth.stages import Workspace, finetune, generate

# The folder in which the study is run, so that its `outputs` are found: here, the one above.
os.chdir(os.environ.setdefault("XRAYSYNTH_FOLDER", os.path.abspath("..")))
overrides = shlex.split(os.environ.get("XRAYSYNTH_OVERRIDES", "experiment=quickstart"))
overrides.append("tracking=none")
config = compose(overrides)
cohort = Workspace(config, overrides).cohort
per_class = max(cohort.split("train").class_counts().values())  # as many as there are real ones
overrides.append(f"generate.per_class={per_class}")
config = compose(overrides)
workspace = Workspace(config, overrides)
if workspace.generators_to_finetune:
    finetune.run(workspace)  # what is done is not done again
generate.run(workspace)
pools = workspace.pools()
pd.DataFrame([images.class_counts() for images in pools.values()], index=list(pools))

# %% [markdown]
# ## The images and their prompts
# The first of each class in the order of their hashes. Ask of each row: would I know the class without
# its prompt? A generator that ignores the finding gives four rows that look alike.


# %%
def draw_prompts(images, columns=5):
    """Plot one row per class, each image above its prompt."""
    size = (1.75 * columns, 2.4 * len(images.classes))
    figure, axes = plt.subplots(len(images.classes), columns, figsize=size, squeeze=False)
    ordered = images.table.assign(file=images.files).sort_values("sha256")
    for line, name in zip(axes, images.classes, strict=True):
        for place in line:
            place.axis("off")
        chosen = ordered[ordered["label"] == name].head(columns)
        for place, row in zip(line, chosen.itertuples(), strict=False):
            place.imshow(read_image(row.file), cmap="gray", vmin=0, vmax=255)
            place.set_title(textwrap.fill(row.prompt, 34), loc="left", fontsize=5.5)
    figure.tight_layout(h_pad=1.5)


for name, images in pools.items():
    draw_prompts(images)
    plt.gcf().suptitle(name, x=0.02, ha="left", y=1.02)
    plt.show()

# %% [markdown]
# ## What became of every request, and what it cost
# `refused` and `empty` belong to the result: a generator that answers half of the prompts has half a
# pool. Energy is estimated where the processor tells none.

# %%
stores = {name: workspace.pool_store(name) for name in workspace.generators}
ends = [pd.DataFrame(pool.count_outcomes(store)).sum(axis=1) for store in stores.values()]
pd.DataFrame(ends, index=list(stores))

# %%
kept = ["images", "seconds_p50", "images_per_hour", "energy_kwh_per_1000", "cost_usd_per_image"]
pd.DataFrame([pool.compute_ledger(store) for store in stores.values()], index=list(stores))[kept]

# %% [markdown]
# ## How far from real images?
# Each pool against the real test images. `baseline_value` is the real-vs-real baseline: the same measure
# between two sets of real images of that size. `excess` is the paired difference; an interval that
# contains 0 shows no difference from real images. The encoder is the embedded one, which needs no
# download and is blunt: compare generators here, not with published FIDs. A study's `measures.csv` has
# the same by its own classifier, which sees more.

# %%
held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
measured = {
    name: evaluate(
        real=cohort.split("test"),
        synthetic=images,
        encoders=[build("embedded")],
        size_px=config.size_px,
        cache=config.output / "cache",
        train=cohort.split("train"),
        held_out=held_out,
        resampling=Resampling(splits=10, replicates=200, pairs_per_class=50),
    )
    for name, images in pools.items()
}
measures = pd.concat({name: pd.DataFrame(found.measures) for name, found in measured.items()})
measures = measures.droplevel(1).rename_axis("generator").reset_index()
overall = measures[measures["label"] == ""]
columns = [
    "metric",
    "generator",
    "value",
    "baseline_value",
    "excess_low",
    "excess_high",
    "n",
    "better",
]
overall[columns].sort_values(["metric", "generator"]).round(3).reset_index(drop=True)

# %%
distance = overall[overall["metric"] == "FD(embedded)"]
figure, axes = plt.subplots(figsize=(6, 0.8 + 0.5 * len(distance)))
for y, row in enumerate(distance.itertuples()):
    axes.plot([row.baseline_low, row.baseline_high], [y - 0.12] * 2, color="0.6", linewidth=5)
    axes.plot([row.low, row.high], [y + 0.12] * 2, color="C0", linewidth=2)
    axes.plot(row.value, y + 0.12, "o", color="C0")
axes.set_yticks(range(len(distance)), distance["generator"])
axes.set_ylim(-0.5, len(distance) - 0.5)
axes.set_xlim(left=0)
axes.set_xlabel("FD(embedded) to real test images; grey: real against real")
figure.tight_layout()

# %% [markdown]
# ## Copies of training images?
# The synthetic images that lie nearest to a real training image, above that image. An image is flagged
# when it lies nearer than 99 % of real images of other patients do, so 1 % is what no copying looks like;
# with fewer than 100 such images there is no flag. A pair that shows the same ribs and the same opacity
# is a copy; a flag alone is a reason to look.

# %%
for name, found in measured.items():
    pairs = found.closest
    figure, axes = plt.subplots(2, len(pairs), figsize=(1.5 * len(pairs), 3.5), squeeze=False)
    for column, pair in zip(axes.T, pairs, strict=True):
        for place, side in zip(column, ("synthetic", "train"), strict=True):
            place.imshow(read_image(getattr(pair, side)), cmap="gray", vmin=0, vmax=255)
            place.axis("off")
        flag = ", flagged" if pair.flagged else ""
        column[0].set_title(f"{pair.distance:.2f}{flag}", fontsize=8)
    figure.suptitle(f"{name}, and the nearest real training images", fontsize=9)
    figure.tight_layout()
    plt.show()

# %%
overall[overall["metric"] == "memorised share"][["generator", "value", "low", "high", "n", "note"]]
