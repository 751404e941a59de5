import csv
import html
import io

import numpy as np
import pytest
from PIL import Image

from xraysynth.records import sha256_bytes
from xraysynth.release.images import DISCLAIMER, METADATA_FILE, with_png_text, write_images

COMMON = {"Disclaimer": DISCLAIMER, "Model": "owner/name", "Revision": "f" * 40, "Copyright": "MIT"}


def rows(folder):
    with (folder / METADATA_FILE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pixels_stay_and_every_image_says_what_it_is(images, tmp_path):
    write_images(images, COMMON, tmp_path / "out")
    for path, row in zip(images.files, images.table.to_dict("records"), strict=True):
        released = tmp_path / "out" / "train" / row["label"] / path.name
        with Image.open(path) as before, Image.open(released) as after:
            assert np.array_equal(np.asarray(before), np.asarray(after))
            assert after.mode == before.mode
            assert after.text.items() >= COMMON.items()
            assert after.text["Prompt"] == row["prompt"]
            assert after.text["Seed"] == str(row["seed"])
            assert after.text["Pool"] == "0123456789ab"
            assert not before.text


def test_the_table_is_that_of_an_image_folder(images, tmp_path):
    write_images(images, COMMON, tmp_path)
    found = rows(tmp_path)
    assert list(found[0]) == ["file_name", "label", "prompt", "seed", "sha256"]
    assert [row["prompt"] for row in found] == list(images.table["prompt"])
    for row in found:
        assert sha256_bytes((tmp_path / "train" / row["file_name"]).read_bytes()) == row["sha256"]


def test_no_prompt_is_a_formula_and_the_png_keeps_it(images, tmp_path):
    from dataclasses import replace

    prompt = '=HYPERLINK("http://example.org", "open")'
    write_images(replace(images, table=images.table.assign(prompt=prompt)), COMMON, tmp_path)
    assert {row["prompt"] for row in rows(tmp_path)} == {f"'{prompt}"}
    with Image.open(tmp_path / "train" / rows(tmp_path)[0]["file_name"]) as image:
        assert image.text["Prompt"] == prompt


def test_no_text_of_a_png_is_html(images, tmp_path):
    from dataclasses import replace

    prompt = '<script>alert(1)</script> CTR < 0.5 & "clear"'
    write_images(
        replace(images, table=images.table.assign(prompt=prompt)),
        {"Copyright": "<b>mine</b>"},
        tmp_path,
    )
    with Image.open(tmp_path / "train" / rows(tmp_path)[0]["file_name"]) as image:
        assert not any("<" in value for value in image.text.values())
        assert html.unescape(image.text["Prompt"]) == prompt
        assert image.text["Copyright"] == "&lt;b&gt;mine&lt;/b&gt;"


def test_images_without_a_seed_say_none(images, tmp_path):
    from dataclasses import replace

    table = images.table.assign(seed=None)
    write_images(replace(images, table=table), COMMON, tmp_path)
    assert {row["seed"] for row in rows(tmp_path)} == {""}


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_old_text_goes_and_colour_stays(shape):
    from PIL.PngImagePlugin import PngInfo

    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    secret, buffer = PngInfo(), io.BytesIO()
    secret.add_text("Author", "somebody")
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=secret)
    with Image.open(io.BytesIO(with_png_text(buffer.getvalue(), COMMON))) as image:
        assert image.text == COMMON
        assert np.array_equal(np.asarray(image), pixels)
