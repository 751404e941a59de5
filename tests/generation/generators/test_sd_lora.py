import json
import shutil

import numpy as np
import pytest
from tiny_sd import save_tiny_lora, save_tiny_sd

from xraysynth import compose
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators.base import FinetunableGenerator
from xraysynth.generation.generators.sd_lora import SdLora
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.generation.lora.folder import FINETUNE_IDENTITY_FILE, LORA_WEIGHT_NAME
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import LEARNING_RECORD_FILE, Request
from xraysynth.seeds import digest, identity

OPTIONS = {"steps": 2, "batch_size": 2}


def request(label="normal", index=0):
    return Request(label, index, "chest x-ray", "", 7 + index)


def drawn(generator, label="normal"):
    (result,) = generator.generate([request(label)])
    assert result.outcome == "image", result.reason
    return result.pixels


def test_it_is_a_learner():
    assert isinstance(SdLora(), FinetunableGenerator)
    assert not isinstance(StableDiffusion(), FinetunableGenerator)


def test_the_lora_decides_the_image_and_its_scale_how_much(tiny_sd, tiny_lora):
    base = drawn(StableDiffusion(model=str(tiny_sd), **OPTIONS))
    options = {"model": str(tiny_sd), "weights": str(tiny_lora), **OPTIONS}
    full, half, none = (drawn(SdLora(scale=scale, **options)) for scale in (1.0, 0.5, 0.0))
    assert (none == base).all()
    distance = [np.abs(image.astype(int) - base).mean() for image in (half, full)]
    assert 0 < distance[0] < distance[1]
    by_file = SdLora(**options | {"weights": str(tiny_lora / LORA_WEIGHT_NAME)})
    assert (drawn(by_file) == full).all()


