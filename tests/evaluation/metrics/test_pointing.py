"""A classifier that has learned textures points at them; one that has not does not."""

import numpy as np
import pytest
import timm
import torch
from small_study import CLASSES
from torch.nn import functional as F

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.pointing_game import (
    CHANCE_DEFINITION,
    grad_cam,
    last_feature_layer,
    pointing_game,
)
from xraysynth.records import to_json
from xraysynth.training.classifier import XrayClassifier

PATCH = 20


def spots(n, seed):
    """`n` images, classes, boxes and patients: the class is the texture of a patch somewhere."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 130, (n, 64, 64)).astype(np.uint8)
    targets, boxes = np.arange(n) % 4, []
    row, column = np.mgrid[:PATCH, :PATCH] // 2 % 2
    textures = [row * 200, column * 200, (row ^ column) * 200, np.full((PATCH, PATCH), 200)]
    for image, target in zip(images, targets, strict=True):
        y, x = rng.integers(0, 64 - PATCH, 2)
        image[y : y + PATCH, x : x + PATCH] = textures[target]
        boxes.append([[x / 64, y / 64, (x + PATCH) / 64, (y + PATCH) / 64]])
    return images, targets, boxes, np.arange(n) // 2


def classifier(**recipe):
    torch.set_num_threads(1)
    recipe = {"backbone": "test_resnet"} | recipe
    return XrayClassifier(classes=list(CLASSES), recipe=recipe, max_steps=1)


def fine(seed=0):
    """A classifier with random weights and a map of one cell for 16 px."""
    module = classifier()
    options = {"in_chans": 1, "num_classes": 4, "output_stride": 16}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module.backbone = timm.create_model("test_resnet", **options)
    return module


@pytest.fixture(scope="module")
def held_out():
    return spots(80, seed=2)


@pytest.fixture(scope="module")
def trained():
    images, targets, *_ = spots(64, seed=1)
    module = fine()
    batch, wanted = torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(targets)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    module.train()
    for step in range(25):
        rows = np.random.default_rng(step).permutation(64)[:16]
        optimizer.zero_grad()
        F.cross_entropy(module(batch[rows]), wanted[rows]).backward()
        optimizer.step()
    return module.eval()


def game(module, held_out, **changes):
    images, targets, boxes, patients = held_out
    values = {"images": images, "targets": targets, "boxes": boxes, "patients": patients}
    return pointing_game(module, **values | {"replicates": 200} | changes)


def test_a_trained_classifier_points_at_its_patches(trained, held_out):
    found = game(trained, held_out)
    assert found.n == found.hits.n == 80
    assert found.energy_chance == pytest.approx((PATCH / 64) ** 2, rel=0.1)
    assert found.hits.low > 3 * found.chance
    assert found.energy.low > 2 * found.energy_chance
    assert found.over_chance == pytest.approx(found.hits.value / found.chance)
    assert found.elsewhere < found.hits.low
    assert game(trained, held_out) == found


def test_random_weights_do_not_point(trained, held_out):
    # A patch stands out from the noise for any network, and one alone may favour its texture.
    found = [game(fine(seed), held_out).hits.value for seed in range(5)]
    assert np.mean(found) < game(trained, held_out).hits.low - 0.1


def test_boxes_of_other_images_are_not_pointed_at(trained, held_out):
    boxes = held_out[2]
    found, shuffled = game(trained, held_out), game(trained, held_out, boxes=boxes[2:] + boxes[:2])
    assert shuffled.hits.high < found.hits.low
    assert shuffled.hits.value == pytest.approx(found.elsewhere, abs=0.1)


def test_the_map_is_that_of_the_class_asked_for(trained, held_out):
    images, targets, *_ = held_out
    layer = last_feature_layer(trained, images.shape[1:])
    right, wrong = (
        grad_cam(trained, images, chosen, layer=layer) for chosen in (targets, (targets + 1) % 4)
    )
    assert right.shape == (80, 4, 4)
    assert (right >= 0).all()
    assert right.mean() > 2 * wrong.mean()


@pytest.mark.parametrize("backbone", ["test_resnet", "densenet121", "mobilenetv3_small_050"])
def test_the_map_is_grad_cam_of_the_last_feature_map(backbone):
    module = classifier(backbone=backbone).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    targets = np.array([0, 2, 3])
    found = grad_cam(module, images, targets, layer=last_feature_layer(module, (64, 64)))

    maps = module.backbone.forward_features(
        module._preprocess(torch.from_numpy(images)[:, None].float() / 255)
    )
    logits = module.backbone.forward_head(maps)
    (slopes,) = torch.autograd.grad(logits[range(3), targets].sum(), maps)
    expected = F.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-7)


def test_images_without_findings_do_not_count(trained, held_out):
    images, targets, boxes, patients = held_out
    some = [box if target else [] for box, target in zip(boxes, targets, strict=True)]
    found = game(trained, held_out, boxes=some)
    kept = targets > 0
    alone = game(
        trained,
        (images[kept], targets[kept], [b for b in some if b], patients[kept]),
    )
    assert found == alone
    assert found.n == 60
    assert game(trained, held_out, boxes=[[]] * 80) is None


def test_a_transformer_has_no_map(held_out):
    module = classifier(backbone="test_vit")
    _, targets, boxes, patients = held_out
    wide = np.zeros((2, 160, 160), np.uint8)
    assert pointing_game(module, wide, targets[:2], boxes[:2], patients[:2]) is None


class FixedMap(torch.nn.Module):
    """A backbone whose feature map is the image in 4 x 4 cells, and whose logits are its sum."""

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AvgPool2d(16)

    def forward_features(self, images):
        return self.pool(images)

    def forward(self, images):
        return self.forward_features(images).sum((1, 2, 3))[:, None].expand(-1, 4)


@pytest.fixture
def fixed():
    module = classifier()
    module.backbone = FixedMap()
    module._preprocess = lambda images: images
    return module


@pytest.mark.parametrize(
    ("box", "tolerance", "hit"),
    [
        ([0.0, 0.75, 0.25, 1.0], 0.0, 1.0),  # the cell of the bright square, in x and in y
        ([0.75, 0.0, 1.0, 0.25], 0.0, 0.0),  # x and y exchanged
        ([0.3, 0.75, 0.5, 1.0], 0.0, 0.0),
        ([0.3, 0.75, 0.5, 1.0], 0.2, 1.0),
    ],
)
def test_the_maximum_is_the_centre_of_its_cell(fixed, box, tolerance, hit):
    images = np.zeros((1, 64, 64), np.uint8)
    images[0, 48:, :16] = 255  # below, left: at (0.125, 0.875)
    options = {"patients": ["p"], "replicates": 2, "tolerance": tolerance}
    found = pointing_game(fixed, images, np.zeros(1, int), [[box]], **options)
    assert found.hits.value == hit
    assert np.isnan(found.elsewhere)  # there is no other patient


def test_energy_is_the_share_of_the_mass_in_the_boxes(fixed):
    images = np.full((1, 64, 64), 100, np.uint8)
    images[0, :32] = 200
    boxes = [[[0, 0, 1, 0.5]]]
    found = pointing_game(fixed, images, np.zeros(1, int), boxes, ["p"], replicates=2)
    assert found.energy.value == pytest.approx(2 / 3, abs=0.03)  # the edge is interpolated


def test_an_empty_map_is_a_miss_and_boxes_that_overlap_count_once(fixed):
    boxes = [[[0, 0, 1, 0.5], [0, 0, 1, 0.5]]] * 2
    dark = np.zeros((2, 64, 64), np.uint8)
    found = pointing_game(fixed, dark, np.zeros(2, int), boxes, ["p", "q"], replicates=2)
    assert found.hits.value == found.energy.value == found.elsewhere == 0
    assert found.chance == 0.5


def test_boxes_the_wrong_way_round_are_refused(fixed):
    images = np.zeros((1, 64, 64), np.uint8)
    with pytest.raises(XraysynthError, match=r"x0 <= x1"):
        pointing_game(fixed, images, np.zeros(1, int), [[[0.5, 0, 0.2, 1]]], ["p"])


def lesions(n, seed=0):
    """A box in the right or left lung for each of `n` images, as findings lie in radiographs."""
    rng = np.random.default_rng(seed)
    middle = np.stack([rng.choice([0.3, 0.7], n), np.full(n, 0.6)], 1) + rng.normal(0, 0.08, (n, 2))
    half = rng.uniform(0.1, 0.25, (n, 2))
    return [[box] for box in np.clip(np.concatenate([middle - half, middle + half], 1), 0, 1)]


@pytest.mark.parametrize("cell", [32, 16])
def test_chance_is_what_a_map_that_peaks_in_a_random_cell_hits(fixed, cell):
    fixed.backbone.pool = torch.nn.AvgPool2d(cell)
    n, side = 400, 64 // cell
    boxes, rng = lesions(n), np.random.default_rng(1)
    images = np.zeros((n, side, side), np.uint8)
    images[np.arange(n), rng.integers(0, side, n), rng.integers(0, side, n)] = 255
    images = images.repeat(cell, 1).repeat(cell, 2)
    found = pointing_game(fixed, images, np.zeros(n, int), boxes, np.arange(n), replicates=200)
    assert found.hits.low < found.chance < found.hits.high
    # Exactly: over all cells, each as often as the others.
    rates = []
    for row, column in np.ndindex(side, side):
        images = np.zeros((n, side, side), np.uint8)
        images[:, row, column] = 255
        images = images.repeat(cell, 1).repeat(cell, 2)
        fixed_point = pointing_game(
            fixed, images, np.zeros(n, int), boxes, np.arange(n), replicates=2
        )
        rates.append(fixed_point.hits.value)
    assert found.chance == pytest.approx(np.mean(rates))
    assert found.best_fixed == max(rates) > found.chance
    assert abs(found.energy_chance - found.chance) > 0.001  # area is not what cells hit


def test_the_only_cell_of_a_map_hits_as_often_as_chance_and_as_the_best_fixed(fixed):
    fixed.backbone.pool = torch.nn.AvgPool2d(64)
    boxes = lesions(50)
    images = np.full((50, 64, 64), 100, np.uint8)
    found = pointing_game(fixed, images, np.zeros(50, int), boxes, np.arange(50), replicates=2)
    assert found.hits.value == found.chance == found.best_fixed
    assert found.over_chance == 1


def test_findings_between_the_cells_cannot_be_hit_and_are_no_multiple_of_chance(fixed):
    images = np.full((2, 64, 64), 100, np.uint8)
    boxes = [[[0.4, 0.4, 0.6, 0.6]], [[0.45, 0.45, 0.55, 0.55]]]
    found = pointing_game(fixed, images, np.zeros(2, int), boxes, ["p", "q"], replicates=2)
    assert found.chance == found.best_fixed == found.hits.value == 0
    assert np.isnan(found.over_chance)


def test_the_share_of_empty_maps_is_said(fixed):
    images = np.zeros((4, 64, 64), np.uint8)
    images[0] = 100
    found = pointing_game(fixed, images, np.zeros(4, int), lesions(4), np.arange(4), replicates=2)
    assert found.empty == 0.75


def test_a_record_says_what_its_chance_is_of(fixed):
    images = np.full((4, 64, 64), 100, np.uint8)
    found = pointing_game(fixed, images, np.zeros(4, int), lesions(4), np.arange(4), replicates=2)
    record = to_json(found)
    assert record["chance_of"] == CHANCE_DEFINITION
    assert record["hits"]["n"] == record["n"] == 4
    assert {"chance", "elsewhere", "best_fixed", "energy_chance", "empty"} < set(record)
