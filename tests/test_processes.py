"""Worker processes end with the process that started them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import os, time
from xraysynth.stages.study import _build_executor

if __name__ == "__main__":
    with _build_executor(2) as executor:
        workers = {executor.submit(os.getpid).result() for _ in range(2)}
        busy = executor.submit(time.sleep, 600)
        print(*workers, flush=True)
        busy.result()
"""


def is_running(process_id: int) -> bool:
    """Whether a process is there and no zombie, which nobody may collect in a container."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_of_a_killed_study_end_with_it(tmp_path, sent):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert workers
        assert all(map(is_running, workers))
        parent.send_signal(sent)
    patience = time.monotonic() + 120  # they end at once; a busy machine needs longer
    while any(map(is_running, workers)) and time.monotonic() < patience:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
