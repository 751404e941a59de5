"""kill -9 in the middle of 200 concurrent requests, and a restart."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from images_server import ImagesServer, by_prompt

COUNT, IN_FLIGHT, ANSWERED = 300, 200, 60
CODE = f"""
import sys
from pathlib import Path
from dataclasses import replace
from xraysynth.generation import pool
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.prompts import PromptBank
from xraysynth.records import Request

wanted = [Request("normal", n, f"radiograph {{n}}", "", n) for n in range({COUNT})]
generator = Dalle(base_url=sys.argv[1], budget_usd=100.0, concurrency={IN_FLIGHT})
store = pool.pool_store(generator, PromptBank(), seed=0, parent=Path(sys.argv[2]))
pool.fill(store, replace(generator, state_folder=str(store.folder)), wanted)
"""


def start(server: ImagesServer, folder: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"OPENAI_API_KEY": "sk-kill-0123456789"}
    command = [sys.executable, "-c", CODE, server.address, str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def entries(folder: Path) -> list[dict]:
    """Whole lines of the journal."""
    texts = [p.read_bytes().rpartition(b"\n")[0] for p in folder.rglob("shard-*.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_what_was_received_is_not_paid_twice_and_nothing_is_lost(tmp_path):
    killed = False

    def respond(body, n):
        answer = by_prompt(body, n)
        if not killed and len(server.images) > ANSWERED:
            answer.delay = 3600
        return answer

    with ImagesServer(respond) as server:
        process = start(server, tmp_path)
        while len(entries(tmp_path)) < 40:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed = True
        committed = {entry["columns"]["prompt"] for entry in entries(tmp_path)}
        answers = {p.stem for p in tmp_path.rglob("api/*.answer")}
        received = {f"radiograph {int(name.split('-')[1])}" for name in answers} | committed
        open_calls = {p.stem for p in tmp_path.rglob("api/*.sent")} - answers
        asked = len(server.images)
        assert 40 <= len(committed) < COUNT
        assert len(open_calls) > 50  # it was killed in the middle of many
        assert start(server, tmp_path).wait() == 0
        second = {r["body"]["prompt"] for r in server.images[asked:]}
    assert not second & received
    images = [e for e in entries(tmp_path) if e["outcome"] == "image"]
    assert sorted(e["image_id"] for e in images) == [f"normal-{n:06d}" for n in range(COUNT)]
    assert len(list(tmp_path.rglob("images/*.png"))) == COUNT
    lost = {e["image_id"] for e in images if e["facts"]["cost_possible_usd"] > 0}
    assert lost == open_calls  # a call whose answer was lost may have been paid for, and is counted
    assert len(server.images) <= COUNT + len(open_calls)
