"""Model folders as people have them: variants and shards are read, what is not whole is refused."""

import json
import re
import shlex
import shutil

import pytest
import safetensors.torch
import torch
from model_hub import COMMIT, ModelHub
from safetensors.torch import load_file, save_file

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.records import Request

REQUEST = Request("normal-0", "normal", "normal lungs", "", 0)
COMPONENTS = ("unet", "vae", "text_encoder")


def drawn(model, **options):
    """The image of one request, and what the ledger says of the model."""
    generator = StableDiffusion(model=str(model), steps=1, batch_size=1, **options)
    (result,) = generator.generate([REQUEST])
    assert result.outcome == "image", result.reason
    return result.pixels.tobytes(), generator


def refused(model, match, error=DataNotFoundError, **options):
    with pytest.raises(error, match=match) as found:
        drawn(model, **options)
    return str(found.value)


@pytest.fixture
def copy(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "model")


def weights_of(model, component):
    (file,) = (model / component).glob("*.safetensors")
    return file


def to_variant(model, variant, dtype, components=COMPONENTS):
    """Only *.<variant>.safetensors, as a download with this variant leaves a folder."""
    for component in components:
        file = weights_of(model, component)
        state = {name: value.to(dtype) for name, value in load_file(file).items()}
        save_file(state, file.with_suffix(f".{variant}.safetensors"), {"format": "pt"})
        file.unlink()
    return model


