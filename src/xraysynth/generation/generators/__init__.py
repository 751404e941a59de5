"""What makes images: one file and one yaml each.

A generator is a frozen dataclass with what `base.Generator` asks for: its constructor is its
configuration, the identity of its pools and the record. `stable_diffusion` draws with a diffusion
model on this machine, `sd_lora` with one that is fine-tuned on the study's train split, `dalle` asks
an images API, and `archive` takes images that exist.

    >>> from xraysynth.generation.generators.archive import Archive
    >>> from xraysynth.generation.generators.dalle import Dalle
    >>> Archive(folder="drawn-by-others").card.access, Dalle().card.access
    ('archive', 'API')
"""

__all__ = ["archive", "base", "dalle", "sd_lora", "stable_diffusion"]
