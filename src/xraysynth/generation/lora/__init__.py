"""Low-rank adaptation of Stable Diffusion: `training.train`, and what it is made of."""
