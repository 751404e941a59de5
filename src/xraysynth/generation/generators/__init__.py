"""Image generators: one module and one yaml file each.

A generator is a frozen dataclass that fulfils `base.Generator`: the fields of its constructor are its
options, the identity of its pools and their record. `stable_diffusion` samples from a diffusion model on
this machine, `sd_lora` from one that is fine-tuned on the study's train split, `dalle` calls an images
API, and `archive` reads images that exist already.

    >>> from xraysynth.generation.generators.archive import Archive
    >>> from xraysynth.generation.generators.dalle import Dalle
    >>> Archive(folder="drawn-by-others").card.access, Dalle().card.access
    ('archive', 'API')
"""

__all__ = ["archive", "base", "dalle", "sd_lora", "stable_diffusion"]
