"""Images per second through the API generator, against a plain loop with the SDK.

A loopback server in a process of its own answers every request with a 1024² image after 0.2 s; 50
requests are in flight, so that it allows 250 images a second. Both ways decode to grey and write what
came to disk. A PNG (give PNG as argument) takes three times as long to decode as a JPEG: on two cores
the decoder is then the limit.
"""

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from PIL import Image

from xraysynth.generation.generators.dalle import Dalle
from xraysynth.records import Request

SERVER = Path(__file__).parents[1] / "tests" / "images_server.py"
IMAGES, ALONE, IN_FLIGHT, DELAY_SECONDS, SIZE_PX = 1000, 30, 50, 0.2, 1024
FORMAT = sys.argv[1] if len(sys.argv) > 1 else "JPEG"


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wanted(count: int) -> list[Request]:
    """Requests with prompts of their own."""
    return [Request("normal", n, f"PA chest radiograph {n}", "", n) for n in range(count)]


def together(address: str, folder: Path) -> tuple[float, float, float]:
    """Images per second of the generator, how far its memory grew, processor seconds per image."""
    generator = Dalle(
        base_url=address,
        model="local",
        price_usd_per_image=0.0,
        concurrency=IN_FLIGHT,
        state_folder=str(folder),
    )
    list(generator.generate(wanted(2)))
    peak, before, running = [resident_mb()], resident_mb(), True

    def watch() -> None:
        while running:
            peak.append(resident_mb())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, busy = time.perf_counter(), time.process_time()
    for result in generator.generate(wanted(IMAGES)):
        assert result.pixels is not None, result.reason
        for suffix, data in result.archive.items():
            (folder / f"{result.request.image_id}.{suffix}").write_bytes(data)
    rate = IMAGES / (time.perf_counter() - began)
    busy = time.process_time() - busy
    running = False
    watcher.join()
    return rate, max(peak) - before, busy / IMAGES


def allowed(address: str) -> float:
    """Answers per second that the server gives to bare sockets which throw them away."""
    port = int(address.split(":")[2].split("/")[0])
    body = json.dumps({"prompt": "x", "model": "local"})
    head = f"POST /v1/images/generations HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"

    async def connection(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        for _ in range(count):
            writer.write((head + body).encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            await reader.readexactly(int(answer.split("content-length: ")[1].split("\r")[0]))
        writer.close()

    async def all_connections() -> None:
        await asyncio.gather(*(connection(IMAGES // IN_FLIGHT) for _ in range(IN_FLIGHT)))

    began = time.perf_counter()
    asyncio.run(all_connections())
    return IMAGES / (time.perf_counter() - began)


def alone(address: str, folder: Path) -> float:
    """Images per second of the loop that one would write."""
    import openai

    client = openai.OpenAI(base_url=address, api_key="none")
    began = time.perf_counter()
    for request in wanted(ALONE):
        answer = client.images.generate(model="local", prompt=request.prompt, size="1024x1024")
        data = base64.b64decode(answer.data[0].b64_json)
        np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        (folder / f"{request.image_id}.png").write_bytes(data)
    return ALONE / (time.perf_counter() - began)


def main() -> None:
    """Both ways against the same server."""
    command = [sys.executable, str(SERVER), f"--delay={DELAY_SECONDS}", f"--size={SIZE_PX}"]
    server = subprocess.Popen([*command, f"--format={FORMAT}"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            most = allowed(address)
            sequential = alone(address, Path(folder))
            rate, growth_mb, busy_seconds = together(address, Path(folder))
    finally:
        server.kill()
    print(
        f"{rate:.1f} images/s, {rate / most:.0%} of the {most:.1f} that the server gives to bare "
        f"sockets; {sequential:.2f} in a plain loop",
        file=sys.stderr,
    )
    result = {
        "name": "images_api",
        "ratio": round(rate / sequential, 2),
        "ours": round(rate, 2),
        "theirs": round(sequential, 2),
        "unit": f"images/s at {SIZE_PX} px ({FORMAT})",
        "device": f"{len(os.sched_getaffinity(0))} CPU cores, {IN_FLIGHT} requests in flight",
        "n": IMAGES,
        "server_allows": round(most, 1),
        "share_of_server": round(rate / most, 3),
        "memory_growth_mb": round(growth_mb, 1),
        "processor_ms_per_image": round(busy_seconds * 1000, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
