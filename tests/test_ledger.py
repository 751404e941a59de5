import subprocess
import sys
import time

import numpy as np
import pytest

from xraysynth import ledger


def entry(outcome="image", **facts):
    return {"outcome": outcome, "facts": facts}


def test_latencies_are_of_images_and_the_rate_leaves_out_loading():
    attempts = [entry(seconds=s) for s in (1.0, 2.0, 3.0)]
    attempts += [entry("failed", seconds=50.0), entry("refused")]
    session = {"images": 3, "seconds": 70.0, "load_seconds": 10.0, "engine": "torch"}
    found = ledger.summary(attempts, [session])
    assert found["seconds_p50"] == 2.0
    assert found["seconds_p95"] == pytest.approx(2.9)
    assert found["images_per_hour"] == pytest.approx(3 / 60 * 3600)
    assert (found["images"], found["attempts"]) == (3, 5)
    assert found["engine"] == "torch"


def test_every_attempt_is_paid_for_and_possible_bills_are_apart():
    attempts = [
        entry("possibly_billed", cost_possible_usd=0.04),
        entry(cost_usd=0.03, retries=2),
        entry("refused", cost_usd=0.01),
    ]
    found = ledger.summary(attempts, [])
    assert found["cost_usd"] == pytest.approx(0.04)
    assert found["cost_usd_per_image"] == pytest.approx(0.04)
    assert found["possible_usd"] == pytest.approx(0.04)
    assert found["retries"] == 2


def test_sessions_add_up_and_their_peaks_do_not():
    sessions = [
        {"images": 2, "seconds": 10.0, "energy_kwh": 0.001, "peak_rss_mb": 300.0},
        {"images": 6, "seconds": 10.0, "energy_kwh": 0.003, "peak_rss_mb": 200.0},
    ]
    found = ledger.summary([], sessions)
    assert found["images_per_hour"] == pytest.approx(8 / 20 * 3600)
    assert found["energy_kwh"] == pytest.approx(0.004)
    assert found["energy_kwh_per_1000"] == pytest.approx(0.5)
    assert found["peak_rss_mb"] == 300.0


def test_an_image_takes_its_part_of_loading_and_of_refusals():
    sessions = [
        {"images": 3, "seconds": 70.0, "load_seconds": 10.0},
        {"images": 0, "seconds": 20.0},
    ]
    assert ledger.summary([], sessions)["seconds_per_image"] == pytest.approx(30.0)
    assert ledger.summary([], sessions[1:])["seconds_per_image"] is None


def test_the_machine_is_that_of_all_sessions_or_of_none():
    sessions = [{"images": 1, "seconds": 1.0, "cpu_cores": 2}] * 2
    assert ledger.summary([], sessions)["cpu_cores"] == 2
    other = {"images": 1, "seconds": 1.0, "cpu_cores": 16, "gpu": "H200", "gpu_memory_mb": 143771}
    found = ledger.summary([], [*sessions, other])
    assert not {"cpu_cores", "gpu", "gpu_memory_mb"} & set(found)


def test_an_empty_pool_has_a_ledger():
    found = ledger.summary([], [])
    assert found["images"] == 0
    assert found["seconds_p50"] is None
    assert found["images_per_hour"] is None


def test_time_memory_and_energy_are_measured():
    with ledger.metered() as found:
        block = np.ones(40_000_000, np.uint8)
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            block.sum()
    del block
    assert 0.3 <= found["seconds"] < 5
    assert found["peak_rss_mb"] > 40
    assert found["cpu_cores"] >= 1
    assert found["energy_kwh"] is None or found["energy_kwh"] > 0


STRETCHES = """
import numpy as np
from xraysynth import ledger
block = np.ones(150_000_000, np.uint8)
del block
with ledger.metered() as found:
    small = np.ones(1_000_000, np.uint8)
with ledger.metered() as large:
    np.ones(150_000_000, np.uint8)
print(found["peak_rss_mb"], large["peak_rss_mb"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets its peak")
def test_the_peak_is_of_the_stretch_and_not_of_the_process():
    # A process of its own: some libraries make malloc keep what is freed.
    code = [sys.executable, "-c", STRETCHES]
    words = subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()
    found, large = map(float, words[-2:])
    assert large > found + 100


def test_an_error_ends_the_stretch_and_is_passed_on():
    with pytest.raises(KeyError), ledger.metered() as found:
        raise KeyError
    assert found["seconds"] >= 0
