"""Engines, number formats, adapters, and weights that are not there or not whole."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators import _hub
from xraysynth.generation.generators._engines import resolve_device, resolve_dtype
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.generation.ledger import Ledger
from xraysynth.records import Request
from xraysynth.seeds import identity

REQUESTS = [Request("normal", n, "chest x-ray", "text", n) for n in range(3)]


def drawn(**options):
    generator = StableDiffusion(**{"steps": 2, "batch_size": 2} | options)
    results = list(generator.generate(REQUESTS))
    assert [result.outcome for result in results] == ["image"] * 3
    return np.stack([result.pixels for result in results]).astype(int)


def test_openvino_in_bfloat16_draws_what_torch_draws(tiny_sd):
    pytest.importorskip("openvino")
    ours = drawn(model=str(tiny_sd), engine="openvino", dtype="bfloat16")
    assert 0 < np.abs(ours - drawn(model=str(tiny_sd))).max() <= 12


@pytest.mark.slow
def test_openvino_in_float32_takes_the_conditions_of_xl(tiny_xl):
    pytest.importorskip("openvino")
    ours = drawn(model=str(tiny_xl), engine="openvino")
    assert np.abs(ours - drawn(model=str(tiny_xl))).max() <= 1


def test_openvino_that_is_not_installed_is_named_with_its_extra(tiny_sd, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'xraysynth\[openvino\]'"):
        drawn(model=str(tiny_sd), engine="openvino")


@pytest.mark.slow
def test_a_compiled_unet_draws_what_torch_draws(tiny_sd):
    difference = np.abs(drawn(model=str(tiny_sd), engine="compile") - drawn(model=str(tiny_sd)))
    assert difference.max() <= 1


@pytest.mark.slow
def test_the_benchmark_ends_with_one_line_of_json():
    script = Path(__file__).parents[3] / "benchmarks" / "generation.py"
    done = subprocess.run(
        [sys.executable, script, "--tiny"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"name", "ratio", "ours", "theirs", "unit", "device", "n"} <= set(result)
    assert result["prediction_error"] < 3e-2


def test_auto_is_half_precision_only_where_it_saves_time(monkeypatch):
    import torch

    def on(device, parameters=860_000_000, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda: bf16)
        return resolve_dtype("auto", device=device, parameters=parameters)

    assert on("cpu") == on("cuda") == "bfloat16"
    assert on("cuda", bf16=False) == "float16"
    assert on("cpu", bf16=False) == "float32"
    assert on("cpu", parameters=4_000_000) == "float32"
    assert resolve_dtype("float16", device="cpu", parameters=1) == "float16"


def test_the_decoder_of_a_float16_model_works_in_a_wider_format(tiny_sd):
    import torch

    generator = StableDiffusion(model=str(tiny_sd), dtype="float16")
    assert generator.pipeline.unet.dtype == torch.float16
    assert generator.pipeline.vae.dtype == torch.float32


def test_bfloat16_draws_nearly_the_same(tiny_sd):
    difference = drawn(model=str(tiny_sd), dtype="bfloat16") - drawn(model=str(tiny_sd))
    assert np.abs(difference).mean() < 3


def test_a_device_that_engine_or_memory_cannot_have_is_refused(monkeypatch):
    import torch

    def resolve(device, engine="torch", memory="none"):
        return resolve_device("generator.x", device=device, engine=engine, memory=memory)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        resolve("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve("auto") == "cuda"
    assert resolve("auto", engine="openvino") == "cpu"
    assert resolve("cuda:1", memory="offload") == "cuda:1"
    with pytest.raises(ConfigError, match="engine=openvino runs on the CPU"):
        resolve("cuda", engine="openvino")
    with pytest.raises(ConfigError, match="between CPU and GPU, but the device is cpu"):
        resolve("cpu", memory="sequential")


def test_slicing_changes_memory_and_not_the_image(tiny_sd):
    sliced = StableDiffusion(model=str(tiny_sd), memory="slicing")
    assert identity(sliced) == identity(StableDiffusion(model=str(tiny_sd)))
    difference = drawn(model=str(tiny_sd), memory="slicing") - drawn(model=str(tiny_sd))
    assert np.abs(difference).max() <= 1


def test_what_decides_pixels_is_part_of_the_identity(tiny_sd, tiny_vae):
    base = identity(StableDiffusion(model=str(tiny_sd)))
    options = [{"engine": "openvino"}, {"dtype": "bfloat16"}, {"tiny_vae": str(tiny_vae)}]
    others = [identity(StableDiffusion(model=str(tiny_sd), **option)) for option in options]
    assert all(other != base for other in others)
    assert others[2]["content"] != base["content"]


@pytest.fixture(scope="module")
def tiny_vae(tmp_path_factory):
    import torch
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-vae")
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(folder)
    return folder


def test_a_decoder_whose_weights_are_not_in_the_file_is_refused(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), tiny_vae=str(tiny_sd / "vae"), steps=2)
    with pytest.raises(ConfigError, match=r"tiny_vae: .* does not hold a tiny VAE .* are missing"):
        _ = generator.pipeline


def test_a_small_decoder_takes_the_place_of_the_vae(tiny_sd, tiny_vae):
    generator = StableDiffusion(model=str(tiny_sd), tiny_vae=str(tiny_vae), steps=2)
    results = list(generator.generate(REQUESTS))
    assert type(generator.pipeline.vae).__name__ == "AutoencoderTiny"
    assert {r.pixels.shape for r in results if r.pixels is not None} <= {(32, 32)}
    measured = generator.model_ledger()
    assert measured.bytes_on_disk < weight_bytes(tiny_sd)


def weight_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


@pytest.fixture
def lora(tiny_sd, tmp_path):
    """A LoRA on the attention of the tiny model, large enough to be seen."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    unet = pipeline.unet
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    for name, weight in unet.named_parameters():
        if "lora" in name:
            weight.data = torch.randn_like(weight)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    pipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers)
    return tmp_path / "lora"


