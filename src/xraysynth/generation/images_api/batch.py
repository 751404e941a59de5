"""The Batch API: half the price, an answer within 24 hours, and a batch outlives the process.

    <folder>/api/<mark>.batch        a batch that was submitted and not yet handed on in full
    <folder>/api/<file id>.jsonl     the answers of a finished batch, until they are handed on

Lines are joined on `custom_id`, which is the image id. Processes that share the folder work on
different images, and so on different batches.
"""

import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xraysynth.files import write_atomically
from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.outcomes import (
    ApiError,
    Verdict,
    classify_status,
    redact_secrets,
)
from xraysynth.generation.images_api.results import (
    CallSettings,
    Exchange,
    result_from_response,
    result_without_image,
)
from xraysynth.records import GenerationResult, JsonObject, Request, from_json, to_json

BATCH_ENDPOINT = "/v1/images/generations"
RUNNING_STATUSES = ("validating", "in_progress", "finalizing", "cancelling")
MAX_LINES, MAX_BYTES = 50_000, 200 * 10**6


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch of the images `ids`, which the service knows by `mark`, and by `id` once it has it."""

    mark: str
    ids: Sequence[str]
    id: str | None = None


@dataclass
class BatchRunner:
    """Submits what is in no batch yet, waits, and hands on the answers of every batch."""

    call: CallSettings
    client: Any
    budget: Budget
    folder: str | None
    lines_per_batch: int
    poll_seconds: float
    not_sent: int = 0
    _temporary: "TemporaryDirectory[str] | None" = None
    _batches: dict[str, SubmittedBatch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder is None:
            self._temporary = TemporaryDirectory()
        self._place = Path(self.folder or self._temporary.name) / "api"  # type: ignore[union-attr]
        self._place.mkdir(parents=True, exist_ok=True)

    def stream_results(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """One result per request that is, or could be put, into a batch."""
        wanted = {request.image_id: request for request in requests}
        try:
            self._load_batches(wanted)
            self._recover_lost_batches()
            self._submit_new(wanted)
            for batch in list(self._batches.values()):
                yield from self._collect_results(batch, wanted)
        except OSError as error:
            raise ApiError(f"batch: {type(error).__name__}: {error.strerror}") from None
        except Exception as error:
            if not type(error).__module__.startswith(("openai", "httpx2")):
                raise
            text = redact_secrets(f"{type(error).__name__}: {error}", self.call.secret)
            raise ApiError(f"batch: {text}; start again to go on with it") from None
        finally:
            self.client.close()

    def _load_batches(self, wanted: Mapping[str, Request]) -> None:
        """The batches of an earlier process that hold any of these requests."""
        self._batches = {}
        for path in sorted(self._place.glob("*.batch")):
            batch = from_json(SubmittedBatch, json.loads(path.read_text()))
            if not wanted.keys().isdisjoint(batch.ids):
                self._batches[batch.mark] = batch

    def _save_batch(self, batch: SubmittedBatch) -> None:
        """Keep what is known of a batch, in place of what was."""
        self._batches[batch.mark] = batch
        write_atomically(self._batch_path(batch), json.dumps(to_json(batch)).encode())

    def _delete_batch(self, batch: SubmittedBatch) -> None:
        del self._batches[batch.mark]
        self._batch_path(batch).unlink(missing_ok=True)

    def _batch_path(self, batch: SubmittedBatch) -> Path:
        return self._place / f"{batch.mark}.batch"

    def _recover_lost_batches(self) -> None:
        """A batch whose submission broke off is looked for by its mark; what is not there is sent
        again: a batch without an id has cost nothing."""
        lost = [batch for batch in self._batches.values() if batch.id is None]
        if not lost:
            return
        retrying = self.client.with_options(max_retries=2)
        there = {
            b.metadata.get("mark"): b.id for b in retrying.batches.list(limit=100) if b.metadata
        }
        for batch in lost:
            if batch.mark in there:
                self._save_batch(replace(batch, id=there[batch.mark]))
            else:
                self._delete_batch(batch)

    def _submit_new(self, wanted: Mapping[str, Request]) -> None:
        """Put what is in no batch yet into new ones, as far as the budget reaches."""
        submitted = {name for batch in self._batches.values() for name in batch.ids}
        for name in submitted & set(wanted):
            self.budget.reserve_now(self._max_usd(wanted[name]))
        new: list[Request] = []
        for request in (r for name, r in wanted.items() if name not in submitted):
            if not self.budget.can_afford(self._max_usd(request)):
                self.not_sent += 1
                continue
            self.budget.reserve_now(self._max_usd(request))
            new.append(request)
        for chunk in self._split_into_chunks(new):
            self._submit_chunk(chunk)

    def _max_usd(self, request: Request) -> float:
        return self.call.pricing.max_usd(request.prompt)

    def _split_into_chunks(self, requests: Sequence[Request]) -> Iterator[list[tuple[str, bytes]]]:
        """Lines in files that the service takes."""
        chunk: list[tuple[str, bytes]] = []
        size = 0
        for request in requests:
            line = self._build_line(request)
            if chunk and (
                len(chunk) == min(self.lines_per_batch, MAX_LINES) or size + len(line) > MAX_BYTES
            ):
                yield chunk
                chunk, size = [], 0
            chunk.append((request.image_id, line))
            size += len(line)
        if chunk:
            yield chunk

    def _build_line(self, request: Request) -> bytes:
        body = self.call.build_body(request)
        record = {
            "custom_id": request.image_id,
            "method": "POST",
            "url": BATCH_ENDPOINT,
            "body": body,
        }
        return json.dumps(record).encode() + b"\n"

    def _submit_chunk(self, chunk: list[tuple[str, bytes]]) -> None:
        batch = SubmittedBatch(mark=uuid.uuid4().hex, ids=[name for name, _ in chunk])
        content = b"".join(line for _, line in chunk)
        retrying = self.client.with_options(max_retries=2)  # an upload costs nothing
        file = retrying.files.create(file=("requests.jsonl", content), purpose="batch")
        self._save_batch(batch)
        submitted = self.client.batches.create(
            input_file_id=file.id,
            endpoint=BATCH_ENDPOINT,
            completion_window="24h",
            metadata={"mark": batch.mark},
        )
        self._save_batch(replace(batch, id=submitted.id))

    def _collect_results(
        self, batch: SubmittedBatch, wanted: Mapping[str, Request]
    ) -> Iterator[GenerationResult]:
        finished = self._wait_until_finished(str(batch.id))
        open_ids = [name for name in batch.ids if name in wanted]
        for file_id in (finished.output_file_id, finished.error_file_id):
            if file_id and open_ids:
                yield from self._read_output_file(file_id, open_ids, wanted)
        if finished.status == "failed" and len(open_ids) == len(batch.ids):
            self._delete_batch(batch)
            raise ApiError(f"batch {batch.id} was refused: {self._format_errors(finished)}")
        for name in open_ids:
            reason = f"batch {batch.id} {finished.status} without an answer to this line"
            yield self._result_without_image(wanted[name], Verdict(outcome="failed", reason=reason))
        self._delete_batch(batch)

    def _wait_until_finished(self, batch_id: str) -> Any:
        """Wait for the end of a batch, saying on stderr how it stands."""
        retrying, said = self.client.with_options(max_retries=5), ""
        while True:
            batch = retrying.batches.retrieve(batch_id)
            counts = batch.request_counts
            done = f", {counts.completed + counts.failed} of {counts.total}" if counts else ""
            if said != (said := f"batch {batch_id}: {batch.status}{done}"):
                print(said, file=sys.stderr, flush=True)
            if batch.status not in RUNNING_STATUSES:
                return batch
            time.sleep(self.poll_seconds)

    def _format_errors(self, batch: Any) -> str:
        found = (
            [e.message or e.code or "?" for e in (batch.errors.data or [])] if batch.errors else []
        )
        return redact_secrets("; ".join(found[:3]) or "no reason given", self.call.secret)

    def _read_output_file(
        self, file_id: str, open_ids: list[str], wanted: Mapping[str, Request]
    ) -> Iterator[GenerationResult]:
        """Results of a file's lines; `open_ids` loses those that were answered."""
        path = self._place / f"{file_id}.jsonl"
        retrying = self.client.with_options(max_retries=2)
        with retrying.files.with_streaming_response.content(file_id) as response:
            response.stream_to_file(path)
        with path.open("rb") as file:
            for text in file:
                line = _parse_line(text)
                name = line.get("custom_id")
                if name in open_ids:
                    open_ids.remove(name)
                    yield self._build_result(wanted[name], line)
        path.unlink()

    def _build_result(self, request: Request, line: JsonObject) -> GenerationResult:
        response, error = line.get("response") or {}, line.get("error")
        status = response.get("status_code", 0)
        exchange = replace(
            self._batch_exchange, request_id=response.get("request_id"), status=status or None
        )
        if status == 200:
            content = json.dumps(response.get("body")).encode()
            return result_from_response(self.call, request, content, exchange)
        body = response.get("body") or {"error": error}
        return result_without_image(
            self.call, request, classify_status(status, {}, body), exchange, body
        )

    def _result_without_image(self, request: Request, verdict: Verdict) -> GenerationResult:
        return result_without_image(self.call, request, verdict, self._batch_exchange, None)

    @property
    def _batch_exchange(self) -> Exchange:
        return Exchange(served_by=f"{self.call.served_by} (batch)")


def _parse_line(text: bytes) -> JsonObject:
    """A line of an answer file; a damaged one answers nothing."""
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
