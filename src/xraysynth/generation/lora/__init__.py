"""Low-rank adaptation (LoRA) of Stable Diffusion to radiographs, by `training.train`.

`recipe` has the options. `latents` and `embeddings` encode images and captions once into a cache,
`examples` draws the batch of each step, `denoising` defines the prediction target and its loss,
`learner` takes an optimiser step, and `training_loop` repeats it. `adapters` adds LoRA layers to a
pipeline and saves them, `checkpoint` holds what a killed training resumes from, and `folder` finds the
files of a LoRA that exists.

    >>> from xraysynth.generation.lora.folder import LoraFolder
    >>> LoraFolder("sd_lora", "mine/pytorch_lora_weights.safetensors").path.as_posix()
    'mine'
"""

__all__ = [
    "acceleration",
    "adapters",
    "checkpoint",
    "denoising",
    "embeddings",
    "examples",
    "folder",
    "history",
    "latents",
    "learner",
    "recipe",
    "tensor_files",
    "training",
    "training_loop",
]
