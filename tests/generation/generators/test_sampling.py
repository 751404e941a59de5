"""Batches: order, overlap, independence, early stops and memory that runs out."""

import threading
import time
from itertools import count
from operator import attrgetter

import numpy as np
import pytest

from xraysynth.errors import XraysynthError
from xraysynth.generation.generators._batches import AdaptiveBatches, is_out_of_memory, prefetch
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.records import Request

PROMPTS = ("normal chest x-ray", "covid-19", "tuberculosis: a cavity", "pneumonia")


def requests(number, prompts=PROMPTS, negative="text"):
    return [
        Request("normal", n, prompts[n % len(prompts)], negative, 100 + n) for n in range(number)
    ]


def pixels(results):
    return [result.pixels for result in results]


def same(one, other):
    return len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))


def waiting():
    return [t for t in threading.enumerate() if t.name == "denoise"]


@pytest.mark.parametrize(("model", "steps"), [("embedded", 20), ("tiny", 4)])
def test_an_image_is_the_same_bits_in_any_batch(model, steps, tiny_sd):
    model = str(tiny_sd) if model == "tiny" else model
    sampler = StableDiffusion(model=model, steps=steps, batch_size=4)._sampler

    def drawn(*parts):
        """Floats, in which a sum in another order shows; pixels mostly hide it."""
        batches = [batch for part in parts for batch in sampler.sample(part)]
        return [image for b in batches for image in b.values[: len(b.requests)]]

    wanted = requests(4)
    whole = drawn(wanted)
    assert same(whole, drawn(wanted[:3], wanted[3:]))
    assert same(whole[1::2], drawn(wanted[1::2]))


def test_a_large_model_on_a_cpu_draws_image_by_image(tiny_sd, monkeypatch):
    monkeypatch.setattr("xraysynth.generation.generators.stable_diffusion.SMALL_UNET_PARAMETERS", 0)
    generator = StableDiffusion(model=str(tiny_sd), steps=2)
    assert [r.facts["batch"] for r in generator.generate(requests(2))] == [1, 1]


class Counted:
    """A module's forward pass that notes the shapes it was called with."""

    def __init__(self, module):
        self.forward, self.shapes = module.forward, []
        module.forward = self

    def __call__(self, first, *args, **kwargs):
        self.shapes.append(tuple(first.shape))
        return self.forward(first, *args, **kwargs)


@pytest.mark.parametrize(("guidance", "rows", "texts"), [(3.0, 4, 3), (1.0, 2, 2), (0.0, 2, 2)])
def test_prompts_are_embedded_once_and_guidance_shares_a_batch(tiny_sd, guidance, rows, texts):
    generator = StableDiffusion(model=str(tiny_sd), steps=2, guidance=guidance, batch_size=2)
    unet = Counted(generator.pipeline.unet)
    encoder = Counted(generator.pipeline.text_encoder)
    list(generator.generate(requests(6, PROMPTS[:2])))
    assert len(encoder.shapes) == texts
    assert [shape[0] for shape in unet.shapes] == [rows] * 6


def test_results_equal_those_of_the_stock_pipeline(tiny_sd):
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    (request,) = requests(1)
    generator = StableDiffusion(model=str(tiny_sd), steps=4, guidance=3.0, batch_size=1)
    (result,) = generator.generate([request])
    stock = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    stock.scheduler = DPMSolverMultistepScheduler.from_config(stock.scheduler.config)
    image = stock(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="np",
    ).images[0]
    grey = image.mean(axis=-1)
    assert np.abs(result.pixels - np.rint(grey * 255)).max() <= 1


@pytest.mark.parametrize("negative", ["", "text"])
def test_xl_with_its_pooled_embeddings_equals_the_stock_pipeline(tiny_xl, negative):
    import torch
    from diffusers import StableDiffusionXLPipeline

    (request,) = requests(1, negative=negative)
    options = {"steps": 2, "guidance": 3.0, "scheduler": "euler", "batch_size": 2}
    generator = StableDiffusion(model=str(tiny_xl), **options)
    (result,) = generator.generate([request])
    image = StableDiffusionXLPipeline.from_pretrained(tiny_xl)(
        request.prompt,
        negative_prompt=negative or None,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="np",
    ).images[0]
    assert result.pixels.shape == (32, 32)
    assert np.abs(result.pixels - np.rint(image.mean(axis=-1) * 255)).max() <= 1


