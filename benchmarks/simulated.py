"""Simulated radiographs per second on all cores, against one process that renders in turn."""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

os.environ["OMP_NUM_THREADS"] = "1"

from xraysynth.data.sources.simulated import Simulated

SIZE_PX, IMAGES = 64, 240


def render(locator: str) -> None:
    """One image, pixels thrown away."""
    Simulated().load(locator, SIZE_PX)


def main() -> None:
    """Both ways on different images, so that no cache helps; workers are warm in both."""
    locators = list(Simulated(patients_per_class=IMAGES).rows()["locator"])
    render(locators[0])
    began = time.perf_counter()
    for locator in locators[1 : IMAGES // 4]:
        render(locator)
    alone = (IMAGES // 4 - 1) / (time.perf_counter() - began)
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as executor:
        list(executor.map(render, locators[-4 * cores :]))
        began = time.perf_counter()
        list(executor.map(render, locators[IMAGES : 2 * IMAGES], chunksize=8))
        together = IMAGES / (time.perf_counter() - began)
    print(f"{together:.1f} images/s on {cores} cores, {alone:.1f} on one", file=sys.stderr)
    result = {
        "name": "simulated",
        "ratio": round(together / alone, 2),
        "ours": round(together, 2),
        "theirs": round(alone, 2),
        "unit": f"images/s at {SIZE_PX} px",
        "device": f"{cores} CPU cores",
        "n": IMAGES,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
