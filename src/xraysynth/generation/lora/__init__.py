"""Low-rank adaptation of Stable Diffusion to radiographs, by `training.train`.

`recipe` has the options. `latents` encodes images and captions once, `examples` draws the batch of each
step from them, `denoise_batches` says what is predicted and how an error counts, and `learner` takes the
steps. `adapters` puts the layers into a pipeline and writes them, `checkpoint` is what a training that
was killed goes on from, `acceleration` sets up processes and number formats, and `folder` finds a LoRA
that exists.

    >>> from xraysynth.generation.lora.folder import LoraFolder
    >>> LoraFolder("sd_lora", "mine/pytorch_lora_weights.safetensors").path.as_posix()
    'mine'
"""

__all__ = [
    "acceleration",
    "adapters",
    "checkpoint",
    "denoise_batches",
    "examples",
    "folder",
    "latents",
    "learner",
    "recipe",
    "training",
]