def test_the_next_batch_is_denoised_while_one_is_decoded_and_saved(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=2, batch_size=1)
    unet = Counted(generator.pipeline.unet)
    results = generator.generate(requests(4))
    next(results)
    while len(unet.shapes) < 4:  # two steps of the second image, which nobody has asked for
        time.sleep(0.01)
    results.close()


def test_whoever_stops_early_stops_the_denoising(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=30, guidance=1.0, batch_size=1)
    unet = Counted(generator.pipeline.unet)
    draw, closing = unet.forward, threading.Event()

    def slow(*args, **kwargs):  # from the second image on
        if len(unet.shapes) > 30:
            closing.wait(0.5)
        return draw(*args, **kwargs)

    unet.forward = slow
    results = generator.generate(requests(20))
    next(results)
    results.close()
    closing.set()
    made = len(unet.shapes)
    assert made < 60, "the second image was finished though nobody wanted it"
    assert not waiting()
    assert len(list(generator.generate(requests(1)))) == 1  # and the next call starts afresh


def test_a_long_denoising_ends_at_its_next_step():
    stop, steps = threading.Event(), []

    def slow():
        yield 0
        for step in count():
            if stop.is_set():
                raise RuntimeError("stopped")
            steps.append(step)
            time.sleep(0.01)

    items = prefetch(slow(), stop)
    assert next(items) == 0
    items.close()
    made = len(steps)
    time.sleep(0.05)
    assert len(steps) == made


def test_at_most_the_depth_is_made_ahead():
    made = []
    items = prefetch((made.append(n) or n for n in range(50)), threading.Event(), depth=2)
    next(items)
    time.sleep(0.2)
    assert len(made) <= 5
    assert list(items) == list(range(1, 50))


def test_an_error_of_the_thread_reaches_the_caller(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=2, batch_size=1)
    forward, calls = generator.pipeline.unet.forward, count()

    def fails_later(*args, **kwargs):
        if next(calls) >= 2:
            raise ZeroDivisionError("in the second image")
        return forward(*args, **kwargs)

    generator.pipeline.unet.forward = fails_later
    results = generator.generate(requests(3))
    assert next(results).outcome == "image"
    with pytest.raises(ZeroDivisionError, match="second image"):
        next(results)
    assert not waiting()


def faulty(forward, largest):
    """A forward pass that has memory for no more than `largest` rows."""

    def limited(first, *args, **kwargs):
        if first.shape[0] > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        return forward(first, *args, **kwargs)

    return limited


@pytest.mark.parametrize("where", ["unet", "vae.decoder"])
def test_a_batch_that_does_not_fit_is_halved_for_good_and_says_so_once(tiny_sd, where, capsys):
    options = {"model": str(tiny_sd), "steps": 2, "guidance": 1.0, "batch_size": 8}
    expected = pixels(StableDiffusion(**options).generate(requests(8)))
    generator = StableDiffusion(**options)
    module = attrgetter(where)(generator.pipeline)
    module.forward = faulty(module.forward, largest=2)
    for _ in range(2):
        drawn = pixels(generator.generate(requests(8)))
        assert all(
            np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(expected, drawn, strict=True)
        )
    assert capsys.readouterr().err == "memory ran out; batches now have 2 images\n"


def test_one_image_that_does_not_fit_is_an_error_with_the_remedy(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=2, batch_size=4)
    unet = generator.pipeline.unet
    unet.forward = faulty(unet.forward, largest=0)
    with pytest.raises(XraysynthError, match=r"one image; set generator.stable_diffusion.memory"):
        list(generator.generate(requests(2)))


def test_other_errors_are_not_taken_for_full_memory():
    import torch

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(
            AdaptiveBatches(2, remedy="").run(
                lambda part: (_ for _ in ()).throw(RuntimeError("shapes")), [1]
            )
        )


def test_facts_say_the_share_of_time_and_the_batch(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=2, batch_size=3)
    facts = [result.facts for result in generator.generate(requests(5))]
    assert [fact["batch"] for fact in facts] == [3, 3, 3, 2, 2]
    assert all(fact["seconds"] > 0 for fact in facts)
