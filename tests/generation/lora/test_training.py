import json
import os
import signal
import socket
import sys
from multiprocessing import get_context
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch.multiprocessing import start_processes
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

import xraysynth
from xraysynth.errors import ConfigError, DataNotFoundError, XraysynthError
from xraysynth.generation.lora import examples, tensor_files
from xraysynth.generation.lora.adapters import add_adapters, save_adapters
from xraysynth.generation.lora.checkpoint import CHECKPOINT
from xraysynth.generation.lora.recipe import LoraOptimizer, LoraRecipe
from xraysynth.generation.lora.training import train
from xraysynth.generation.lora.training_loop import learning_rate
from xraysynth.records import CaptionedImages

torch.set_num_threads(1)
PROMPTS = ["normal lungs", "lobar opacity", "apical cavity"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYTHING = [*ATTENTION, "conv1", "conv2", "ff.net.0.proj", "ff.net.2"]


def captioned(n, seed=0):
    """Images of n smooth random fields, each with two captions."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (n, 4, 4)).astype(np.uint8)
    return CaptionedImages(coarse.repeat(8, 1).repeat(8, 2), [PROMPTS[:2]] * n)


def recipe(**options):
    defaults = {"steps": 4, "batch_size": 4, "rank": 4, "alpha": 4, "learning_rate": 1e-3}
    return LoraRecipe(**defaults | options)


def load(folder):
    kind = (
        StableDiffusionXLPipeline
        if (folder / "text_encoder_2").exists()
        else StableDiffusionPipeline
    )
    return kind.from_pretrained(folder)


@pytest.fixture(autouse=True)
def few_validation_draws(monkeypatch):
    monkeypatch.setattr(examples, "MIN_VALIDATION_DRAWS", 16)


@pytest.fixture
def trained(tiny_sd, tmp_path):
    """Train a fresh pipeline; returns it and the result."""

    def run(recipe, *, folder="run", model=tiny_sd, validation=None, data=None, **options):
        pipeline = load(model)
        result = train(
            pipeline,
            data or captioned(10),
            validation,
            recipe,
            folder=tmp_path / folder,
            cache=tmp_path / "cache",
            **options,
        )
        return pipeline, result

    return run


def images(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 3, "height": 32, "width": 32, "guidance_scale": 3.0}
    return pipeline("lobar opacity", generator=generator, output_type="np", **options).images


def losses(result):
    return [entry["loss"] for entry in result.history]


def lora_weights(pipeline):
    return torch.cat([p.detach().flatten() for p in pipeline.unet.parameters() if p.requires_grad])


@pytest.fixture(scope="session")
def tiny_xl(tiny_sd, tmp_path_factory):
    """A Stable Diffusion XL of random weights around the same autoencoder."""
    from diffusers import UNet2DConditionModel

    small = StableDiffusionPipeline.from_pretrained(tiny_sd)
    torch.manual_seed(0)
    text = CLIPTextConfig(**small.text_encoder.config.to_dict() | {"projection_dim": 32})
    config = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 32 + 6 * 8}
    unet = UNet2DConditionModel.from_config(
        dict(small.unet.config)
        | config
        | {"cross_attention_dim": 64, "addition_embed_type": "text_time"}
    )
    pipeline = StableDiffusionXLPipeline(
        vae=small.vae,
        text_encoder=small.text_encoder,
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=small.tokenizer,
        tokenizer_2=small.tokenizer,
        unet=unet,
        scheduler=small.scheduler,
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("tiny-xl")
    pipeline.save_pretrained(folder)
    return folder


def test_it_learns(trained):
    validation = captioned(8, seed=1)
    options = {"steps": 36, "learning_rate": 1e-2, "val_every_steps": 12}
    pipeline, result = trained(recipe(**options, targets=EVERYTHING), validation=validation)
    scores = [e["val_loss"] for e in result.history if "val_loss" in e]
    assert len(scores) == 3
    assert scores[0] > scores[1] > scores[2] == result.val_loss
    assert np.mean(losses(result)[-12:]) < np.mean(losses(result)[:12]) * 0.95
    assert (result.steps, result.kept_step) == (36, 36)
    assert result.trained_parameters == lora_weights(pipeline).numel()
    assert {"step", "loss", "grad_norm", "lr", "seconds"} <= result.history[0].keys()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"targets": EVERYTHING, "rank": 2},
        {"rank": 4, "alpha": 16},
        {"text_encoder": True, "alpha": 8},
        {"ema_decay": 0.5},
        {"precision": "bf16"},
    ],
    ids=["attention", "everything", "alpha", "text encoder", "average", "bf16"],
)
def test_diffusers_draws_the_same_from_the_file(trained, tiny_sd, options):
    drawn = []
    pipeline, result = trained(
        recipe(**options, learning_rate=1e-2),
        validation=captioned(8) if options.get("precision") else None,
        on_validation=lambda p, step: drawn.append(images(p)),
    )
    assert np.isfinite(drawn).all()
    fresh = load(tiny_sd)
    untuned = images(fresh)
    fresh.load_lora_weights(result.weights.parent)
    pipeline.unet.float()
    assert layers(fresh) == layers(pipeline)
    found, expected = images(fresh), images(pipeline)
    tolerance = 0.02 if options.get("precision") else 1e-5
    assert np.abs(found - expected).max() < tolerance
    assert np.abs(found - untuned).max() > tolerance


def layers(pipeline):
    """Sums of the LoRA's matrices by the name of their module: one that is lost is missed."""
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    return {
        f"{part}.{name}".replace(".default_0", "").replace(".default", ""): weight.sum().item()
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if "lora_" in name
    }


@pytest.mark.slow
def test_compiled_it_learns_the_same(trained):
    curves = []
    for compiled in (False, True):
        own = recipe(compile=compiled, learning_rate=1e-2)
        _, result = trained(own, folder=str(compiled))
        curves.append([entry["loss"] for entry in result.history])
    assert np.allclose(*curves, atol=1e-4)


def test_the_file_names_no_folder_of_this_machine(tiny_sd, tmp_path):
    pipeline, options = load(tiny_sd), recipe(text_encoder=True)
    add_adapters(pipeline, options)
    path = save_adapters(pipeline, options, tmp_path)
    assert str(tiny_sd).encode() not in path.read_bytes()


def test_every_layer_of_the_embedded_model_comes_back(tmp_path):
    folder = Path(xraysynth.__file__).parent / "assets" / "tiny-sd"
    pipeline, fresh = load(folder), load(folder)
    own = recipe(targets=EVERYTHING, rank=2, alpha=6)
    weights = add_adapters(pipeline, own)
    for number, weight in enumerate(weights):
        torch.nn.init.constant_(weight, number)
    save_adapters(pipeline, own, tmp_path)
    fresh.load_lora_weights(tmp_path)
    assert len(layers(fresh)) == len(weights)
    assert layers(fresh) == layers(pipeline)


@pytest.mark.parametrize("text_encoder", [False, True])
def test_xl_is_trained_and_its_file_read_back(trained, tiny_xl, text_encoder):
    options = recipe(text_encoder=text_encoder, steps=3, learning_rate=1e-2, alpha=8)
    pipeline, result = trained(options, model=tiny_xl)
    fresh = load(tiny_xl)
    untuned = images(fresh)
    fresh.load_lora_weights(result.weights.parent)
    assert np.abs(images(fresh) - images(pipeline)).max() < 1e-5
    assert np.abs(images(fresh) - untuned).max() > 1e-4
    trained_encoders = any(
        p.requires_grad
        for p in [*pipeline.text_encoder.parameters(), *pipeline.text_encoder_2.parameters()]
    )
    assert trained_encoders == text_encoder


def test_xl_is_told_size_crop_and_pooled_caption(trained, tiny_xl, monkeypatch):
    from diffusers import UNet2DConditionModel

    seen = []
    real = UNet2DConditionModel.forward

    def forward(self, *args, **kwargs):
        seen.append(kwargs["added_cond_kwargs"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    trained(recipe(steps=1), model=tiny_xl)
    assert seen[0]["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 4
    assert seen[0]["text_embeds"].shape == (4, 32)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(trained):
    files = [
        trained(recipe(seed=seed, dropout=0.2), folder=name)[1].weights.read_bytes()
        for seed, name in ((3, "a"), (3, "b"), (4, "c"))
    ]
    assert files[0] == files[1] != files[2]


def test_training_leaves_the_callers_randomness_alone(trained):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    trained(recipe(steps=2, dropout=0.5))
    assert torch.equal(before, torch.random.get_rng_state())


def stop_after(step, seen=None):
    """An `on_log` that interrupts after a step."""

    def on_log(entry):
        if seen is not None:
            seen.append(entry)
        if entry["step"] == step:
            raise KeyboardInterrupt

    return on_log


def test_a_run_that_was_interrupted_repeats_the_uninterrupted(trained):
    options = {"checkpoint_every_steps": 3, "val_every_steps": 4, "patience": 9}
    options = recipe(steps=9, dropout=0.2, ema_decay=0.8, variants=2, **options)
    validation = captioned(8, seed=1)
    _, whole = trained(options, folder="whole", validation=validation)
    for stop_at, resumed in ((5, 5), (8, 7)):
        folder, seen = f"stopped at {stop_at}", []
        with pytest.raises(KeyboardInterrupt):
            trained(options, folder=folder, validation=validation, on_log=stop_after(stop_at))
        _, result = trained(options, folder=folder, validation=validation, on_log=seen.append)
        assert seen[0]["step"] == resumed
        np.testing.assert_allclose(losses(result), losses(whole), atol=1e-5)
        assert result.val_loss == pytest.approx(whole.val_loss, abs=1e-5)
        assert result.weights.read_bytes() == whole.weights.read_bytes()


def test_a_killed_process_goes_on_where_it_was(trained, tmp_path):
    options = recipe(steps=400, checkpoint_every_steps=1)

    def die(entry):
        if entry["step"] == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    process = get_context("fork").Process(target=trained, args=(options,), kwargs={"on_log": die})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    step = tensor_files.read_tensors(tmp_path / "run" / CHECKPOINT)[1]["step"]
    assert step == 5

    seen, expected = [], []
    with pytest.raises(KeyboardInterrupt):
        trained(options, on_log=stop_after(step + 4, seen))
    with pytest.raises(KeyboardInterrupt):
        trained(options, folder="whole", on_log=stop_after(step + 4, expected))
    assert [entry["step"] for entry in seen] == [step + 1, step + 2, step + 3, step + 4]
    for entry, other in zip(seen, expected[step:], strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_a_finished_run_is_not_run_again(trained):
    _, first = trained(recipe())
    seen = []
    pipeline, again = trained(recipe(), on_log=seen.append)
    assert not seen
    assert again.history == first.history
    assert lora_weights(pipeline).abs().sum() > 0


def test_a_checkpoint_of_something_else_is_refused(trained):
    trained(recipe(steps=2))
    for changed in ({"recipe": recipe(steps=3)}, {"data": captioned(10, seed=7)}):
        with pytest.raises(XraysynthError, match=r"checkpoint\.safetensors is a checkpoint of ano"):
            trained(**{"recipe": recipe(steps=2)} | changed)


def test_a_damaged_checkpoint_is_named(trained, tmp_path):
    trained(recipe(steps=2))
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(XraysynthError, match=r"checkpoint\.safetensors is damaged.*delete it"):
        trained(recipe(steps=2))


def test_a_full_disk_keeps_the_last_checkpoint(trained, tmp_path, monkeypatch):
    real, written = os.replace, []

    def full(source, target):
        if Path(target).name == CHECKPOINT:
            written.append(target)
            if len(written) == 2:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        trained(recipe(checkpoint_every_steps=2))
    _, facts = tensor_files.read_tensors(tmp_path / "run" / CHECKPOINT)
    assert facts["step"] == 2
    assert [p.name for p in (tmp_path / "run").iterdir()] == [CHECKPOINT]
    _, result = trained(recipe(checkpoint_every_steps=2))
    assert result.steps == 4


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(
    trained, tmp_path, monkeypatch
):
    from xraysynth.generation.lora.learner import Learner

    real = Learner._step_loss

    def broken(self, step, mine):
        return real(self, step, mine) * (float("nan") if step == 4 else 1)

    monkeypatch.setattr(Learner, "_step_loss", broken)
    with pytest.raises(XraysynthError, match=r"step 5: loss nan.*learning rate.*Lower lora\.lear"):
        trained(recipe(steps=6, checkpoint_every_steps=1))
    assert tensor_files.read_tensors(tmp_path / "run" / CHECKPOINT)[1]["step"] == 4


def test_clipping_bounds_the_gradient(trained, monkeypatch):
    """SGD with rate 1 moves by the gradient itself, so its length is what clipping bounds."""
    from xraysynth.generation.lora import learner

    monkeypatch.setattr(learner, "_optimizer", lambda p, r: torch.optim.SGD(p, lr=1.0))

    def moved(clip, folder):
        options = {"gradient_clip": clip, "learning_rate": 1.0, "warmup_fraction": 0.0}
        start, _ = trained(recipe(steps=1, **options | {"learning_rate": 1e-12}), folder=folder)
        end, result = trained(recipe(steps=1, **options), folder=folder + " moved")
        return (lora_weights(end) - lora_weights(start)).norm().item(), result

    free, result = moved(0.0, "free")
    norm = result.history[0]["grad_norm"]
    assert free == pytest.approx(norm, rel=1e-3)
    clipped, result = moved(norm / 10, "clipped")
    assert clipped == pytest.approx(norm / 10, rel=1e-3)
    assert result.history[0]["grad_norm"] == pytest.approx(norm, rel=1e-5)  # before clipping


def on_two(rank, folder, model, options, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    for name in ("first", "second"):  # the process group must go down, and come up again
        result = train(
            load(model),
            captioned(10),
            captioned(8, seed=1),
            recipe(**options),
            folder=folder / name,
            cache=folder / "cache",
            on_log=lambda entry: print(entry, file=(folder / f"{rank}.log").open("a")),
        )
        assert not torch.distributed.is_initialized()
    (folder / f"{rank}.json").write_text(json.dumps(result.history))


def test_two_processes_do_what_one_does(trained, tiny_sd, tmp_path):
    options = {"steps": 5, "prior_images": 4, "val_every_steps": 5, "learning_rate": 1e-2}
    _, one = trained(recipe(**options), validation=captioned(8, seed=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start_processes(on_two, (tmp_path, tiny_sd, options, port), nprocs=2, start_method="fork")
    two = json.loads((tmp_path / "0.json").read_text())
    for name in ("loss", "grad_norm"):
        found, expected = ([e[name] for e in h] for h in (two, one.history))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert two[-1]["val_loss"] == pytest.approx(one.val_loss, abs=1e-4)
    assert (tmp_path / "0.log").exists()
    assert not (tmp_path / "1.log").exists()  # one process alone reports


def test_other_peoples_variables_change_nothing(trained, monkeypatch):
    """Those of Slurm's and MPI's tasks would make accelerate wait for processes that never come."""
    plain, _ = trained(recipe(steps=2), folder="plain")
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"):
        monkeypatch.setenv(name, "4")
    for name in ("LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.setenv(name, "1")
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_CPU", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    other, _ = trained(recipe(steps=2), folder="other")
    assert torch.equal(lora_weights(plain), lora_weights(other))
    assert os.environ["PMI_SIZE"] == "4"


def test_a_batch_that_cannot_be_shared_is_refused(trained, monkeypatch):
    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 3)
    with pytest.raises(ConfigError, match=r"batch_size=4 must be divisible.*3"):
        trained(recipe())


def test_training_stops_when_validation_gets_worse_and_keeps_the_best(trained, monkeypatch):
    from xraysynth.generation.lora.learner import Learner

    scores, kept = [3.0, 1.0, 2.0, 2.0, 0.5], {}

    def score(self):
        step = len(kept) + 1
        kept[step] = lora_weights(self.pipeline)
        return scores[step - 1]

    monkeypatch.setattr(Learner, "validation_loss", score)
    options = recipe(steps=9, val_every_steps=1, patience=2)
    pipeline, result = trained(options, validation=captioned(8, seed=1))
    assert (result.steps, result.kept_step, result.val_loss) == (4, 2, 1.0)
    assert torch.equal(lora_weights(pipeline), kept[2])
    assert not torch.equal(kept[4], kept[2])
    _, again = trained(options, validation=captioned(8, seed=1))
    assert (again.steps, again.kept_step) == (4, 2)


def test_patience_needs_validation_images(trained):
    with pytest.raises(ConfigError, match=r"lora\.patience=2 needs validation images"):
        trained(recipe(patience=2))


def test_the_average_is_kept_and_shown_and_does_not_disturb_training(trained):
    last, plain = trained(recipe(), folder="last")
    shown = []
    averaged, result = trained(
        recipe(ema_decay=0.9),
        validation=captioned(8),
        on_validation=lambda p, step: shown.append(lora_weights(p)),
    )
    assert losses(plain) == losses(result)
    assert not torch.equal(lora_weights(averaged), lora_weights(last))
    assert torch.equal(shown[-1], lora_weights(averaged))


def test_the_pipeline_draws_at_validation_without_changing_the_run(trained):
    drawn = {}
    validation = captioned(8, seed=1)
    options = recipe(val_every_steps=3, steps=5)
    _, plain = trained(options, folder="plain", validation=validation)
    _, result = trained(
        options,
        validation=validation,
        on_validation=lambda pipeline, step: drawn.update({step: images(pipeline)}),
    )
    assert list(drawn) == [3, 5]
    assert not np.array_equal(drawn[3], drawn[5])
    assert losses(plain) == losses(result)


def test_images_of_the_untuned_model_count_with_their_weight(trained):
    def first_loss(**options):
        folder = str(options)
        return losses(trained(recipe(steps=1, **options), folder=folder)[1])[0]

    alone = first_loss()
    one, three = (first_loss(prior_images=4, prior_weight=w) for w in (1.0, 3.0))
    assert one > alone + 0.01
    assert three - alone == pytest.approx(3 * (one - alone), rel=1e-4)
    assert first_loss(prior_images=4, prior_weight=0.0) == pytest.approx(alone, rel=1e-4)


def test_weights_of_the_text_encoder_are_trained_only_where_asked_for(trained):
    for asked in (False, True):
        pipeline, _ = trained(recipe(text_encoder=asked, steps=2), folder=str(asked))
        names = [n for n, p in pipeline.text_encoder.named_parameters() if p.requires_grad]
        assert bool(names) == asked
        assert all("lora" in name for name in names)


def test_an_adapter_that_is_there_is_taken_out_first(trained, tmp_path):
    pipeline, first = trained(recipe())
    again = train(
        pipeline, captioned(10), None, recipe(), folder=tmp_path / "b", cache=tmp_path / "cache"
    )
    assert again.weights.read_bytes() == first.weights.read_bytes()


def test_zero_terminal_snr_changes_training_and_sampling(trained, tiny_sd, tmp_path):
    pipeline = load(tiny_sd)
    pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    pipeline.save_pretrained(tmp_path / "velocity")
    _, plain = trained(recipe(steps=2), model=tmp_path / "velocity", folder="plain")
    tuned, result = trained(recipe(steps=2, zero_terminal_snr=True), model=tmp_path / "velocity")
    assert losses(plain) != losses(result)
    assert tuned.scheduler.config.timestep_spacing == "trailing"
    assert tuned.scheduler.alphas_cumprod[-1] < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["to_q", "to_x"]}, r"lora\.targets.*no .*layer to_x; it has .*to_out\.0"),
        ({"targets": ["norm1"]}, r"lora\.targets.*no .*layer norm1"),
        ({"zero_terminal_snr": True}, "zero_terminal_snr needs a model that predicts velocity"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_trained_is_refused(trained, options, message):
    if options.get("precision") and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=message):
        trained(recipe(**options))


def test_few_images_are_refused(trained):
    with pytest.raises(ConfigError, match="got 3 training images and needs at least 8"):
        trained(recipe(), data=captioned(3))
    trained(recipe(steps=1), data=captioned(8))


def test_images_of_a_side_the_model_cannot_draw_are_refused(trained):
    odd = CaptionedImages(np.zeros((8, 33, 33), np.uint8), [["x"]] * 8)
    with pytest.raises(ConfigError, match="height and width that are divisible by 2"):
        trained(recipe(), data=odd)


def test_a_missing_optimizer_package_is_named(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(DataNotFoundError, match="needs the package bitsandbytes"):
        trained(recipe(optimizer=LoraOptimizer.adamw8bit))


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    rates = [learning_rate(recipe(steps=100, warmup_fraction=0.1), s) for s in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == pytest.approx(1e-3)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 1e-6


@pytest.mark.gpu
def test_a_gpu_trains_in_lower_precision_and_keeps_encoders_off_it(trained, tiny_sd):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pipeline, result = trained(recipe(), on_log=lambda entry: None)
    assert len(result.history) == 4
    fresh = load(tiny_sd).to("cuda")
    fresh.load_lora_weights(result.weights.parent)
    pipeline.unet.float()
    assert layers(fresh) == layers(pipeline)
    assert np.abs(images(fresh) - images(pipeline)).max() < 0.05
