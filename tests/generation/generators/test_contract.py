"""Every option of the generator group keeps the promises of generators/base.py."""

import numpy as np
import pandas as pd
import pytest
from images_server import ImagesServer
from small_study import write_image

from xraysynth import compose
from xraysynth.config import list_group_options
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.prompts import iterate_requests
from xraysynth.records import LearningRecord
from xraysynth.seeds import identity


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    rows = []
    for label in ("normal", "covid19"):
        for number in range(5):
            write_image(folder / label / f"{number}.png", label=label, seed=number)
            rows.append({"path": f"{label}/{number}.png", "label": label})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def images_api():
    """The address of a server whose images depend on the prompt alone."""
    with ImagesServer() as server:
        yield server.address


@pytest.fixture(params=list_group_options("generator"))
def config(request, tiny_sd, tiny_lora, archive, images_api):
    arguments = {
        "dalle": [f"base_url={images_api}", "model=local", "price_usd_per_image=0"],
        "sd_lora": [f"model={tiny_sd}", f"weights={tiny_lora}", "steps=2", "batch_size=3"],
        "stable_diffusion": [f"model={tiny_sd}", "steps=2", "batch_size=3"],
        "sd15_lora": [f"model={tiny_sd}", f"weights={tiny_lora}", "steps=2", "batch_size=3"],
        "sd15": [f"model={tiny_sd}", "steps=2", "batch_size=3"],
        "sd15_lcm": [f"model={tiny_sd}", "batch_size=3", f"adapter={tiny_lora}"],
        "sd_turbo": [f"model={tiny_sd}", "batch_size=3"],
        "archive": [f"folder={archive}"],
    }
    name = request.param
    chosen = [f"generator.{name}.{argument}" for argument in arguments[name]]
    return compose([f"generator={name}", *chosen])


def made(generator, wanted):
    """Results in the order of the requests: a generator may hand them on as they come."""
    results = {result.request.image_id: result for result in generator.generate(wanted)}
    assert len(results) == len(wanted)
    return [results[request.image_id] for request in wanted]


def test_the_key_in_the_config_is_the_name_of_the_option(config):
    (key,) = config.generator
    assert key in list_group_options("generator")


def test_one_result_per_request_and_repeatable(config):
    (generator,) = config.generators().values()
    wanted = list(iterate_requests(config.prompts, {"normal": 4, "covid19": 1}, seed=0))
    first, second = made(generator, wanted), made(generator, wanted)
    for one, other in zip(first, second, strict=True):
        assert one.outcome == other.outcome == "image"
        assert one.pixels.dtype == np.uint8
        assert one.pixels.ndim == 2
        assert (one.pixels == other.pixels).all()


def test_an_image_does_not_depend_on_what_else_is_asked_for(config):
    (generator,) = config.generators().values()
    wanted = list(iterate_requests(config.prompts, {"normal": 4}, seed=0))
    together = made(generator, wanted)
    alone = [result for request in wanted for result in generator.generate([request])]
    three_and_one = [*made(generator, wanted[:3]), *made(generator, wanted[3:])]
    for results in (alone, three_and_one):
        for one, other in zip(together, results, strict=True):
            assert (one.pixels == other.pixels).all()


def test_it_describes_itself(config):
    (generator,) = config.generators().values()
    assert generator.card.title
    assert generator.block_size is None or generator.block_size >= 1
    assert isinstance(generator.learning_record(), LearningRecord | None)
    assert isinstance(generator.model_ledger(), Ledger)
    assert identity(generator) == identity(*config.generators().values())
