"""The blinding attack: what a classifier learns from the files of a kit, without looking at pictures."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xraysynth.evaluation.reader_study import build
from xraysynth.evaluation.reader_study.encoding import TILES_PER_SHEET
from xraysynth.evaluation.reader_study.key import Case
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.evaluation.reader_study.sample import Sample, SampledImage
from xraysynth.files import sha256_file

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
SECRET = "5e" * 32
PER_CLASS = 50


def spec_of(html):
    """What a page holds, as anybody can read it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(found[1])["spec"]


def decoded(uri):
    data = base64.b64decode(uri.split(",", 1)[1])
    return data, Image.open(io.BytesIO(data))


def of_file(data, image):
    """Byte size, bit depth and channels, dimensions, compression tables, extra segments."""
    tables = getattr(image, "quantization", {})
    extra = sum(len(value) for value in image.info.values() if isinstance(value, (bytes, str)))
    return [len(data), len(image.getbands()), *image.size, sum(map(sum, tables.values())), extra]


def of_range(pixels):
    """End points of the histogram, and whether levels between them are never used."""
    used = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    return [used[0], used[-1], used[-1] - used[0] + 1 - len(used)]


def features(spec):
    """One row an item, in the order shown: what the file says of it."""
    files = [decoded(uri) for uri in spec.get("sheets", [])]
    rows = []
    for position, item in enumerate(spec["items"]):
        if "image" in item:
            data, image = decoded(item["image"])
            pixels, place = np.asarray(image), []
        else:
            data, image = files[item["sheet"]]
            x, y, side = item["x"], item["y"], spec["side_px"]
            pixels, place = np.asarray(image)[y : y + side, x : x + side], [item["sheet"], x, y]
        name = [int(part, 36) for part in (item["id"][:5], item["id"][5:])]
        shown = len(json.dumps({k: v for k, v in item.items() if k != "image"}))
        rows.append([*of_file(data, image), *of_range(pixels), position, *place, *name, shown])
    return np.array(rows, float)


def attack(spec, truth):
    """Cross-validated AUC of the better of two classifiers, and its 95 % bootstrap interval.

    A sheet is never in two folds: what an attacker learns, he learns from other files.
    """
    rows, best = features(spec), (0.0, None)
    groups = [item.get("sheet", n) for n, item in enumerate(spec["items"])]
    folds = GroupKFold(5, shuffle=True, random_state=0)
    for model in (
        HistGradientBoostingClassifier(max_depth=3, max_iter=60, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    ):
        scores = cross_val_predict(
            model, rows, truth, cv=folds, groups=groups, method="predict_proba"
        )[:, 1]
        best = max(best, (roc_auc_score(truth, scores), tuple(scores)))
    rng = np.random.default_rng(0)
    picks = (rng.integers(0, len(truth), len(truth)) for _ in range(300))
    again = [roc_auc_score(truth[n], np.array(best[1])[n]) for n in picks]
    return best[0], *np.quantile(again, [0.025, 0.975])


def picture(rng, *, synthetic):
    """A bright shape on a dark ground; the synthetic ones are smooth, narrow in range, and square."""
    grid = np.mgrid[0:64, 0:64] / 64
    centre, width = rng.uniform(0.3, 0.7, 2), rng.uniform(0.1, 0.3)
    shape = np.exp(-((grid - centre[:, None, None]) ** 2).sum(0) / width**2)
    noise = rng.normal(0, 0.1, (64, 64))
    if synthetic:
        smooth = Image.fromarray(((shape + noise) * 120 + 60).clip(0, 255).astype(np.uint8))
        return np.asarray(smooth.filter(ImageFilter.GaussianBlur(2)))
    pixels = ((shape + noise) * 200 + 20).clip(0, 255).astype(np.uint8)
    bar = rng.integers(0, 10)
    pixels[:, :bar] = pixels[:, 64 - bar :] = 0
    return pixels


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """200 real and 200 synthetic pictures that differ in range, smoothness and padding."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    cases = []
    for number in range(8 * PER_CLASS):
        synthetic, label = number % 2 == 1, CLASSES[number // 2 % 4]
        path = folder / f"{number}.png"
        Image.fromarray(picture(rng, synthetic=synthetic)).save(path)
        names = ("synthetic", "model") if synthetic else ("real", "")
        case = Case(*names, label, f"i{number}", "s", f"p{number}", sha256_file(path))
        cases.append(SampledImage(case, path))
    return cases


def kit_of(cases):
    """A kit of all cases in one session, as a page's specification, and which are synthetic."""
    key = build.build_key(
        ReviewRecipe(readers=["R1"], repeat_fraction=0.0, session_size=500),
        Sample(cases, []),
        classes=CLASSES,
        pools={"model": "0" * 12},
        cohort="0" * 64,
        simulated=False,
        made_by="0" * 12,
        secret=SECRET,
    )
    (name,) = key.kits
    files = {n: one.path for n, one in build.cases_by_id(Sample(cases, [])).items()}
    spec = spec_of(build.build_kit_page(key, name, files, title="t", language="en", side_px=64))
    origins = [key.cases[item.case].origin for item in key.kits[name].items]
    shown = [files[item.case] for item in key.kits[name].items]
    return spec, np.array([origin == "synthetic" for origin in origins]), shown


@pytest.fixture(scope="module")
def kit(drawn):
    return kit_of(drawn)


def test_a_classifier_on_the_files_of_a_kit_tells_nothing(kit):
    spec, truth, _ = kit
    assert len(truth) == 400
    auc, low, _ = attack(spec, truth)
    assert auc <= 0.6
    assert low <= 0.5


def test_the_same_attack_tells_apart_a_kit_with_a_file_for_each_image(kit):
    spec, truth, shown = kit
    uris = ["data:image/png;base64," + base64.b64encode(p.read_bytes()).decode() for p in shown]
    items = [{"id": i["id"], "image": uri} for i, uri in zip(spec["items"], uris, strict=True)]
    auc, low, _ = attack({**spec, "sheets": [], "items": items}, truth)
    assert auc > 0.9
    assert low > 0.7


def test_the_same_attack_finds_an_order_that_is_grouped(kit):
    spec, truth, _ = kit
    order = np.argsort(truth, kind="stable")
    grouped = {**spec, "items": [spec["items"][n] for n in order]}
    assert attack(grouped, truth[order])[0] > 0.9


def test_all_sheets_are_of_one_kind_and_carry_no_metadata(kit):
    spec, truth, _ = kit
    found = [decoded(uri) for uri in spec["sheets"]]
    assert len(found) == 400 // TILES_PER_SHEET
    assert {(im.format, im.mode, str(im.quantization)) for _, im in found} == {
        ("JPEG", "L", str(found[0][1].quantization))
    }
    assert {key for _, im in found for key in im.info} <= {
        *("jfif", "jfif_version", "jfif_unit", "jfif_density"),
    }
    mixes = [truth[n : n + TILES_PER_SHEET].mean() for n in range(0, 400, TILES_PER_SHEET)]
    assert 0 < min(mixes) <= max(mixes) < 1
