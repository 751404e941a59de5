import subprocess
import sys
import time

import numpy as np
import pytest

from xraysynth.files import append_json_line, read_json_lines
from xraysynth.generation import metering
from xraysynth.generation.ledger import Attempt, Ledger, aggregate_attempts, aggregate_sessions


def entry(outcome="image", **facts):
    return Attempt.from_entry(outcome, facts)


def sessions_of(*lines):
    return [Ledger(**line) for line in lines]


def test_latencies_are_of_images_and_the_rate_leaves_out_loading():
    attempts = [entry(seconds=s) for s in (1.0, 2.0, 3.0)]
    attempts += [entry("failed", seconds=50.0), entry("refused")]
    session = {"images": 3, "seconds": 70.0, "load_seconds": 10.0, "engine": "torch"}
    found = aggregate_attempts(attempts, sessions_of(session))
    assert found.seconds_p50 == 2.0
    assert found.seconds_p95 == pytest.approx(2.9)
    assert found.images_per_hour == pytest.approx(3 / 60 * 3600)
    assert (found.images, found.attempts) == (3, 5)
    assert found.engine == "torch"


def test_every_attempt_is_paid_for_and_possible_bills_are_apart():
    attempts = [
        entry("possibly_billed", cost_possible_usd=0.04),
        entry(cost_usd=0.03, retries=2),
        entry("refused", cost_usd=0.01),
    ]
    found = aggregate_attempts(attempts, [])
    assert found.cost_usd == pytest.approx(0.04)
    assert found.cost_usd_per_image == pytest.approx(0.04)
    assert found.possible_usd == pytest.approx(0.04)
    assert found.retries == 2


def test_sessions_add_up_and_their_peaks_do_not():
    sessions = [
        {"images": 2, "seconds": 10.0, "energy_kwh": 0.001, "peak_rss_mb": 300.0},
        {"images": 6, "seconds": 10.0, "energy_kwh": 0.003, "peak_rss_mb": 200.0},
    ]
    found = aggregate_attempts([], sessions_of(*sessions))
    assert found.images_per_hour == pytest.approx(8 / 20 * 3600)
    assert found.energy_kwh == pytest.approx(0.004)
    assert found.energy_kwh_per_1000 == pytest.approx(0.5)
    assert found.peak_rss_mb == 300.0


def test_an_image_takes_its_part_of_loading_and_of_refusals():
    sessions = [
        {"images": 3, "seconds": 70.0, "load_seconds": 10.0},
        {"images": 0, "seconds": 20.0},
    ]
    assert aggregate_attempts([], sessions_of(*sessions)).seconds_per_image == pytest.approx(30.0)
    assert aggregate_attempts([], sessions_of(*sessions[1:])).seconds_per_image is None


def test_the_machine_is_that_of_all_sessions_or_of_none():
    sessions = [{"images": 1, "seconds": 1.0, "cpu_cores": 2}] * 2
    assert aggregate_attempts([], sessions_of(*sessions)).cpu_cores == 2
    other = {"images": 1, "seconds": 1.0, "cpu_cores": 16, "gpu": "H200", "gpu_memory_mb": 143771}
    found = aggregate_attempts([], sessions_of(*sessions, other))
    assert (found.cpu_cores, found.gpu, found.gpu_memory_mb) == (None, None, None)


def test_an_empty_pool_has_a_ledger():
    found = aggregate_attempts([], [])
    assert found.images == 0
    assert found.seconds_p50 is None
    assert found.images_per_hour is None


def test_time_memory_and_energy_are_measured():
    began = time.perf_counter()
    with metering.measure_resources() as meter:
        block = np.ones(40_000_000, np.uint8)
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            block.sum()
    del block
    found = meter.ledger
    assert 0.3 <= found.seconds <= time.perf_counter() - began
    assert found.peak_rss_mb > 40
    assert found.cpu_cores >= 1
    assert found.energy_kwh is None or found.energy_kwh > 0


