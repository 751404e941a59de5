"""The Batch API: half the price, an answer within 24 hours, and a batch outlives the process.

Lines of requests and answers are joined on `custom_id`, which is the image id. Submitted batches are
noted in the folder (`batch_notes`); processes that share it work on different images, and therefore
on different batches.
"""

import json
import sys
import time
import uuid
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xraysynth.generation.images_api import batch_notes
from xraysynth.generation.images_api.answer_limits import UnacceptableAnswerError, max_answer_bytes
from xraysynth.generation.images_api.batch_files import download_answers
from xraysynth.generation.images_api.batch_notes import SubmittedBatch
from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.outcomes import (
    ApiError,
    CallFailure,
    classify_status,
)
from xraysynth.generation.images_api.redaction import clean_text
from xraysynth.generation.images_api.results import (
    CallSettings,
    Exchange,
    misunderstood_answer,
    result_from_response,
    result_without_image,
)
from xraysynth.records import GenerationResult, JsonObject, Request

BATCH_ENDPOINT = "/v1/images/generations"
RUNNING_STATUSES = ("validating", "in_progress", "finalizing", "cancelling")
MAX_LINES, MAX_BYTES = 50_000, 200 * 10**6
MAX_SHOWN_ERRORS = 3
MAX_LISTED_BATCHES = 20_000

_UNEXPECTED_FORM = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What the SDK's values raise where a server has sent others than the Batch API promises."""


