# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour: from images to a report
#
# Everything the command line does can be done from Python with the same configuration. This tour runs the
# smallest study on the **simulated** cohort; its numbers mean nothing.

# %%
import os
import tempfile

import pandas as pd
from PIL import Image

from xraysynth.config import compose
from xraysynth.stages import generate, prepare, study

output = os.environ.get("XRAYSYNTH_TOUR", tempfile.mkdtemp())
overrides = ["experiment=smoke", f"paths.output={output}", "tracking=none"]
config = compose(overrides)
config.plain()["study"]

# %% [markdown]
# ## The cohort
# `prepare` reads the sources, splits by patient and audits the result.

# %%
cohort, audit = prepare.cohort(config, overrides)
pd.DataFrame(audit["counts"]).pivot_table("images", "class", "split", sort=False)

# %%
Image.open(cohort.split("train").files[0]).resize((192, 192))

# %% [markdown]
# ## The study
# Every generator x share x mode x seed; what is done is not done again.

# %%
result = study.run(config, overrides)
result["report"]

# %%
table = pd.read_csv(result["results"])
columns = ["generator", "share", "value", "low", "high", "n_test", "n_seeds", "simulated"]
table.loc[table["seed"].isna() & (table["metric"] == "macro_f1"), columns]

# %% [markdown]
# ## The images
# A pool is a folder of images with a manifest. Here is the first in the order of its hashes.

# %%
pools = generate.pools(config, overrides, dict.fromkeys(config.classes, 4))
pool = pools["stable_diffusion"]
pool.table.sort_values("sha256")[["label", "prompt", "seed"]].head(4)

# %%
first = pool.table["sha256"].argmin()
Image.open(pool.files[first]).resize((192, 192))