def test_an_adapter_is_fused_and_is_part_of_the_identity(tiny_sd, lora):
    plain = StableDiffusion(model=str(tiny_sd))
    adapted = StableDiffusion(model=str(tiny_sd), adapter=str(lora), scheduler="lcm", guidance=1.0)
    assert identity(plain)["content"] != identity(adapted)["content"]
    changed = drawn(model=str(tiny_sd), adapter=str(lora)) != drawn(model=str(tiny_sd))
    assert changed.any()
    assert not [n for n, _ in adapted.pipeline.unet.named_modules() if "lora" in n]


def test_an_adapter_of_another_model_is_refused(tiny_sd, lora, tmp_path):
    from safetensors.numpy import load_file, save_file

    file = lora / "pytorch_lora_weights.safetensors"
    save_file({name: np.tile(v, (3, 3)) for name, v in load_file(file).items()}, file)
    with pytest.raises(ConfigError, match=r"adapter: .* is no LoRA for this model"):
        drawn(model=str(tiny_sd), adapter=str(file))


def test_an_adapter_from_the_hub_must_be_pinned(tiny_sd):
    with pytest.raises(ConfigError, match="adapter_revision must be the 40-digit commit"):
        identity(StableDiffusion(model=str(tiny_sd), adapter="owner/lora"))


def test_it_says_what_it_measured(tiny_sd):
    generator = StableDiffusion(model=str(tiny_sd), steps=2)
    assert generator.model_ledger() == Ledger(engine="torch", steps=2, dtype="auto")
    list(generator.generate(REQUESTS))
    measured = generator.model_ledger()
    assert measured.device == "cpu"
    assert measured.dtype == "float32"
    assert measured.bytes_on_disk == weight_bytes(tiny_sd)
    assert measured.parameters * 4 == pytest.approx(measured.bytes_on_disk, rel=0.1)
    assert measured.load_seconds > 0


def test_a_truncated_file_is_named_with_the_remedy(tiny_sd, tmp_path):
    shutil.copytree(tiny_sd, tmp_path / "cut")
    file = tmp_path / "cut" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataNotFoundError, match=rf"{file} is damaged or cut short .* download it"):
        drawn(model=str(tmp_path / "cut"))


def test_pickles_are_never_read(tiny_sd, tmp_path):
    shutil.copytree(tiny_sd, tmp_path / "old")
    (tmp_path / "old" / "unet" / "diffusion_pytorch_model.safetensors").rename(
        tmp_path / "old" / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(
        DataNotFoundError, match=r"model.bin, a pickle.*safetensors.*save_pretrained"
    ):
        drawn(model=str(tmp_path / "old"))
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "v1-5.ckpt").write_bytes(b"x")
    with pytest.raises(DataNotFoundError, match=r"v1-5.ckpt, a pickle"):
        drawn(model=str(tmp_path / "single"))


def test_a_folder_that_is_no_model_says_what_is_missing(tiny_sd, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no readable model_index\.json"):
        drawn(model=str(tmp_path))
    shutil.copytree(tiny_sd, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "unet")
    with pytest.raises(DataNotFoundError, match=r"no weights .* in .*unet"):
        drawn(model=str(tmp_path / "part"))


def fails(match):
    with pytest.raises(DataNotFoundError, match=match):
        drawn(model="owner/model", revision="a" * 40)


@pytest.fixture
def asked(monkeypatch):
    """What the hub's own library was asked for, which tries again for most of a minute."""
    from diffusers import DiffusionPipeline

    download, places = DiffusionPipeline.download, []

    def noted(place, **options):
        if not options["local_files_only"]:
            places.append(place)
            raise OSError("it was asked")
        return download(place, **options)

    monkeypatch.setattr(DiffusionPipeline, "download", noted)
    return places


@pytest.fixture
def online(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return lambda endpoint: monkeypatch.setattr(constants, "ENDPOINT", endpoint)


def test_a_hub_that_refuses_is_given_up_at_once(online, asked):
    online("http://127.0.0.1:9")
    fails(r"owner/model \(http://127.0.0.1:9 cannot be reached")
    assert asked == []


def test_a_hub_that_never_answers_is_given_up_within_seconds(online, asked, monkeypatch):
    assert _hub.HUB_TIMEOUT_SECONDS <= 5
    monkeypatch.setattr(_hub, "HUB_TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        online(f"http://127.0.0.1:{silent.getsockname()[1]}")
        fails("cannot be reached: .*(timed out|no answer in 0.5 s)")
    assert asked == []


def test_a_hub_that_answers_is_asked(online, asked):
    with Hub() as hub:
        online(hub.url)
        fails("it was asked")
    assert asked == ["owner/model"]


def test_a_hub_is_never_asked_offline(monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
        fails("HF_HUB_OFFLINE is set")
        hub.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has knocked
            hub.accept()


def test_a_damaged_file_in_the_cache_is_named_where_there_is_no_hub(tiny_sd, online, tmp_path):
    snapshot = tmp_path / "models--owner--model" / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_sd, snapshot)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    online("http://127.0.0.1:9")
    fails(r"unet/diffusion_pytorch_model.safetensors is damaged.*reached")


def test_a_pinned_snapshot_in_the_cache_needs_no_hub(tiny_sd, online, asked, tmp_path):
    snapshot = tmp_path / "models--owner--model" / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_sd, snapshot)
    online("http://127.0.0.1:9")
    assert (drawn(model="owner/model", revision="a" * 40) == drawn(model=str(tiny_sd))).all()
    assert asked == []