def test_images_are_those_of_diffusers_with_the_same_lora(tiny_sd, tiny_lora):
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++"
    )
    pipeline.load_lora_weights(str(tiny_lora), weight_name=LORA_WEIGHT_NAME)
    expected = pipeline(
        "chest x-ray",
        negative_prompt="",
        num_inference_steps=2,
        guidance_scale=2.0,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images[0, ..., 0]
    own = drawn(SdLora(model=str(tiny_sd), weights=str(tiny_lora), **OPTIONS))
    assert np.abs(own / 255 - expected).max() < 2 / 255


def test_with_a_lora_a_class_each_class_is_drawn_by_its_own(tiny_sd, tmp_path):
    for seed, label in enumerate(("normal", "covid19")):
        save_tiny_lora(tiny_sd, tmp_path / "both" / label, seed=seed)
    options = {"model": str(tiny_sd), **OPTIONS}
    both = SdLora(weights=str(tmp_path / "both"), **options)
    for label in ("normal", "covid19"):
        own = SdLora(weights=str(tmp_path / "both" / label), **options)
        assert (drawn(both, label) == drawn(own, label)).all()
    assert (drawn(both, "normal") != drawn(both, "covid19")).any()
    assert both.model_ledger().trained_parameters == 2 * own.model_ledger().trained_parameters
    loads = [part.model_ledger().load_seconds for part in both._class_generators.values()]
    assert both.model_ledger().load_seconds == pytest.approx(sum(loads))
    with pytest.raises(ConfigError, match="none for class pneumonia"):
        drawn(both, "pneumonia")


def test_the_record_of_what_was_seen_counts_for_each_class_too(tiny_sd, tmp_path):
    save_tiny_lora(tiny_sd, tmp_path / "normal")
    (tmp_path / LEARNING_RECORD_FILE).write_text(json.dumps({"patients": ["a/1"], "sha256": []}))
    for weights in (tmp_path, tmp_path / "normal", tmp_path / "normal" / LORA_WEIGHT_NAME):
        assert SdLora(model=str(tiny_sd), weights=str(weights)).learning_record().patients == [
            "a/1"
        ]


def test_the_identity_follows_the_weights_and_not_their_place(tiny_sd, tiny_lora, tmp_path):
    def known(**options):
        return identity(SdLora(model=str(tiny_sd), **options))

    copy = shutil.copytree(tiny_lora, tmp_path / "copy")
    other = save_tiny_lora(tiny_sd, tmp_path / "other", seed=5)
    assert known(weights=str(tiny_lora)) == known(weights=str(copy))
    assert known(weights=str(tiny_lora)) != known(weights=str(other))
    assert known(weights=str(tiny_lora)) != known(weights=str(tiny_lora), scale=0.5)
    untaught = SdLora(model=str(tiny_sd))
    one, two = (identity(untaught.with_weights(by, tmp_path / "later")) for by in ("a", "b"))
    assert one != two  # known before there are any weights


def velocity_model(folder, base):
    """A tiny model that predicts velocity and is published with scheduler `base`."""
    import diffusers

    save_tiny_sd(folder)
    options = {
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "steps_offset": 1,
    }
    if base == "DDIMScheduler":
        options["clip_sample"] = False
    scheduler = getattr(diffusers, base)(**options)
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", base]
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


def taught_with_zero_terminal_snr(tiny_lora, folder):
    """The folder of a LoRA whose record says so."""
    shutil.copytree(tiny_lora, folder)
    (folder / FINETUNE_IDENTITY_FILE).write_text(
        json.dumps({"recipe": {"zero_terminal_snr": True}})
    )
    return str(folder)


@pytest.mark.parametrize(
    ("base", "scheduler"),
    [
        ("PNDMScheduler", "dpm-solver++"),
        ("PNDMScheduler", "ddim"),
        ("LMSDiscreteScheduler", "unipc"),
        ("LMSDiscreteScheduler", "lcm"),
        ("DDIMScheduler", "euler"),
    ],
)
def test_images_are_drawn_from_the_schedule_that_was_trained(tiny_lora, tmp_path, base, scheduler):
    generator = SdLora(
        model=velocity_model(tmp_path / "model", base),
        weights=taught_with_zero_terminal_snr(tiny_lora, tmp_path / "lora"),
        scheduler=scheduler,
        **OPTIONS,
    )
    sampler = generator.pipeline.scheduler
    assert float(sampler.alphas_cumprod[-1]) <= 2**-24
    assert sampler.config.timestep_spacing == "trailing"
    assert sampler.config.prediction_type == "v_prediction"
    drawn(generator)


def test_a_scheduler_that_cannot_do_it_is_refused_naming_those_that_can(
    tiny_lora, tmp_path, monkeypatch
):
    from xraysynth.generation.generators.stable_diffusion import SCHEDULERS

    monkeypatch.setitem(SCHEDULERS, "ddim", ("PNDMScheduler", {}))
    generator = SdLora(
        model=velocity_model(tmp_path / "model", "EulerDiscreteScheduler"),
        weights=taught_with_zero_terminal_snr(tiny_lora, tmp_path / "lora"),
        scheduler="ddim",
        **OPTIONS,
    )
    with pytest.raises(ConfigError, match=r"scheduler=ddim: PNDM.* one of dpm-.*, unipc, euler"):
        _ = generator.pipeline


def test_only_images_that_are_drawn_otherwise_now_are_drawn_again(tiny_lora, tmp_path):
    lora = LoraRecipe(zero_terminal_snr=True)
    for base, again in (("PNDMScheduler", True), ("DDIMScheduler", False)):
        model = velocity_model(tmp_path / base, base)
        generator = SdLora(model=model, lora=lora).with_weights("abc", tmp_path)
        before = digest([StableDiffusion.content_digest(generator), "abc"])
        assert (generator.content_digest() != before) is again
        plain = SdLora(model=model).with_weights("abc", tmp_path)
        assert plain.content_digest() == before


def test_without_weights_it_says_what_to_do(tiny_sd, tmp_path):
    with pytest.raises(ConfigError, match=r"no LoRA yet; it is made by xraysynth finetune"):
        drawn(SdLora(model=str(tiny_sd), **OPTIONS))
    with pytest.raises(DataNotFoundError, match=f"no {LORA_WEIGHT_NAME} in"):
        drawn(SdLora(model=str(tiny_sd), weights=str(tmp_path), **OPTIONS))


def test_a_pickle_is_never_read(tiny_sd, tmp_path):
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ConfigError, match="only safetensors are loaded"):
        drawn(SdLora(model=str(tiny_sd), weights=str(tmp_path / "pytorch_lora_weights.bin")))
    with pytest.raises(DataNotFoundError, match="is a pickle and is not read"):
        drawn(SdLora(model=str(tiny_sd), weights=str(tmp_path)))


