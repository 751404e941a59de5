"""Weights of every encoder, random and as small as the architecture allows."""

import json
from pathlib import Path

import torch

SIZE_PX = 28


class Small(torch.nn.Module):
    """A classifier of two layers, with a dropout that must be off."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 4, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward_features(self, batch):
        assert batch.shape[1] == 1
        assert 0 <= batch.min() <= batch.max() <= 1
        return self.drop(self.layer(batch)).amax((2, 3))


def inception(folder: Path) -> Path:
    """A state dict of the right shapes, which torch-fidelity downloads where it is given none."""
    import pytest
    import torch_fidelity.feature_extractor_inceptionv3 as theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight *= 6**0.5  # keeps the signal's size over 48 layers
    path = folder / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def xrv(folder: Path) -> Path:
    """A state dict as torchxrayvision has it after loading its weights."""
    import warnings

    from safetensors.torch import save_file

    with warnings.catch_warnings():  # torchxrayvision silences all warnings when imported
        from torchxrayvision.models import DenseNet
    torch.manual_seed(0)
    path = folder / "densenet.safetensors"
    save_file(DenseNet().state_dict() | {"op_threshs": torch.zeros(18)}, path)
    return path


def dinov2(folder: Path) -> Path:
    """A DINOv2 of two layers."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Dinov2Model(Dinov2Config(**sizes, image_size=SIZE_PX, patch_size=14))
    model.save_pretrained(folder)
    processor(folder, mean=[0.485, 0.456, 0.406], deviation=[0.229, 0.224, 0.225])
    return folder


def rad_dino(folder: Path) -> Path:
    """The same network with RAD-DINO's grey normalisation."""
    dinov2(folder)
    processor(folder, mean=[0.5307] * 3, deviation=[0.2583] * 3)
    return folder


def clip(folder: Path) -> Path:
    """A whole CLIP as OpenAI's is published: text and vision in one `pytorch_model.bin`."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    small |= {"intermediate_size": 16, "projection_dim": 8}
    vision = small | {"image_size": SIZE_PX, "patch_size": 14}
    text = small | {"vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 49}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    processor(folder, mean=[0.48, 0.46, 0.41], deviation=[0.27, 0.26, 0.28], old=True)
    return folder


def processor(folder: Path, *, mean: list, deviation: list, old: bool = False) -> None:
    """What the folder says of its preprocessing, in the new or in the old form."""
    crop = SIZE_PX if old else {"height": SIZE_PX, "width": SIZE_PX}
    settings = {
        "image_processor_type": "CLIPImageProcessor" if old else "BitImageProcessor",
        "crop_size": crop,
        "size": SIZE_PX if old else {"shortest_edge": SIZE_PX},
        "resample": 3,
        "image_mean": mean,
        "image_std": deviation,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def arguments(name: str, folder: Path) -> dict:
    """What `encoders.build` takes for this encoder; a new one adds a function above."""
    if name == "classifier":
        torch.manual_seed(0)
        return {"classifier": Small()}
    if name == "embedded":
        return {}
    return {"weights": globals()[name](folder)}
