"""Every option of the generator group keeps the promises of generators/base.py."""

import numpy as np
import pandas as pd
import pytest
from small_study import write_image

from xraysynth.config import compose, options
from xraysynth.prompts import requests
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


@pytest.fixture(params=options("generator"))
def config(request, tiny_sd, archive):
    arguments = {
        "stable_diffusion": [f"model={tiny_sd}", "steps=2", "batch_size=3"],
        "archive": [f"folder={archive}"],
    }
    name = request.param
    chosen = [f"generator.{name}.{argument}" for argument in arguments[name]]
    return compose([f"generator={name}", *chosen])


def test_the_key_in_the_config_is_the_name_of_the_option(config):
    (key,) = config.generator
    assert key in options("generator")


def test_one_result_per_request_in_order_and_repeatable(config):
    (generator,) = config.generators().values()
    wanted = list(requests(config.prompts, {"normal": 4, "covid19": 1}, seed=0))
    first, second = list(generator.generate(wanted)), list(generator.generate(wanted))
    assert [r.request.image_id for r in first] == [r.image_id for r in wanted]
    for one, other in zip(first, second, strict=True):
        assert one.outcome == other.outcome == "image"
        assert one.pixels.dtype == np.uint8
        assert one.pixels.ndim == 2
        assert (one.pixels == other.pixels).all()


def test_an_image_does_not_depend_on_what_else_is_asked_for(config):
    (generator,) = config.generators().values()
    wanted = list(requests(config.prompts, {"normal": 4}, seed=0))
    together = list(generator.generate(wanted))
    alone = [result for request in wanted for result in generator.generate([request])]
    three_and_one = [*generator.generate(wanted[:3]), *generator.generate(wanted[3:])]
    for results in (alone, three_and_one):
        for one, other in zip(together, results, strict=True):
            assert (one.pixels == other.pixels).all()


def test_it_describes_itself(config):
    (generator,) = config.generators().values()
    assert generator.card.title
    assert generator.block >= 1
    assert identity(generator) == identity(*config.generators().values())
