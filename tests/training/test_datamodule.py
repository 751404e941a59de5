"""Data: pixels as stored, batches that depend on seed and step alone, real-only validation."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from xraysynth.data.pixels import load_cached_pixels
from xraysynth.errors import ConfigError, ImageError, LeakageError
from xraysynth.images import encode_png, read_image
from xraysynth.manifest import Manifest
from xraysynth.records import sha256_bytes
from xraysynth.training.augmentation import augment
from xraysynth.training.batches import StepSampler
from xraysynth.training.datamodule import XrayDataModule
from xraysynth.training.recipe import Control, DataRecipe, MixMode

CLASSES = ("normal", "pneumonia")
MAGNITUDES = ("rotation", "translation", "scale", "brightness", "contrast", "noise")


def shapes(folder: Path, counts: dict[str, int], *, size_px: int = 24, seed: int = 0) -> Manifest:
    """Noise with a bright patch in the upper or the lower half, by class; real, in three splits."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for split, n in counts.items():
        for number in range(n):
            for position, label in enumerate(CLASSES):
                image = rng.integers(0, 120, (size_px, size_px)).astype(np.uint8)
                top = 2 + position * size_px // 2
                image[top : top + size_px // 3, 4:-4] += 110
                name, png = f"{split}-{label}-{number:06d}", encode_png(image)
                (folder / f"{name}.png").write_bytes(png)
                row = {"image_id": name, "path": f"{name}.png", "label": label, "split": split}
                rows.append(row | {"source": "a", "patient_id": name, "sha256": sha256_bytes(png)})
    return Manifest(pd.DataFrame(rows), folder, CLASSES)


def as_pool(real: Manifest) -> Manifest:
    table = real.table.assign(is_synthetic=True, patient_id="", split="train")
    return Manifest(table, real.folder, real.classes)


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    return shapes(tmp_path / "real", {"train": 5, "val": 2, "test": 2})


def module(real: Manifest, tmp_path: Path, **settings: object) -> XrayDataModule:
    pools = settings.pop("synthetic", {})
    return XrayDataModule(
        real=real,
        synthetic=pools,  # type: ignore[arg-type]
        recipe=DataRecipe(**settings),  # type: ignore[arg-type]
        size_px=24,
        cache_folder=tmp_path / "cache",
        seed=0,
    )


@pytest.mark.parametrize("memory_mapped", [False, True])
def test_pixels_are_those_of_the_files_and_are_decoded_once(
    real: Manifest, tmp_path: Path, memory_mapped: bool
) -> None:
    first = load_cached_pixels(
        real, size_px=24, folder=tmp_path / "cache", memory_mapped=memory_mapped
    )
    assert np.array_equal(first, [read_image(path) for path in real.files])
    assert isinstance(first, np.memmap) == memory_mapped
    for path in real.files:
        path.unlink()
    again = load_cached_pixels(
        real, size_px=24, folder=tmp_path / "cache", memory_mapped=memory_mapped
    )
    assert np.array_equal(again, first)


def test_a_damaged_cache_file_is_rebuilt(real: Manifest, tmp_path: Path) -> None:
    first = load_cached_pixels(real, size_px=24, folder=tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.npy")
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(load_cached_pixels(real, size_px=24, folder=tmp_path / "cache"), first)


def test_all_unusable_files_are_named_together_and_no_cache_is_left(
    real: Manifest, tmp_path: Path
) -> None:
    changed, lost, broken = real.files[0], real.files[3], real.files[6]
    changed.write_bytes(real.files[1].read_bytes())
    lost.unlink()
    broken.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        load_cached_pixels(real, size_px=24, folder=tmp_path / "cache")
    for path in (changed, lost, broken):
        assert path.name in str(caught.value)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_files_without_a_hash_are_read_again_when_they_change(
    real: Manifest, tmp_path: Path
) -> None:
    unhashed = Manifest(real.table.assign(sha256=""), real.folder, CLASSES)
    before = load_cached_pixels(unhashed, size_px=24, folder=tmp_path / "cache")
    unhashed.files[0].write_bytes(encode_png(np.full((24, 24), 7, np.uint8)))
    after = load_cached_pixels(unhashed, size_px=24, folder=tmp_path / "cache")
    assert (after[0] == 7).all()
    assert np.array_equal(after[1:], before[1:])


def test_the_sampler_covers_every_image_once_a_pass_and_wraps() -> None:
    batches = list(itertools.islice(StepSampler(7, batch_size=3, seed=0), 14))
    seen = np.concatenate(batches)
    assert all(len(batch) == 3 for batch in batches)
    assert all(sorted(part) == list(range(7)) for part in seen.reshape(6, 7))
    assert not np.array_equal(seen[:7], seen[7:14])
    small = next(iter(StepSampler(2, batch_size=5, seed=0)))
    assert len(small) == 5


def test_the_sampler_resumes_and_shards() -> None:
    whole = list(itertools.islice(StepSampler(7, batch_size=4, seed=1), 20))
    later = list(itertools.islice(StepSampler(7, batch_size=4, seed=1, start=lambda: 9), 11))
    assert later == whole[9:]
    ranks = [
        list(itertools.islice(StepSampler(7, batch_size=4, seed=1, shard=(r, 2)), 20))
        for r in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(b) for b in whole]


def test_the_sampler_can_begin_with_the_last_images_alone() -> None:
    def batches(**more: Any) -> list[list[int]]:
        sampler = StepSampler(12, batch_size=4, seed=1, pretrain_phase=(7, 6), **more)
        return list(itertools.islice(sampler, 20))

    whole = batches()
    assert set(np.concatenate(whole[:6])) == set(range(7, 12))
    assert set(np.concatenate(whole[6:])) == set(range(7))
    for start in (1, 5, 6, 7, 13):
        assert batches(start=lambda: start)[: 20 - start] == whole[start:]  # noqa: B023
    ranks = [batches(shard=(r, 2)) for r in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(b) for b in whole]
    later = [sorted(batch) for batch in sampled(7, 14)]
    assert later == [sorted(batch) for batch in whole[6:]]  # real images come as without others


def sampled(n: int, steps: int) -> list[list[int]]:
    return list(itertools.islice(StepSampler(n, batch_size=4, seed=1), steps))


class _Trainer:
    """As much of a trainer as a data module asks for."""

    training = True

    def __init__(self, max_steps: int, step: int = 0, rank: int = 0, world: int = 1) -> None:
        self.max_steps, self.global_step = max_steps, step
        self.global_rank, self.world_size = rank, world


def test_pretraining_shows_synthetic_images_first_and_then_all_real_ones(
    real: Manifest, tmp_path: Path
) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    settings = {"synthetic_fraction": 0.5, "mode": MixMode.pretrain, "batch_size": 5}
    data = module(real, tmp_path, synthetic={"a": pool}, pretrain_fraction=0.3, **settings)
    with pytest.raises(ConfigError, match=r"mode=pretrain needs a trainer with max_steps"):
        data.train_dataloader()
    data.trainer = _Trainer(10)  # type: ignore[assignment]
    rows = [b["index"].numpy() for b in itertools.islice(data.train_dataloader(), 10)]
    assert all((batch >= 10).all() for batch in rows[:3])
    assert set(np.concatenate(rows[3:])) == set(range(10))
    data.trainer = _Trainer(10, step=7)  # type: ignore[assignment]
    again = [b["index"].numpy() for b in itertools.islice(data.train_dataloader(), 3)]
    assert np.array_equal(again, rows[7:])
    assert data.first_real_step == 3


def test_pretraining_is_balanced_by_the_real_images_that_it_ends_with(
    real: Manifest, tmp_path: Path
) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    counts = {}
    for mode in MixMode:
        data = module(real, tmp_path, synthetic={"a": pool}, synthetic_fraction=0.5, mode=mode)
        counts[mode.value] = data.class_counts
        assert mode is MixMode.pretrain or data.first_real_step == 0
    assert counts == {"replace": [5, 5], "add": [10, 10], "pretrain": [5, 5]}


def test_processes_share_the_batches_of_one_and_augment_each_image_alike(
    real: Manifest, tmp_path: Path
) -> None:
    data = module(real, tmp_path, batch_size=6, horizontal_flip=True)

    def batches(rank: int, world: int) -> list[Any]:
        data.trainer = _Trainer(10, rank=rank, world=world)  # type: ignore[assignment]
        found = []
        for batch in itertools.islice(data.train_dataloader(), 4):
            found.append(data.on_after_batch_transfer(batch, 0))
            data.trainer.global_step += 1  # type: ignore[misc]
        return found

    whole, parts = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    for step, one in enumerate(whole):
        for name in ("index", "target", "image"):
            together = torch.stack([part[step][name] for part in parts], 1).flatten(0, 1)
            assert torch.equal(together, one[name])


@pytest.mark.parametrize("world", [1, 2, 3, 9])
def test_processes_validate_every_image_once(real: Manifest, tmp_path: Path, world: int) -> None:
    data = module(real, tmp_path)
    seen = []
    for rank in range(world):
        data.trainer = _Trainer(10, rank=rank, world=world)  # type: ignore[assignment]
        seen.append([row for batch in data.val_dataloader() for row in batch["index"].tolist()])
    if world <= 4:
        assert sorted(itertools.chain(*seen)) == [0, 1, 2, 3]
    else:  # each of them all, or a process would have nothing to take part with
        assert seen == [[0, 1, 2, 3]] * world
    assert [len(batch["index"]) for batch in data.test_dataloader()] == [4]


def test_controls_show_the_pixels_of_their_files_under_their_own_labels(
    real: Manifest, tmp_path: Path
) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    settings = {"synthetic_fraction": 0.5, "mode": MixMode.add}
    repeats = module(real, tmp_path, control=Control.duplicate, **settings)
    permuted = module(real, tmp_path, control=Control.permuted, synthetic={"a": pool}, **settings)
    for data in (repeats, permuted):
        own, other = data.train_manifests
        dataset = data.dataset("train")
        shown = (dataset.__getitems__(range(20))["image"][:, 0] * 255).round().byte().numpy()
        assert np.array_equal(shown, [read_image(path) for path in [*own.files, *other.files]])
        assert dataset.targets.tolist() == [*own.targets, *other.targets]
        assert data.class_counts == [10, 10]
        assert np.array_equal(np.concatenate(data.images("train")), shown)
    table = permuted.train_manifests[1].table
    told = [image_id.split("-")[1] for image_id in table["image_id"]]
    assert table["label"].tolist() != told
    assert sorted(table["label"]) == sorted(told)


def test_only_what_is_used_of_the_real_images_is_trained_on(real: Manifest, tmp_path: Path) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    data = module(
        real,
        tmp_path,
        synthetic={"a": pool},
        synthetic_fraction=0.5,
        mode=MixMode.add,
        real_fraction=0.4,
    )
    assert [len(part) for part in data.train_manifests] == [4, 4]
    assert len(data.dataset("val")) == len(data.dataset("test")) == 4
    table = real.table.assign(source=["a", "b"] * 9)
    swapped = table["source"].where(table.index % 4 < 2, table["source"].map({"a": "b", "b": "a"}))
    two = Manifest(table.assign(source=swapped), real.folder, CLASSES)
    left = module(two, tmp_path, leave_out="b")
    for split in ("train", "val"):
        assert 0 < len(left.dataset(split)) < len(two.split(split))
    assert set(left.train_manifests[0].table["source"]) == {"a"}
    assert len(left.dataset("test")) == len(two.split("test"))


def test_batches_hold_the_pixels_and_targets_of_their_rows(real: Manifest, tmp_path: Path) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    data = module(real, tmp_path, synthetic_fraction=0.4, synthetic={"a": pool}, batch_size=10)
    dataset = data.dataset("train")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (10, 1, 24, 24)
    assert batch["image"].dtype == torch.float32
    assert batch["target"].dtype == torch.int64
    rows = [m.table.assign(file=m.files) for m in data.train_manifests]
    table = pd.concat(rows, ignore_index=True)
    assert table["is_synthetic"].sum() == 4
    assert len(dataset) == 10
    for image, target, index in zip(*batch.values(), strict=True):
        row = table.iloc[int(index)]
        assert torch.equal((image[0] * 255).round().byte(), torch.tensor(read_image(row["file"])))
        assert CLASSES[int(target)] == row["label"]
    assert data.class_counts == [5, 5]


def test_validation_and_test_are_real_whole_and_in_order(real: Manifest, tmp_path: Path) -> None:
    pool = as_pool(shapes(tmp_path / "pool", {"train": 5}, seed=9))
    data = module(real, tmp_path, synthetic_fraction=1.0, synthetic={"a": pool})
    for split in ("val", "test"):
        loader = data.val_dataloader() if split == "val" else data.test_dataloader()
        (batch,) = list(loader)
        expected = load_cached_pixels(real.split(split), size_px=24, folder=tmp_path / "other")
        assert np.array_equal((batch["image"][:, 0] * 255).round().byte().numpy(), expected)
        assert batch["target"].tolist() == real.split(split).targets.tolist()


def test_splits_that_cannot_be_used_are_refused(real: Manifest, tmp_path: Path) -> None:
    for split in ("val", "test"):
        with pytest.raises(
            ConfigError, match=f"the {split} split .* no image of normal, pneumonia"
        ):
            module(real.where(real.table["split"] != split), tmp_path)
    one = (real.table["split"] != "val") | (real.table["label"] == "normal")
    with pytest.raises(ConfigError, match=r"the val split .* no image of pneumonia"):
        module(real.where(one), tmp_path)
    with pytest.raises(LeakageError, match="exact copies"):
        module(real, tmp_path, synthetic_fraction=0.5, synthetic={"a": as_pool(real)})


def test_augmentation_is_seeded_and_differs_between_images() -> None:
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    recipe = DataRecipe()
    torch.manual_seed(1)
    first = augment(images, recipe, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, recipe, seed=5))
    assert not torch.equal(first, augment(images, recipe, seed=6))
    assert not torch.equal(first[0], first[1])
    assert first.min() >= 0
    assert first.max() <= 1


def test_augmentation_of_no_magnitude_changes_nothing_and_a_shift_is_bounded() -> None:
    still = dict.fromkeys(MAGNITUDES, 0.0)
    images = torch.zeros(64, 1, 21, 21)
    images[:, :, 10, 10] = 1
    assert torch.allclose(augment(images, DataRecipe(**still), seed=0), images, atol=1e-5)
    moved = augment(images, DataRecipe(**still | {"translation": 0.2}), seed=0)
    rows = moved.sum(3).argmax(2).flatten() - 10
    assert rows.abs().max() <= 5  # 0.2 of 21 px, and a pixel of interpolation
    assert rows.abs().max() >= 3
    images[:, :, 10, 2] = 1
    flipped = augment(images, DataRecipe(**still, horizontal_flip=True), seed=0)
    right = flipped[:, 0, 10, 18] > 0.9
    assert 0 < right.sum() < 64
