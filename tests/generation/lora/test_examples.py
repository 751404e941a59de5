from collections import Counter

import pytest
import torch

from xraysynth.errors import ConfigError
from xraysynth.generation.lora.examples import Examples
from xraysynth.generation.lora.latents import Latents
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import CaptionedImages

N, EMPTY = 10, 20


@pytest.fixture
def examples():
    number = torch.arange(N).float().view(N, 1, 1, 1, 1)
    mean = number.expand(N, 3, 4, 8, 8) * 100
    captions = [[2 * i, 2 * i + 1] for i in range(N)]
    return Examples(Latents(mean, torch.ones_like(mean)), captions, EMPTY, 1000)


def drawn(batch):
    return (batch.latents.mean((1, 2, 3)) / 100).round().int().tolist()


def test_a_step_depends_on_the_seed_and_its_number_alone(examples):
    recipe = LoraRecipe(batch_size=4)
    first, again = examples.draw(7, recipe), examples.draw(7, recipe)
    others = [examples.draw(8, recipe), examples.draw(7, LoraRecipe(batch_size=4, seed=1))]
    for name in ("latents", "noise", "timesteps"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not any(torch.equal(getattr(first, name), getattr(o, name)) for o in others)


def test_every_image_is_drawn_equally_often_with_its_own_captions(examples):
    recipe = LoraRecipe(batch_size=4, caption_dropout=0)
    seen = Counter()
    for step in range(5):  # two epochs of ten images
        batch = examples.draw(step, recipe)
        seen.update(drawn(batch))
        assert [c // 2 for c in batch.caption_ids.tolist()] == drawn(batch)
    assert set(seen.values()) == {2}
    assert len(seen) == N


def test_captions_are_dropped_at_the_share_asked_for(examples):
    def share(dropout):
        recipe = LoraRecipe(batch_size=10, caption_dropout=dropout)
        captions = torch.cat([examples.draw(step, recipe).caption_ids for step in range(100)])
        return (captions == EMPTY).float().mean().item()

    assert share(0) == 0
    assert share(1) == 1
    assert share(0.3) == pytest.approx(0.3, abs=0.05)


def test_noise_offset_shifts_the_mean_of_the_noise(examples):
    def spread(offset):
        recipe = LoraRecipe(batch_size=10, noise_offset=offset)
        noise = torch.cat([examples.draw(step, recipe).noise for step in range(20)])
        return noise.mean((2, 3)).std().item()

    assert spread(0.0) == pytest.approx(1 / 8, rel=0.1)  # of the mean of 64 normal numbers
    assert spread(1.0) == pytest.approx(1, rel=0.1)


def test_latents_are_sampled_around_the_mean(examples):
    batch = examples.draw(0, LoraRecipe(batch_size=8))
    rest = batch.latents - torch.tensor(drawn(batch)).view(-1, 1, 1, 1) * 100
    assert rest.std().item() == pytest.approx(1, rel=0.1)


def test_validation_draws_are_fixed_and_stratified(examples):
    batch, again = examples.draw_validation(), examples.draw_validation()
    assert torch.equal(batch.noise, again.noise)
    assert len(batch) == 64
    assert sorted(t * 64 // 1000 for t in batch.timesteps.tolist()) == list(range(64))
    assert min(Counter(drawn(batch)).values()) == 6


def test_validation_of_many_images_takes_some_from_all_over():
    mean = torch.zeros(1000, 1, 4, 2, 2)
    batch = Examples(Latents(mean, mean), [[i] for i in range(1000)], 1000, 1000).draw_validation()
    assert len(batch) == 256
    assert batch.caption_ids.max() > 990


def test_every_image_needs_a_caption():
    images = torch.zeros(3, 32, 32).byte().numpy()
    for captions in ([["a"], ["b"]], [["a"], [], ["b"]]):
        with pytest.raises(ConfigError, match="every image needs a caption; got 3 images"):
            CaptionedImages(images, captions)
