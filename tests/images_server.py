"""A loopback server that speaks /v1/images/generations and the Batch API, and does as it is told.

As a program (`python images_server.py --delay 0.2 --size 1024`) it prints its address and answers
every request with one of a few images after the delay.
"""

import argparse
import asyncio
import base64
import io
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np
from PIL import Image

USAGE = {
    "input_tokens": 20,
    "output_tokens": 439,
    "total_tokens": 459,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 20},
}


def picture(seed: int, size_px: int = 32, mode: str = "RGB", fmt: str = "PNG") -> bytes:
    """An image of smooth shapes, in colour, the same for the same seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    shape = 60 + 150 * np.exp(-((x - rng.uniform(-0.5, 0.5)) ** 2 + y**2) / 0.3)
    grey = (shape + rng.uniform(-20, 20)).clip(0, 255).astype(np.uint8)
    channels = [grey, grey // 2 + 60, grey, np.full_like(grey, 255)]
    pixels = {"RGB": np.stack(channels[:3], -1), "RGBA": np.stack(channels, -1), "L": grey}[mode]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=fmt)
    return buffer.getvalue()


@dataclass
class Answer:
    """What is sent; `drop` closes the connection instead: at once, or after half of the body.

    With `drip_seconds` the body comes byte by byte, with this time between them.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: str = ""
    drip_seconds: float = 0.0


def image_answer(data: bytes, **options) -> Answer:
    body = {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}], "usage": USAGE}
    return Answer(body=json.dumps(body).encode(), **options)


def error_answer(status: int, code: str, message: str = "said so", **options) -> Answer:
    extra = options.pop("extra", {})
    body = {"error": {"code": code, "message": message, "type": "error", **extra}}
    return Answer(status=status, body=json.dumps(body).encode(), **options)


def by_prompt(body: dict, _: int) -> Answer:
    """An image that depends on the prompt and the seed alone."""
    seed = zlib.crc32(json.dumps([body["prompt"], body.get("seed")]).encode())
    return image_answer(picture(seed))


class ImagesServer:
    """Runs in a thread. `respond(body, n)` gives the answer to the n-th request (from 0) of a prompt;
    `seen` holds path, headers and body of every request."""

    def __init__(self, respond: Callable[[dict, int], Answer] = by_prompt) -> None:
        self.respond = respond
        self.seen: list[dict] = []
        self.answered = 0
        self._asked: Counter[str] = Counter()
        self.batches: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "ImagesServer":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    @property
    def prompts(self) -> list[str]:
        return [r["body"]["prompt"] for r in self.images]

    @property
    def images(self) -> list[dict]:
        return [r for r in self.seen if r["path"].endswith("/images/generations")]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**26)
        self.port = server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader, writer) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:] if h)}
        content = await self._content(reader, headers)
        answer = self._answer(method, path.partition("?")[0], headers, content)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.drop == "at once":
            return False
        lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(answer.body)}"]
        lines += ["content-type: application/json", f"x-request-id: req-{len(self.seen)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode() + answer.body
        if answer.drip_seconds:
            for byte in whole:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(answer.drip_seconds)
            return True
        writer.write(whole[: len(whole) // 2] if answer.drop == "halfway" else whole)
        await writer.drain()
        self.answered += 1
        return not answer.drop

    async def _content(self, reader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readline()
        return b"".join(parts)

    def _answer(self, method: str, path: str, headers: dict, content: bytes) -> Answer:
        record = {"method": method, "path": path, "headers": headers, "time": time.monotonic()}
        if path.endswith("/images/generations"):
            body = json.loads(content)
            self.seen.append(record | {"body": body})
            self._asked[body["prompt"]] += 1
            return self.respond(body, self._asked[body["prompt"]] - 1)
        self.seen.append(record | {"body": {}, "content": content})
        return self._batch_api(method, path.removeprefix("/v1/"), headers, content)

    # The Batch API, in memory: `finish(batch, lines)` decides how a batch ends.

    finish: Callable[[dict, list[dict]], Answer | None]

    def _batch_api(self, method: str, path: str, headers: dict, content: bytes) -> Answer:
        if path == "files":
            boundary = headers["content-type"].partition("boundary=")[2].encode()
            parts = [p for p in content.split(b"--" + boundary) if b"filename=" in p]
            name = self.keep(parts[0].partition(b"\r\n\r\n")[2][:-2])
            return _json(
                {"id": name, "object": "file", "bytes": 1, "created_at": 1, "status": "x"}
                | {"filename": "x", "purpose": "batch"}
            )
        if path.startswith("files/"):
            return Answer(body=self.files[unquote(path.split("/")[1])])
        if path == "batches" and method == "GET":
            data = list(self.batches.values())
            return _json({"object": "list", "data": data, "has_more": False})
        if path == "batches":
            return _json(self._new_batch(json.loads(content)))
        batch = self.batches[path.split("/")[1]]
        batch["polled"] += 1
        if batch["polled"] > 1 and batch["status"] == "in_progress":
            lines = [json.loads(t) for t in self.files[batch["input_file_id"]].splitlines()]
            if isinstance(refusal := self.finish(batch, lines), Answer):
                return refusal
        return _json(batch)

    def keep(self, data: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return name

    def _new_batch(self, asked: dict) -> dict:
        name = f"batch-{len(self.batches)}"
        self.batches[name] = asked | {
            "id": name,
            "object": "batch",
            "created_at": 1,
            "status": "in_progress",
            "polled": 0,
        }
        return self.batches[name]


def _json(value: dict) -> Answer:
    return Answer(body=json.dumps(value).encode())


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--format", default="PNG")
    given = parser.parse_args()
    pictures = [picture(seed, given.size, fmt=given.format) for seed in range(4)]
    answers = [image_answer(data, delay=given.delay) for data in pictures]
    with ImagesServer(lambda body, n: answers[zlib.crc32(body["prompt"].encode()) % 4]) as server:
        print(server.address, flush=True)
        server._thread.join()


if __name__ == "__main__":
    main()