def test_a_truncated_file_is_named(tiny_sd, tiny_lora, tmp_path):
    data = (tiny_lora / LORA_WEIGHT_NAME).read_bytes()
    (tmp_path / LORA_WEIGHT_NAME).write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=rf"{LORA_WEIGHT_NAME} cannot be put on .* damaged"):
        drawn(SdLora(model=str(tiny_sd), weights=str(tmp_path), **OPTIONS))


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")  # what is refused here
def test_a_file_of_which_diffusers_would_drop_a_part_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    embedded = StableDiffusion().model_folder  # its first layers are convolutions, which misleads
    save_tiny_lora(embedded, tmp_path / "whole", targets=("to_q", "conv1"))
    drawn(SdLora(weights=str(tmp_path / "whole"), **OPTIONS))
    old = {  # as diffusers' converter names attention, beside convolutions in peft's names
        k.replace("lora_A", "lora.down").replace("lora_B", "lora.up") if "attn" in k else k: v
        for k, v in load_file(tmp_path / "whole" / LORA_WEIGHT_NAME).items()
    }
    (tmp_path / "mixed").mkdir()
    save_file(old, tmp_path / "mixed" / LORA_WEIGHT_NAME)
    with pytest.raises(ConfigError, match=r"of \d+ weights .* has put \d+ on the model"):
        drawn(SdLora(weights=str(tmp_path / "mixed"), **OPTIONS))


def test_a_lora_of_another_base_is_refused(tiny_sd, tiny_lora, tmp_path):
    copy = shutil.copytree(tiny_lora, tmp_path / "lora")
    (copy / FINETUNE_IDENTITY_FILE).write_text(json.dumps({"base": "0" * 64}))
    with pytest.raises(ConfigError, match="adapts another model than"):
        drawn(SdLora(model=str(tiny_sd), weights=str(copy), **OPTIONS))
    (copy / FINETUNE_IDENTITY_FILE).write_text(
        json.dumps(SdLora(model=str(tiny_sd)).finetune_identity())
    )
    drawn(SdLora(model=str(tiny_sd), weights=str(copy), **OPTIONS))


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")  # what is refused here
def test_a_lora_of_other_shapes_is_refused(tiny_lora):
    with pytest.raises(ConfigError, match="the LoRA of another model"):
        drawn(SdLora(weights=str(tiny_lora), **OPTIONS))  # the embedded model is wider


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rank=0", "lora.rank must be at least 1; got 0"),
        ("alpha=0", "lora.alpha must be above 0; got 0"),
        ("dropout=1", r"lora.dropout must lie in \[0, 0.99\]"),
        ("precision=int8", "lora.precision must be one of"),
        ("optimizer=sgd", "generator.sd_lora.lora.optimizer"),
        ("rnak=3", r"no option 'generator.sd_lora.lora.rnak'; did you mean '.*rank'"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_loaded(option, message):
    with pytest.raises(ConfigError, match=message):
        compose(["generator=sd_lora", f"generator.sd_lora.lora.{option}"])


def test_the_recipe_of_the_config_arrives():
    (own,) = compose(["generator=sd_lora", "generator.sd_lora.lora.rank=3"]).generators().values()
    assert isinstance(own.lora, LoraRecipe)
    assert own.lora.rank == 3
    assert own.lora.per_class
    assert own.finetune_identity()["recipe"]["rank"] == 3
    assert own.finetune_identity() != SdLora().finetune_identity()


def test_another_model_has_another_lesson(tiny_sd, tmp_path):
    other = save_tiny_sd(tmp_path / "sd", seed=1)
    assert (
        SdLora(model=str(tiny_sd)).finetune_identity()
        != SdLora(model=str(other)).finetune_identity()
    )
