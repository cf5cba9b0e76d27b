"""Single calls gathered into batches behind an awaitable."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from clients.errors import ClientError
from lprnet.contract import MAX_BATCH_CPU

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs `work` on whatever was submitted while the calls before were under way.

    A lone item goes at once: there is no timer, and batches grow with the load by themselves,
    as in Triton's own dynamic batching with a delay of 0. Use it in one event loop.

    Args:
        work: takes items, answers as many results in the same order. Its exception goes to
            every item of the batch.
        in_flight: calls of `work` at a time.
        limit: items of one call.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[list[Result]]],
        in_flight: int,
        limit: int = MAX_BATCH_CPU,
    ) -> None:
        self.limit = limit
        self._work = work
        self._in_flight = in_flight
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item; await the future for its result.

        Raises:
            ClientError: after `close`.
        """
        if self._closed:
            raise ClientError("the client is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if not self._scheduled:
            # Not now: what else is submitted in this turn of the loop goes along.
            self._scheduled = True
            loop.call_soon(self._start)
        return future

    async def close(self) -> None:
        """End what runs; items without a result get a ClientError."""
        self._closed = True
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        while self._waiting:
            _fail(self._waiting.popleft()[1], ClientError("the client is closed"))

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._running) < self._in_flight and not self._closed:
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while self._waiting and len(batch) < self.limit:
                item, future = self._waiting.popleft()
                if not future.done():  # its caller may have gone meanwhile
                    batch.append((item, future))
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                _fail(future, ClientError("the client is closed"))
            raise
        except Exception as error:  # each caller gets it
            for _, future in batch:  # one of its own: a traceback grows with whoever raises it
                _fail(future, copy.copy(error))
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


class Shared(Generic[Result]):
    """One call for all who want its result at a time; who comes after it has ended starts anew."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Result] | None = None

    async def __call__(self, ask: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of `ask`, or what it raises; a caller that is cancelled ends nobody else's."""
        if self._task is None:
            self._task = asyncio.create_task(ask())
            self._task.add_done_callback(self._ended)
        return await asyncio.shield(self._task)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # all its callers may be gone


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
