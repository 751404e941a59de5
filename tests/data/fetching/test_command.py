"""The command line on an empty folder: what it prints on missing data works when it is pasted."""

import io
import re
import zipfile

import numpy as np
import pytest
from command import xraysynth
from file_server import FileServer, serve_file
from PIL import Image

SMALL = ("size_px=16", "splits.minimum_per_class=2", "tracking=none")


@pytest.fixture(scope="module")
def montgomery():
    """The archive of the preset, with 48 small images."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(48):
            picture = io.BytesIO()
            pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(picture, "PNG")
            name = f"MontgomerySet/CXR_png/MCUCXR_{number:04d}_{number % 2}.png"
            archive.writestr(name, picture.getvalue())
    return buffer.getvalue()


def test_the_printed_option_downloads_and_the_command_goes_on(montgomery, tmp_path):
    size = len(montgomery)
    with FileServer(lambda request: serve_file(montgomery, request, cut=size // 2)) as server:
        words = [
            "prepare",
            "source=montgomery",
            f"source.montgomery.fetch.files=[{{name: a.zip, urls: ['{server.url}/a.zip']}}]",
            "classes=[normal,tuberculosis]",
            *SMALL,
        ]
        first = xraysynth(*words, cwd=tmp_path)
        assert first.returncode != 0
        assert not server.requests
        option = re.search(r"Add (\S+) to download", first.stderr)[1]
        second = xraysynth(*words, option, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert '"images": 48' in second.stdout
    assert second.stderr.index("licence:") < second.stderr.index("a.zip:")
    assert len(server.requests) == 2
    third = xraysynth(*(word for word in words if ".fetch." not in word), cwd=tmp_path)
    assert '"skipped": true' in third.stdout
