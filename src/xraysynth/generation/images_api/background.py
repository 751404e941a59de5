"""An event loop in a thread of its own, whose results are taken one by one."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from xraysynth.generation.images_api.client import ApiRun
from xraysynth.generation.images_api.outcomes import ApiError, redact_secrets
from xraysynth.records import GenerationResult, Request

RESULT_BUFFER_SIZE = 24
"""Finished images that wait for whoever takes them, besides those in flight: memory stays flat."""


def stream_results(
    run: ApiRun, requests: Sequence[Request], *, in_flight: int
) -> Iterator[GenerationResult]:
    """Results as they come, in any order, from an event loop in a thread of its own.

    An interrupt makes no further call, waits for the answers that are paid for, and then goes on.
    """
    background = _BackgroundLoop(run, requests, in_flight + RESULT_BUFFER_SIZE)
    background.thread.start()
    interrupted = False
    try:
        while True:
            try:
                item = background.peek()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted, run.stop_reason = True, run.stop_reason or "interrupted"
                continue
            if item is None:
                break
            yield item
            run.response_cache.remove(item.request.image_id)
            background.pop()
    finally:
        background.stop()
    if background.error:
        raise ApiError(background.error)
    if interrupted:
        raise KeyboardInterrupt


class _BackgroundLoop:
    """The thread with the event loop, and the results that wait to be taken."""

    def __init__(self, run: ApiRun, requests: Sequence[Request], slots: int) -> None:
        self._run, self._requests, self._count = run, requests, slots
        self._ready: deque[GenerationResult] = deque()
        self._news = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self.error = ""
        self.thread = threading.Thread(target=self._main, name="images-api", daemon=True)

    def peek(self) -> GenerationResult | None:
        """The oldest result, which stays until it is `taken`: an interrupt loses none. None is the
        end."""
        while not self._ready:
            if self._ended and not self._ready:
                return None
            self._news.wait()
            self._news.clear()
        return self._ready[0]

    def pop(self) -> None:
        """The oldest result was taken: there is room for one more."""
        self._ready.popleft()
        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # closed in between
                self._loop.call_soon_threadsafe(self._slots.release)

    def stop(self) -> None:
        """Cancel what is still running, and wait for the thread."""
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._task.cancel)
        self.thread.join()

    def _put(self, result: GenerationResult) -> None:
        self._ready.append(result)
        self._news.set()

    def _main(self) -> None:
        try:
            asyncio.run(self._process_all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = _describe_root_cause(error, self._run.call.secret)
        finally:
            self._ended = True
            self._news.set()

    async def _process_all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._slots = asyncio.Semaphore(self._count)
        await self._run.process_all(self._requests, self._put, self._slots)


def _describe_root_cause(error: BaseException, secret: str | None) -> str:
    """The first real cause in a group of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return redact_secrets(f"{type(error).__name__}: {error}", secret)
