import getpass
import json
import socket
import sys
from pathlib import Path

from xraysynth.jobs.provenance import collect_environment, peak_memory_mb
from xraysynth.records import to_json


def test_the_environment_names_versions_and_nobody():
    found = collect_environment()
    assert found.versions["xraysynth"]
    assert found.versions["torch"]
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    text = json.dumps(to_json(found))
    assert str(Path.home()) not in text
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text.split('"')


def test_the_gpu_is_asked_for_as_soon_as_torch_is_there():
    collect_environment()
    import torch

    expected = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    assert collect_environment().gpu == expected


def test_peak_memory_is_in_megabytes():
    assert 20 < peak_memory_mb() < 100_000