STRETCHES = """
import numpy as np
from xraysynth.generation import metering
block = np.ones(150_000_000, np.uint8)
del block
with metering.measure_resources() as small_block:
    small = np.ones(1_000_000, np.uint8)
with metering.measure_resources() as large:
    np.ones(150_000_000, np.uint8)
print(small_block.ledger.peak_rss_mb, large.ledger.peak_rss_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets its peak")
def test_the_peak_is_of_the_stretch_and_not_of_the_process():
    # A process of its own: some libraries make malloc keep what is freed.
    code = [sys.executable, "-c", STRETCHES]
    words = subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()
    found, large = map(float, words[-2:])
    assert large > found + 100


def test_an_error_ends_the_stretch_and_is_passed_on():
    with pytest.raises(KeyError), metering.measure_resources() as meter:
        raise KeyError
    assert meter.ledger.seconds >= 0


def test_a_rate_divides_what_is_known_by_the_images_that_it_is_known_of():
    known = {"images": 50, "seconds": 100.0, "load_seconds": 20.0, "energy_kwh": 0.05}
    unknown = {"images": 50, "seconds": 300.0, "energy_kwh": None}
    found = aggregate_attempts([entry()] * 100, sessions_of(known, unknown))
    assert found.energy_kwh_per_1000 == pytest.approx(1.0)
    assert found.energy_kwh is None
    assert found.energy_kwh_at_least == pytest.approx(0.05)
    assert found.seconds_per_image == pytest.approx(4.0)
    assert found.images_per_hour == pytest.approx(50 / 80 * 3600)  # its loading is unknown


def test_images_that_a_killed_session_made_have_no_part_in_a_rate():
    session = {"images": 30, "seconds": 60.0, "energy_kwh": 0.03}
    found = aggregate_attempts([entry(seconds=2.0)] * 100, sessions_of(session))
    assert found.seconds_per_image == pytest.approx(2.0)
    assert found.energy_kwh_per_1000 == pytest.approx(1.0)
    assert found.energy_kwh is None
    assert found.energy_kwh_at_least == pytest.approx(0.03)


def test_an_image_without_a_price_is_not_free():
    attempts = [entry(cost_usd=0.04)] * 3 + [entry("refused", cost_usd=0.03)]
    attempts += [entry(cost_usd=0.0, cost_possible_usd=0.05)] * 2  # its answer named no usage
    found = aggregate_attempts(attempts, [])
    assert found.cost_usd == pytest.approx(0.15)
    assert found.cost_usd_per_image == pytest.approx(0.05)
    assert found.possible_usd == pytest.approx(0.1)
    own = aggregate_attempts([entry(seconds=1.0)], [])
    assert own.cost_usd is None
    assert own.cost_usd_per_image is None
    free = aggregate_attempts([entry(cost_usd=0.0)], [])
    assert free.cost_usd_per_image == 0.0


def test_the_sessions_of_a_work_add_up_to_the_whole_of_it(tmp_path):
    journal = tmp_path / "ledger.jsonl"
    for _ in range(2):
        with pytest.raises(KeyError), metering.measure_session(journal):
            raise KeyError
    lines = read_json_lines(journal)
    for line in lines:
        line |= {"seconds": 10.0, "energy_kwh": 0.5} if line["session"] == "ended" else {}
    journal.unlink()
    for line in lines:
        append_json_line(journal, line)
    found = aggregate_sessions(journal)
    assert (found.seconds, found.energy_kwh) == (20.0, 1.0)
    assert (found.sessions, found.unmetered_sessions) == (2, 0)
    append_json_line(journal, {"session": "begun"})  # and was killed
    found = aggregate_sessions(journal)
    assert (found.seconds, found.energy_kwh) == (None, None)
    assert (found.seconds_at_least, found.energy_kwh_at_least) == (20.0, 1.0)
    assert (found.sessions, found.unmetered_sessions) == (3, 1)
