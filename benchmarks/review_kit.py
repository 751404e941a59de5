"""A reading kit of 200 images of 512 px in Chromium: seconds to open, and ms to the next image.

`ours` is the time from opening the file until the first image is decoded and the session can begin;
`theirs` the same for what is written by hand: a page with one <img> an image, shown one at a time.
Both hold the same images, noise that weighs what radiographs do. `next_ms` is from the key that
confirms the answers to the first frame after the next image is drawn. `build_seconds` is from image
files to the finished page.
"""

import io
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES, SIDE_PX, REPEATS = 200, 512, 3
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
OPENED = (
    "() => !document.getElementById('begin').disabled && pictures.ready(0) && performance.now()"
)
PLAIN_OPENED = (
    "() => document.images[0]?.complete && document.readyState === 'complete' && performance.now()"
)
WATCH = """() => {
  window.times = [];
  document.addEventListener("keydown", (event) => {
    if (event.key !== "n") return;
    const before = document.getElementById("image").dataset.item;
    const look = (now) => {
      const item = document.getElementById("image").dataset.item;
      if (!item || item === before) requestAnimationFrame(look);
      else window.times.push(performance.now() - event.timeStamp);
    };
    requestAnimationFrame(look);
  }, { capture: true });
}"""


def page_figures(path: Path, *, answered: int = 60) -> dict[str, float]:
    """Of a kit with the default questions: seconds to open, ms to the next image, megabytes."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        opened = [seconds_to_open(browser, path, OPENED) for _ in range(REPEATS)]
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_function(OPENED)
        times = next_times(page, answered)
        browser.close()
    return {
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "open_seconds": round(statistics.median(opened), 3),
        "next_ms": round(statistics.median(times), 1),
        "next_ms_p95": round(statistics.quantiles(times, n=20)[-1], 1),
        "next_ms_max": round(max(times), 1),
    }


def next_times(page: Any, answered: int) -> list[float]:
    """Milliseconds from the key to the next image, for a reader who takes half a second."""
    page.focus("#begin")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    page.evaluate(WATCH)
    for _ in range(answered):
        for key in "r1111":
            page.keyboard.press(key)
        page.wait_for_timeout(500)
        page.keyboard.press("n")
    page.wait_for_timeout(500)
    times: list[float] = page.evaluate("times")
    return times


def seconds_to_open(browser: Any, path: Path, opened: str) -> float:
    """In a fresh profile, from the start of the navigation."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri(), wait_until="commit")
    milliseconds = page.wait_for_function(opened).json_value()
    context.close()
    return float(milliseconds) / 1000


def plain_page(pixels: Iterable[Any]) -> str:
    """Images as elements of a page, all but the first hidden."""
    from xraysynth.evaluation.reader_study.encoding import JPEG_QUALITY, data_uri

    images = []
    for one in pixels:
        Image.fromarray(one).save(file := io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
        images.append(f'<img src="{data_uri(file.getvalue())}" hidden>')
    return "<!DOCTYPE html><meta charset=utf-8>" + "".join(images).replace(" hidden", "", 1)


def write_pages(folder: Path) -> tuple[Path, Path]:
    """The kit and the plain page with the same images."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation" / "reader_study"))
    from kit_spec import image, kit_spec, render

    spec = kit_spec(IMAGES, side_px=SIDE_PX)
    pages = folder / "kit.html", folder / "plain.html"
    pages[0].write_text(render(spec), encoding="utf-8")
    pages[1].write_text(plain_page(image(n, SIDE_PX) for n in range(IMAGES)), encoding="utf-8")
    return pages


def build_figures(folder: Path) -> dict[str, float]:
    """Seconds and megabytes of a kit from image files; noise with its range stretched weighs more."""
    from kit_spec import CLASSES, image

    from xraysynth.evaluation.reader_study import build
    from xraysynth.evaluation.reader_study.key import Case
    from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
    from xraysynth.evaluation.reader_study.sample import Sample, SampledImage
    from xraysynth.files import sha256_file

    drawn = []
    for n in range(IMAGES):
        origin = ("synthetic", "model") if n % 2 else ("real", "")
        path = folder / f"{n}.png"
        Image.fromarray(image(n, SIDE_PX)).save(path)
        case = Case(*origin, CLASSES[n % 4], str(n), "", str(n), sha256_file(path))
        drawn.append(SampledImage(case, path))
    sample, recipe = Sample(drawn, []), ReviewRecipe(readers=["R1"], repeat_fraction=0.0)
    about = {"pools": {}, "cohort": "", "simulated": True, "made_by": "", "secret": "00" * 32}
    began = time.perf_counter()
    key = build.build_key(recipe, sample, classes=CLASSES, **about)
    (kit,) = key.kits
    files = {name: one.path for name, one in build.cases_by_id(sample).items()}
    html = build.build_kit_page(key, kit, files, title="benchmark", language="en", side_px=SIDE_PX)
    seconds = time.perf_counter() - began
    return {"build_seconds": round(seconds, 2), "built_megabytes": round(len(html) / 1e6, 1)}


def plain_seconds(path: Path) -> float:
    """Seconds to open the plain page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        seconds = [seconds_to_open(browser, path, PLAIN_OPENED) for _ in range(REPEATS)]
        browser.close()
    return statistics.median(seconds)


def main() -> None:
    """Both pages in the same browser; nothing is measured where Chromium is not there."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = write_pages(Path(folder))
        figures = page_figures(ours) | build_figures(Path(folder))
        plain = plain_seconds(theirs)
    print(json.dumps(figures), file=sys.stderr)
    result = {
        "name": "review_kit",
        "ratio": round(plain / figures["open_seconds"], 2),
        "ours": figures["open_seconds"],
        "theirs": round(plain, 3),
        "unit": "seconds to open",
        "device": "CPU, Chromium without a GPU",
        "n": IMAGES,
    }
    print(json.dumps(result | figures))


if __name__ == "__main__":
    main()