def to_shards(model, component, variant=""):
    """The weights in two files and an index, as large models are saved."""
    file = weights_of(model, component)
    state, part = load_file(file), f".{variant}" if variant else ""
    stem, names = file.name.split(".")[0], sorted(state)
    shards = [f"{stem}{part}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {name: shards[number % 2] for number, name in enumerate(names)}
    for shard in shards:
        held = {name: state[name] for name in names if weight_map[name] == shard}
        save_file(held, file.with_name(shard), {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    file.with_name(f"{stem}.safetensors.index{part}.json").write_text(json.dumps(index))
    file.unlink()
    return model


def change(model, component, edit):
    file = weights_of(model, component)
    state = load_file(file)
    edit(state)
    save_file(state, file, {"format": "pt"})


@pytest.mark.parametrize(("variant", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_folder_of_a_variant_alone_draws_what_its_rounded_weights_draw(
    tiny_sd, tmp_path, variant, dtype
):
    rounded = shutil.copytree(tiny_sd, tmp_path / "rounded")
    for component in COMPONENTS:
        change(rounded, component, lambda s: s.update({k: v.to(dtype) for k, v in s.items()}))
    model = to_variant(shutil.copytree(tiny_sd, tmp_path / variant), variant, dtype)
    image, generator = drawn(model)
    plain, plain_generator = drawn(rounded)
    assert image == plain != drawn(tiny_sd)[0]
    assert generator.model_ledger().variant == variant
    assert generator.model_ledger().dtype == "float32"
    assert plain_generator.model_ledger().variant is None


def test_components_may_be_of_different_variants(copy, tiny_sd):
    image, generator = drawn(to_variant(copy, "fp16", torch.float16, ["unet"]))
    assert image != drawn(tiny_sd)[0]
    assert generator.model_ledger().variant == "fp16"
    to_variant(copy, "bf16", torch.bfloat16, ["vae"])
    assert drawn(copy)[1].model_ledger().variant == "bf16, fp16"


def test_weights_without_variant_are_preferred(copy, tiny_sd):
    plain = {component: weights_of(copy, component).read_bytes() for component in COMPONENTS}
    names = {component: weights_of(copy, component).name for component in COMPONENTS}
    to_variant(copy, "fp16", torch.float16)
    for component, data in plain.items():
        (copy / component / names[component]).write_bytes(data)
    image, generator = drawn(copy)
    assert image == drawn(tiny_sd)[0]
    assert generator.model_ledger().variant is None


@pytest.mark.parametrize("component", COMPONENTS)
def test_shards_are_read(copy, tiny_sd, component):
    assert drawn(to_shards(copy, component))[0] == drawn(tiny_sd)[0]


def test_shards_of_a_variant_are_read(copy):
    to_variant(copy, "fp16", torch.float16)
    expected = drawn(copy)[0]
    to_shards(copy, "unet", "fp16")
    image, generator = drawn(copy)
    assert image == expected
    assert generator.model_ledger().variant == "fp16"


def test_a_shard_that_is_not_there_is_named(copy):
    to_shards(copy, "unet")
    (copy / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused(
        copy, r"lists 2 files of weights, of which \S+-00002-of-00002.safetensors are not there"
    )


def test_several_variants_and_none_without_are_refused(copy):
    other = to_variant(shutil.copytree(copy, copy.parent / "ema"), "non_ema", torch.float32)
    to_variant(copy, "fp16", torch.float16)
    shutil.copytree(other, copy, dirs_exist_ok=True)
    refused(
        copy, "has weights in the variants fp16, non_ema, and none without; keep the files of one"
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_of_which_weights_are_missing_is_refused(copy, component):
    change(copy, component, lambda state: state.pop(sorted(state)[1]))
    refused(
        copy, rf"/{component} does not hold the {component} of this model: 1 weights are missing"
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_with_weights_of_another_model_is_refused(copy, component):
    change(copy, component, lambda state: state.update({"extra.weight": torch.zeros(1)}))
    refused(copy, r"1 weights belong to another model \(extra.weight\)")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_of_another_shape_is_refused(copy, component):
    def widen(state):
        name = next(n for n in sorted(state) if n.endswith("weight") and state[n].ndim > 1)
        state[name] = torch.cat([state[name], state[name]])

    change(copy, component, widen)
    refused(copy, "download the model again")


def test_buffers_that_earlier_versions_saved_do_no_harm(copy, tiny_sd):
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    change(copy, "text_encoder", lambda state: state.update(ids))
    assert drawn(copy)[0] == drawn(tiny_sd)[0]


@pytest.mark.parametrize("component", [*COMPONENTS, "tokenizer", "scheduler"])
def test_a_component_that_is_not_there_is_named(copy, component):
    shutil.rmtree(copy / component)
    refused(copy, rf"{component}.*download the model again")


def test_a_tokenizer_without_its_vocabulary_is_refused(copy):
    (copy / "tokenizer" / "tokenizer.json").unlink()
    refused(copy, r"tokenizer.*download the model again")


@pytest.mark.parametrize("component", [*COMPONENTS, "tokenizer"])
def test_a_component_that_the_index_leaves_out_is_named(copy, component):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {component: [None, None]}))
    refused(copy, rf"no {component}.*download the model again")


def test_pickles_are_refused_with_a_command_that_converts_them(copy, tiny_sd):
    for component in COMPONENTS:
        file = weights_of(copy, component)
        stem = "pytorch_model" if file.stem == "model" else file.stem
        torch.save(load_file(file), file.with_name(f"{stem}.bin"))
        file.unlink()
    message = refused(copy, "a pickle, which can run code when it is read")
    python, option, code = shlex.split(message.split("where you trust it: ")[1])
    assert (python, option) == ("python", "-c")
    exec(code)
    assert drawn(copy.parent / "model-safetensors")[0] == drawn(tiny_sd)[0]


@pytest.mark.parametrize("name", ["v1-5.ckpt", "v1-5.safetensors", "unet.pt"])
def test_a_single_file_is_refused_with_a_command_that_converts_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    message = refused(tmp_path / name, "Convert it")
    _, _, code = shlex.split(message.split(": ", 2)[2])
    assert f"P.from_single_file('{tmp_path / name}', safety_checker=None)" in code
    compile(code, name, "exec")


def test_an_export_for_openvino_is_refused_by_name(copy):
    for component in COMPONENTS:
        shutil.rmtree(copy / component)
        (copy / component).mkdir()
        for name in ("openvino_model.xml", "openvino_model.bin"):
            (copy / component / name).write_bytes(b"x")
    refused(
        copy, r"exported for OpenVINO; name the diffusers folder .* set [a-z_.]*\.engine=openvino"
    )


# LoRAs


@pytest.fixture
def lora(tiny_lora, tmp_path):
    return shutil.copytree(tiny_lora, tmp_path / "lora") / "pytorch_lora_weights.safetensors"


def edit_lora(file, rename):
    save_file(
        {rename(name): value for name, value in load_file(file).items()}, file, {"format": "pt"}
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_that_matches_nothing_is_refused(tiny_sd, lora):
    edit_lora(lora, lambda name: name.replace("unet.", "transformer."))
    message = refused(tiny_sd, r"adapter: ", ConfigError, adapter=str(lora))
    assert str(lora) in message
    assert "transformer." in message


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_of_which_a_part_matches_is_refused(tiny_sd, lora):
    edit_lora(lora, lambda name: name.replace("mid_block", "middle_block"))
    refused(tiny_sd, r"adapter: .*middle_block", ConfigError, adapter=str(lora))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_that_lacks_a_half_is_refused(tiny_sd, lora):
    state = load_file(lora)
    state.pop(next(name for name in sorted(state) if "lora_A" in name))
    save_file(state, lora, {"format": "pt"})
    refused(tiny_sd, r"adapter: ", ConfigError, adapter=str(lora))


def test_a_truncated_adapter_is_named(tiny_sd, lora):
    lora.write_bytes(lora.read_bytes()[:-10])
    refused(tiny_sd, r"pytorch_lora_weights.safetensors is damaged or cut short", adapter=str(lora))


@pytest.mark.parametrize("option", ["adapter", "weights", "tiny_vae"])
def test_a_pickled_adapter_is_refused_with_a_command_that_converts_it(tiny_sd, lora, option):
    from xraysynth.generation.generators.sd_lora import SdLora

    before = lora.read_bytes()
    pickle = lora.with_suffix(".bin")
    torch.save(load_file(lora), pickle)
    lora.unlink()
    generator = (SdLora if option == "weights" else StableDiffusion)(
        model=str(tiny_sd), steps=1, **{option: str(pickle)}
    )
    with pytest.raises((ConfigError, DataNotFoundError), match="a pickle") as refusal:
        list(generator.generate([REQUEST]))
    _, _, code = shlex.split(re.split("[Cc]onvert it: ", str(refusal.value))[1])
    exec(code)
    assert load_file(lora).keys() == safetensors.torch.load(before).keys()


def test_a_tiny_vae_of_a_variant_is_read(tiny_sd, tmp_path):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    vae = AutoencoderTiny(**channels, **blocks)
    vae.half().save_pretrained(tmp_path / "tiny", variant="fp16")
    assert [path.name for path in (tmp_path / "tiny").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    assert drawn(tiny_sd, tiny_vae=str(tmp_path / "tiny"))[0] != drawn(tiny_sd)[0]


def test_a_tiny_vae_without_its_configuration_is_refused(tiny_sd, tmp_path):
    shutil.copy(weights_of(tiny_sd, "vae"), tmp_path / "taesd_decoder.safetensors")
    match = "tiny_vae: .*taesd_decoder.safetensors cannot be loaded as a tiny VAE"
    refused(tiny_sd, match, ConfigError, tiny_vae=str(tmp_path))


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with ModelHub({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
        yield hub


def test_a_model_of_the_hub_is_downloaded_in_the_variant_that_is_there(hub, tiny_sd, tmp_path):
    half = to_variant(shutil.copytree(tiny_sd, tmp_path / "half"), "fp16", torch.float16)
    mixed = shutil.copytree(tiny_sd, tmp_path / "mixed")
    to_variant(mixed, "fp16", torch.float16, ["unet", "text_encoder"])
    hub.folders |= {"a/plain": tiny_sd, "a/half": half, "a/mixed": mixed}
    for name, folder in hub.folders.items():
        image, generator = drawn(name, revision=COMMIT)
        expected, local = drawn(folder)
        assert image == expected
        assert generator.model_ledger().variant == local.model_ledger().variant
    hub.sent.clear()
    drawn("a/half", revision=COMMIT)
    assert hub.sent == []


def test_a_model_of_the_hub_that_holds_pickles_alone_is_refused(hub, copy):
    for component in COMPONENTS:
        file = weights_of(copy, component)
        file.rename(file.with_suffix(".bin"))
    hub.folders["a/old"] = copy
    message = refused("a/old", "no weights as safetensors", revision=COMMIT)
    code = shlex.split(message.split("convert them: ")[1].split("). Connect")[0])[2]
    assert f"P.from_pretrained('a/old', use_safetensors=False, revision='{COMMIT}')" in code
    assert "diffusion_pytorch_model.bin" not in hub.sent