@dataclass
class BatchRunner:
    """Submits requests in batches, waits for them, and yields the results of every batch.

    Attributes:
        settings: Settings that all calls share.
        client: The SDK's synchronous client; closed at the end.
        budget: Limits what is submitted.
        folder: Folder in which batches are noted, or None for a temporary one.
        lines_per_batch: Most requests per batch.
        poll_seconds: Time between two looks at a batch.
        not_sent: Requests that the budget did not allow.
    """

    settings: CallSettings
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
        self._folder = Path(self.folder or self._temporary.name)  # type: ignore[union-attr]
        (self._folder / "api").mkdir(parents=True, exist_ok=True)

    def stream_results(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yields one result per request that is in a batch, or could be put into one.

        Args:
            requests: The images to request; those in a batch of an earlier process are not
                submitted again.

        Raises:
            ApiError: If the service fails or refuses a batch.
        """
        requests_by_id = {request.image_id: request for request in requests}
        try:
            self._load_batches(requests_by_id)
            self._recover_lost_batches()
            self._submit_new(requests_by_id)
            for batch in list(self._batches.values()):
                yield from self._collect_results(batch, requests_by_id)
        except OSError as error:
            raise ApiError(
                f"the batch failed: {type(error).__name__}: {error.strerror}; start again to "
                "continue it"
            ) from None
        except (UnacceptableAnswerError, zlib.error) as error:
            raise ApiError(
                f"the batch failed: an answer is not read ({error}); start again to continue it"
            ) from error
        except _UNEXPECTED_FORM as error:
            raise ApiError(
                "the batch failed: an answer has not the form that the Batch API promises "
                f"({type(error).__name__}); start again to continue it"
            ) from error
        except Exception as error:
            if not type(error).__module__.startswith(("openai", "httpx2")):
                raise
            text = self._clean(f"{type(error).__name__}: {error}")
            raise ApiError(f"the batch failed: {text}; start again to continue it") from None
        finally:
            self.client.close()

    def _clean(self, text: object) -> str:
        return clean_text(str(text), self.settings.secret)

    # Batches of earlier processes

    def _load_batches(self, requests: Mapping[str, Request]) -> None:
        """Loads the batches of an earlier process that hold any of these requests."""
        self._batches = {}
        for batch in batch_notes.load_batches(self._folder):
            if not requests.keys().isdisjoint(batch.ids):
                self._batches[batch.mark] = batch

    def _save_batch(self, batch: SubmittedBatch) -> None:
        """Notes a batch, in memory and on disk, in place of an earlier note.

        An id with the key in it is not written: the batch is then found again by its mark.
        """
        self._batches[batch.mark] = batch
        if batch.id is not None and batch.id != self._clean(batch.id):
            batch = replace(batch, id=None)
        batch_notes.save_batch(self._folder, batch)

    def _delete_batch(self, batch: SubmittedBatch) -> None:
        del self._batches[batch.mark]
        batch_notes.delete_batch(self._folder, batch)

    def _recover_lost_batches(self) -> None:
        """Looks up the service's id of batches whose submission was interrupted.

        A batch that the service does not have is forgotten and submitted again: it has cost nothing.
        """
        batches_without_id = [batch for batch in self._batches.values() if batch.id is None]
        if not batches_without_id:
            return
        ids_by_mark = self._list_batch_ids()
        for batch in batches_without_id:
            if batch.mark in ids_by_mark:
                self._save_batch(replace(batch, id=str(ids_by_mark[batch.mark])))
            else:
                self._delete_batch(batch)

    def _list_batch_ids(self) -> dict[str, str]:
        """Returns the batches that the service has: our mark -> the service's id."""
        ids_by_mark = {}
        batches = self.client.with_options(max_retries=2).batches.list(limit=100)
        for number, batch in enumerate(batches):
            if number == MAX_LISTED_BATCHES:  # a server may list without end
                raise ApiError(
                    f"the service lists more than {MAX_LISTED_BATCHES} batches, so that the one whose "
                    "submission was interrupted is not looked for; delete old ones at the service"
                )
            if batch.metadata:
                ids_by_mark[batch.metadata.get("mark")] = batch.id
        return ids_by_mark

    # Submission

    def _submit_new(self, requests: Mapping[str, Request]) -> None:
        """Submits the requests that are in no batch yet, as far as the budget allows."""
        submitted_ids = set(chain.from_iterable(batch.ids for batch in self._batches.values()))
        for image_id in submitted_ids & requests.keys():
            self.budget.reserve_now(self._max_usd(requests[image_id]))
        new_requests: list[Request] = []
        for image_id, request in requests.items():
            if image_id in submitted_ids:
                continue
            if not self.budget.can_afford(self._max_usd(request)):
                self.not_sent += 1
                continue
            self.budget.reserve_now(self._max_usd(request))
            new_requests.append(request)
        max_usd = max(map(self._max_usd, new_requests), default=0.0)
        for chunk in self._split_into_chunks(new_requests):
            self._submit_chunk(chunk, max_usd)

    def _max_usd(self, request: Request) -> float:
        return self.settings.pricing.max_usd(request.prompt)

    def _split_into_chunks(self, requests: Sequence[Request]) -> Iterator[list[tuple[str, bytes]]]:
        """Yields chunks of (image id, line) that the service accepts as one file."""
        max_lines = min(self.lines_per_batch, MAX_LINES)
        chunk: list[tuple[str, bytes]] = []
        size = 0
        for request in requests:
            line = self._build_line(request)
            if chunk and (len(chunk) == max_lines or size + len(line) > MAX_BYTES):
                yield chunk
                chunk = []
                size = 0
            chunk.append((request.image_id, line))
            size += len(line)
        if chunk:
            yield chunk

    def _build_line(self, request: Request) -> bytes:
        line = {
            "custom_id": request.image_id,
            "method": "POST",
            "url": BATCH_ENDPOINT,
            "body": self.settings.build_body(request),
        }
        return json.dumps(line).encode() + b"\n"

    def _submit_chunk(self, chunk: list[tuple[str, bytes]], max_usd: float) -> None:
        """Uploads a file of requests and submits it; noted before, so that no batch is lost."""
        image_ids, lines = zip(*chunk, strict=True)
        batch = SubmittedBatch(uuid.uuid4().hex, list(image_ids), max_usd=max_usd)
        retrying = self.client.with_options(max_retries=2)  # an upload costs nothing
        file = retrying.files.create(file=("requests.jsonl", b"".join(lines)), purpose="batch")
        self._save_batch(batch)
        submitted = self.client.batches.create(
            input_file_id=file.id,
            endpoint=BATCH_ENDPOINT,
            completion_window="24h",
            metadata={"mark": batch.mark},
        )
        if not submitted.id:
            raise ValueError("the answer names no batch")
        self._save_batch(replace(batch, id=str(submitted.id)))

    # Results

    def _collect_results(
        self, batch: SubmittedBatch, requests: Mapping[str, Request]
    ) -> Iterator[GenerationResult]:
        """Waits for a batch, yields a result for each of its requests, and forgets the batch."""
        finished = self._wait_until_finished(str(batch.id))
        unanswered_ids = [image_id for image_id in batch.ids if image_id in requests]
        failure = CallFailure(
            outcome="failed",
            reason=f"batch {batch.id} {finished.status} without an answer to this line",
        )
        for file_id in (finished.output_file_id, finished.error_file_id):
            if file_id and unanswered_ids:
                is_whole = yield from self._read_answers(
                    str(file_id), len(batch.ids), unanswered_ids, requests
                )
                failure = failure if is_whole else _too_long_file(batch)
        if finished.status == "failed" and len(unanswered_ids) == len(batch.ids):
            self._delete_batch(batch)
            errors = self._format_errors(finished)
            raise ApiError(f"batch {self._clean(batch.id)} was refused: {errors}")
        for image_id in unanswered_ids:
            yield result_without_image(
                self.settings, requests[image_id], failure, self._batch_exchange, None
            )
        self._delete_batch(batch)

    def _max_answer_bytes(self, requests: Mapping[str, Request]) -> int:
        """Returns the longest answer to one of the requests, which all ask for the same size."""
        body = self.settings.build_body(next(iter(requests.values())))
        return max_answer_bytes(str(body.get("size")))

    def _wait_until_finished(self, batch_id: str) -> Any:
        """Waits for the end of a batch and prints every change of its status to stderr."""
        retrying = self.client.with_options(max_retries=5)
        last_message = ""
        while True:
            batch = retrying.batches.retrieve(batch_id)
            progress = _format_progress(batch.request_counts)
            message = self._clean(f"batch {batch_id}: {batch.status}{progress}")
            if message != last_message:
                print(message, file=sys.stderr, flush=True)
                last_message = message
            if batch.status not in RUNNING_STATUSES:
                return batch
            time.sleep(self.poll_seconds)

    def _format_errors(self, batch: Any) -> str:
        """Returns the first errors of a batch as one text without the key."""
        errors = (batch.errors.data or []) if batch.errors else []
        messages = [str(error.message or error.code or "?") for error in errors[:MAX_SHOWN_ERRORS]]
        return self._clean("; ".join(messages) or "no reason given")

    def _read_answers(
        self,
        file_id: str,
        count: int,
        unanswered_ids: list[str],
        requests: Mapping[str, Request],
    ) -> Generator[GenerationResult, None, bool]:
        """Yields the results in a file of answers; removes their ids from `unanswered_ids`.

        Args:
            file_id: The service's id of the file.
            count: Number of requests in the batch.
            unanswered_ids: Image ids without a result.
            requests: Image id -> request.

        Returns:
            Whether the file ended before it was longer than so many answers can be.
        """
        retrying = self.client.with_options(max_retries=2)
        max_bytes = count * self._max_answer_bytes(requests)
        folder = self._folder / "api"
        with download_answers(retrying, file_id, folder=folder, max_bytes=max_bytes) as answers:
            for line in answers.lines():
                image_id = line.get("custom_id")
                if image_id in unanswered_ids:
                    unanswered_ids.remove(image_id)
                    yield self._build_result(requests[image_id], line)
        return answers.is_whole

    def _build_result(self, request: Request, line: JsonObject) -> GenerationResult:
        """Builds the result of one line; one that cannot be understood is possibly billed."""
        try:
            return self._understand_line(request, line)
        except Exception as error:  # one bad line must not end the batch, now and at every restart
            failure = misunderstood_answer(error)
            exchange = self._batch_exchange
            return result_without_image(self.settings, request, failure, exchange, None)

    def _understand_line(self, request: Request, line: JsonObject) -> GenerationResult:
        response = line.get("response") or {}
        status = int(response.get("status_code") or 0)
        request_id = response.get("request_id")
        exchange = replace(
            self._batch_exchange,
            request_id=None if request_id is None else str(request_id),
            status=status or None,
        )
        if status == 200:
            content = json.dumps(response.get("body")).encode()
            return result_from_response(self.settings, request, content, exchange)
        body = response.get("body") or {"error": line.get("error")}
        failure = classify_status(status, {}, body)
        return result_without_image(self.settings, request, failure, exchange, body)

    @property
    def _batch_exchange(self) -> Exchange:
        return Exchange(served_by=f"{self.settings.served_by} (batch)")


def _format_progress(counts: Any) -> str:
    return f", {counts.completed + counts.failed} of {counts.total}" if counts else ""


def _too_long_file(batch: SubmittedBatch) -> CallFailure:
    """Returns the failure of a request whose answer may stand beyond the limit of a file."""
    reason = (
        f"the file of answers of batch {batch.id} is longer than {len(batch.ids)} images can be, and "
        "was not read to its end"
    )
    return CallFailure(outcome="possibly_billed", reason=reason)
