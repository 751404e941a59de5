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
# # A cohort and its audit
#
# What to know about the real images before any generator is trained: how many patients stand behind them,
# whether the data source predicts a class, and whether pictures repeat. Without options this is the
# cohort of `make quickstart`, which is **simulated**; for yours, replace `experiment=quickstart` by the
# options of your study.

# %%
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from xraysynth import compose
from xraysynth.data.duplicates import Fingerprints, find_near_duplicates, fingerprint_pixels
from xraysynth.errors import ConfoundingError
from xraysynth.images import read_image
from xraysynth.stages import Workspace

# The folder in which the study is run, so that its `outputs` are found: here, the one above.
os.chdir(os.environ.setdefault("XRAYSYNTH_FOLDER", os.path.abspath("..")))
overrides = shlex.split(os.environ.get("XRAYSYNTH_OVERRIDES", "experiment=quickstart"))
overrides.append("tracking=none")
config = compose(overrides)
workspace = Workspace(config, overrides)
cohort, audit = workspace.cohort, workspace.audit
table = cohort.table
pd.Series({"simulated": audit.simulated, "notes": audit.notes})

# %% [markdown]
# ## How many images, of how many patients?
# Look for a class with few patients in `test`: its scores will have wide intervals, however many images
# there are. Splits are by patient, so the numbers of images are not exactly those asked for.

# %%
pd.crosstab([table["label"]], [table["source"], table["split"]], margins=True)

# %%
table.pivot_table("patient_id", "label", ["source", "split"], aggfunc="nunique", margins=True)

# %% [markdown]
# ## What the audit found
# `balanced accuracy` is how well the data source alone predicts a class: 0.5 is chance, and
# from 0.9 on the study refuses to start. Near duplicates across splits must be 0.

# %%
pd.DataFrame(audit.source_confounding).T.round(2)

# %%
names = ["exact_duplicates", "near_duplicates", "near_duplicates_across_splits"]
pd.Series({"Cramér's V, class and source": audit.cramers_v} | {n: getattr(audit, n) for n in names})

# %% [markdown]
# ## The images
# The first of each class in the order of their hashes: nobody picked them. Look for what the eye could
# learn instead of the disease: markers, borders, collimation, exposure.


# %%
def draw_grid(rows, columns=8):
    """Rows of images by name."""
    size = (1.2 * columns, 1.25 * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    for line, (name, files) in zip(axes, rows.items(), strict=True):
        line[0].set_title(name, loc="left", fontsize=9)
        for place in line:
            place.axis("off")
        for place, file in zip(line, files, strict=False):
            place.imshow(read_image(file), cmap="gray", vmin=0, vmax=255)
    figure.tight_layout(pad=0.3)


train = cohort.split("train")
by_class = train.table.assign(file=train.files).sort_values("sha256").groupby("label")["file"]
draw_grid({name: by_class.get_group(name) for name in cohort.classes})

# %% [markdown]
# ## Near duplicates
# A picture that was saved again, darker or at another quality, is another file with another hash, but the
# same patient. The audit compares a perceptual hash and a thumbnail of every image with all others. Here
# three images are copied with another exposure and put beside the cohort: each must be found, and nothing
# else.

# %%
originals = [read_image(file) for file in cohort.files]
copies = [(255 * (originals[n] / 255) ** 1.2).astype(np.uint8) for n in (0, 1, 2)]
prints = [fingerprint_pixels(image) for image in (*originals, *copies)]
hashes, thumbnails = map(np.stack, zip(*prints, strict=True))
pairs = find_near_duplicates(Fingerprints(hashes, thumbnails))
new = pairs[pairs[:, 1] >= len(originals)]
figure, axes = plt.subplots(2, len(new), figsize=(1.6 * len(new), 3.4), squeeze=False)
for column, (one, other) in zip(axes.T, new, strict=True):
    column[0].set_title(table["image_id"][one], fontsize=6)
    for place, image in zip(column, (originals[one], copies[other - len(originals)]), strict=True):
        place.imshow(image, cmap="gray", vmin=0, vmax=255)
        place.axis("off")
figure.tight_layout()
[(int(one), int(other) - len(originals)) for one, other in new]

# %% [markdown]
# ## What a confounded cohort looks like
# The same images in a table that says that every image of the last class comes from a second hospital, as
# in collections put together from one public data set per disease. The hospital alone then tells the
# class, a classifier can learn the scanner instead of the lungs, and `prepare` stops.

# %%
last = cohort.classes[-1]
folder = Path(tempfile.mkdtemp())
listed = table.assign(
    path=[os.path.relpath(file.absolute(), cohort.folder.absolute()) for file in cohort.files],
    source_dataset=np.where(table["label"] == last, "hospital B", "hospital A"),
)
listed = listed.groupby("label").head(15)  # a few images show it as well
listed[["path", "label", "patient_id", "source_dataset"]].to_csv(folder / "table.csv", index=False)
pd.crosstab(listed["source_dataset"], listed["label"])

# %%
confounded = [
    "source=table",
    f"source.table.path={folder / 'table.csv'}",
    f"source.table.root={cohort.folder.absolute()}",
    f"classes=[{','.join(cohort.classes)}]",
    f"size_px={config.size_px}",
    f"paths.output={folder}",
    "tracking=none",
]
try:
    print(Workspace(compose(confounded), confounded).cohort)
except ConfoundingError as error:
    print(error)

# %% [markdown]
# Going on all the same is possible, and then every report says so at its head:

# %%
acknowledged = [*confounded, "acknowledge_confounding=true"]
print(*Workspace(compose(acknowledged), acknowledged).audit.acknowledged, sep="\n")
