import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.features import (
    Features,
    concatenate_features,
    load_or_compute_features,
    require_same_encoder,
)
from xraysynth.evaluation.metrics.fidelity import frechet_distance

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)


@dataclass(frozen=True)
class Counting:
    """Mean and spread of the grey values, counting how often it is asked."""

    name: str = "counting"
    weights: str = "w"
    size_px: int = 8
    calls: list[int] = field(default_factory=list)

    @property
    def identity(self):
        return Identity(self.name, self.weights, Preprocessing(self.size_px))

    def features(self, images):
        self.calls.append(len(images))
        return np.stack([images.mean((1, 2)), images.std((1, 2))], 1)


def test_features_are_computed_once(tmp_path):
    encoder = Counting()
    first = load_or_compute_features(encoder, IMAGES, digest="a", folder=tmp_path / "new")
    second = load_or_compute_features(encoder, IMAGES, digest="a", folder=tmp_path / "new")
    assert encoder.calls == [6]
    assert (first.values == second.values).all()
    assert second.values.dtype == np.float64
    assert second.encoder == "counting"
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("other", [Counting(weights="v"), Counting(size_px=9), Counting(name="n")])
def test_another_image_set_or_encoder_is_computed_anew(tmp_path, other):
    load_or_compute_features(Counting(), IMAGES, digest="a", folder=tmp_path)
    load_or_compute_features(other, IMAGES, digest="a", folder=tmp_path)
    load_or_compute_features(other, IMAGES, digest="b", folder=tmp_path)
    assert other.calls == [6, 6]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("position", [-1, 3, 100])
def test_a_damaged_file_is_made_again(tmp_path, position):
    expected = load_or_compute_features(Counting(), IMAGES, digest="a", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    again = Counting()
    found = load_or_compute_features(again, IMAGES, digest="a", folder=tmp_path)
    assert again.calls == [6]
    assert (found.values == expected.values).all()
    load_or_compute_features(again, IMAGES, digest="a", folder=tmp_path)
    assert again.calls == [6]


def test_the_file_says_what_its_features_are_of(tmp_path):
    encoder = Counting()
    found = load_or_compute_features(encoder, IMAGES, digest="a", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, "np") as file:
        facts = file.metadata()
    assert facts["encoder"] == "counting"
    assert facts["images"] == "a"
    assert facts["weights"] == "w"
    assert facts["preprocessing"] == Preprocessing(8).digest
    assert facts["sha256"] == hashlib.sha256(found.values.tobytes()).hexdigest()


@pytest.mark.parametrize("fact", ["encoder", "images", "weights", "preprocessing", "sha256"])
def test_a_file_with_another_header_is_not_believed(tmp_path, fact):
    load_or_compute_features(Counting(), IMAGES, digest="a", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, "np") as file:
        facts, values = file.metadata(), file.get_tensor("features")
    path.write_bytes(save({"features": values}, metadata=facts | {fact: "other"}))
    again = Counting()
    load_or_compute_features(again, IMAGES, digest="a", folder=tmp_path)
    assert again.calls == [6]


def test_memory_mapped_images_are_taken_and_not_read_again(tmp_path):
    stored = np.memmap(tmp_path / "images", np.uint8, "w+", shape=IMAGES.shape)
    stored[:] = IMAGES
    encoder = Counting()
    folder = tmp_path / "features"
    first = load_or_compute_features(encoder, stored, digest="a", folder=folder)
    assert (first.values == Counting().features(IMAGES)).all()
    second = load_or_compute_features(encoder, stored, digest="a", folder=folder)
    assert (second.values == first.values).all()
    assert encoder.calls == [6]


def test_a_file_under_the_name_of_another_is_not_believed(tmp_path):
    load_or_compute_features(Counting(), IMAGES, digest="a", folder=tmp_path)
    (first,) = tmp_path.iterdir()
    load_or_compute_features(Counting(), IMAGES[::-1], digest="b", folder=tmp_path)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    found = load_or_compute_features(Counting(), IMAGES[::-1], digest="b", folder=tmp_path)
    assert (found.values == Counting().features(IMAGES[::-1])).all()


def test_a_digest_of_other_images_is_noticed(tmp_path):
    load_or_compute_features(Counting(), IMAGES, digest="a", folder=tmp_path)
    with pytest.raises(XraysynthError, match="6 images, but 5"):
        load_or_compute_features(Counting(), IMAGES[:5], digest="a", folder=tmp_path)


def test_features_of_different_encoders_do_not_mix(tmp_path):
    def of(encoder):
        return load_or_compute_features(encoder, IMAGES, digest="a", folder=tmp_path)

    require_same_encoder(of(Counting()), of(Counting()), of(Counting()))
    for other, differing in (
        (Counting(size_px=9), "preprocessing"),
        (Counting(weights="v"), "weights"),
        (Counting(name="n"), "encoder"),
    ):
        for function in (require_same_encoder, lambda *shards: concatenate_features(shards)):
            with pytest.raises(XraysynthError, match=f"differ in {differing}"):
                function(of(Counting()), of(other))


def test_the_distance_of_pooled_shards_is_that_of_the_whole():
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(400, 5)), rng.normal(size=(400, 5)) + 0.1
    identity = Counting().identity
    shards = [Features(part, identity) for part in np.array_split(synthetic, 8)]
    whole = frechet_distance(real=real, synthetic=synthetic)
    found = frechet_distance(real=real, synthetic=concatenate_features(shards).values)
    assert found == pytest.approx(whole, abs=1e-6)
    averaged = np.mean([frechet_distance(real=real, synthetic=s.values) for s in shards])
    assert averaged > 2 * whole
