"""RAD-DINO, DINOv2 and CLIP against transformers itself."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import processor

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders import build
from xraysynth.images import pad_and_resize


@pytest.mark.parametrize("name", ["rad_dino", "dinov2", "clip"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 31), (31, 40)])
def test_features_equal_the_model_behind_its_own_processor(name, shape, given, built, images):
    from transformers import AutoImageProcessor, CLIPModel, Dinov2Model

    folder = given(name)["weights"]
    smooth = pad_and_resize(
        images[0, :4, :4], 40
    )  # cropping before or after resizing differs little
    part = np.stack([smooth, 255 - smooth])[:, : shape[0], : shape[1]]
    colour = list(np.repeat(part[..., None], 3, -1))
    process = AutoImageProcessor.from_pretrained(folder, backend="pil")
    batch = process(images=colour, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if name == "clip":
            model = CLIPModel.from_pretrained(folder, use_safetensors=False).eval()
            pooled = model.vision_model(pixel_values=batch).pooler_output
            expected = model.visual_projection(pooled).numpy()
        else:
            model = Dinov2Model.from_pretrained(folder).eval()
            expected = model(pixel_values=batch).last_hidden_state[:, 0].numpy()
    values = built(name).features(part)
    tolerance = 1e-4 if shape == (40, 40) else 0.05
    assert np.abs(values - expected).mean() < tolerance * np.ptp(expected, axis=0).mean()


def copied(folder, target):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def test_the_identity_changes_with_weights_and_preprocessing(given, tmp_path):
    folder = copied(given("rad_dino")["weights"], tmp_path)
    before = build("rad_dino", weights=given("rad_dino")["weights"]).identity
    assert before == build("rad_dino", weights=folder).identity
    processor(folder, mean=[0.4] * 3, deviation=[0.2583] * 3)
    after = build("rad_dino", weights=folder).identity
    assert before.preprocessing != after.preprocessing
    assert before.weights == after.weights
    path = folder / "model.safetensors"
    changed = {key: value + 1 for key, value in load_file(path).items()}
    save_file(changed, path, metadata={"format": "pt"})
    assert build("rad_dino", weights=folder).identity.weights != before.weights


def test_missing_weights_are_not_left_random(given, tmp_path, images):
    folder = copied(given("dinov2")["weights"], tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        DataNotFoundError,
        match=r"a Dinov2Model: 1 weights are missing \(layernorm\.w",
    ):
        build("dinov2", weights=folder).features(images)


def test_a_preprocessor_without_a_normalisation_is_refused(given, tmp_path):
    folder = copied(given("dinov2")["weights"], tmp_path)
    (folder / "preprocessor_config.json").write_text('{"crop_size": 28}')
    with pytest.raises(DataNotFoundError, match=r"preprocessor_config\.json.*image_mean"):
        _ = build("dinov2", weights=folder).identity


def test_clip_takes_converted_weights_too(given, tmp_path, images, built):
    folder = copied(given("clip")["weights"], tmp_path)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    save_file(
        {k: v.contiguous() for k, v in state.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "pytorch_model.bin").unlink()
    found = build("clip", weights=folder)
    assert found.features(images) == pytest.approx(built("clip").features(images))
    assert found.identity.weights != built("clip").identity.weights  # another file


def test_clip_executes_no_pickled_code(given, tmp_path, images):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    folder = copied(given("clip")["weights"], tmp_path / "clip")
    torch.save({"logit_scale": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(DataNotFoundError, match="CLIPVisionModelWithProjection"):
        build("clip", weights=folder).features(images)
    assert not (tmp_path / "executed").exists()
