"""Work on a stream of items in several threads: results in order, each at once, memory bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_batches(
    work: Callable[[list[Item]], list[Result]],
    items: Iterable[Item],
    *,
    size: int,
    in_flight: int,
    bytes_of: Callable[[Item], int] | None = None,
    max_bytes: int = 0,
) -> Generator[Result, None, None]:
    """Results of `work` on batches of `items`, one after another, in the order of the items.

    A batch is what has come while the calls before were under way, so that a slow source (a
    camera, somebody typing) is answered at once and a quick one in full batches. `items` are taken
    in a thread of their own.

    Args:
        work: takes 1 to `size` items.
        items: taken only as results leave: at most three times `in_flight` batches are held.
        in_flight: calls of `work` at a time.
        bytes_of: size of an item, where batches shall hold `max_bytes` at most; a larger item goes
            alone.

    Raises:
        what `work` raises, behind the results before it; calls under way are left to end by their
        own deadlines. What `items` raises comes behind the results of all items before.
    """
    line = _Line(work, items, size, in_flight, bytes_of, max_bytes)
    try:
        line.start()
        while (future := line.next_batch()) is not None:
            yield from future.result()
        line.check()
    finally:
        line.close()


class _Line(Generic[Item, Result]):
    """Items that have come and batches under way, under one lock."""

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        items: Iterable[Item],
        size: int,
        in_flight: int,
        bytes_of: Callable[[Item], int] | None,
        max_bytes: int,
    ) -> None:
        self._work, self._items = work, items
        self._size, self._in_flight = size, in_flight
        self._bytes_of, self._max_bytes = bytes_of, max_bytes
        self._incoming: deque[tuple[Item, int]] = deque()
        self._incoming_bytes = 0
        self._batches: deque[Future[list[Result]]] = deque()
        self._ended = self._closed = False
        self._failure: BaseException | None = None
        lock = threading.Lock()
        self._room = threading.Condition(lock)  # for whoever brings items
        self._arrived = threading.Condition(lock)  # for whoever works on them
        self._begun = threading.Condition(lock)  # for whoever takes results

    def start(self) -> None:
        # Daemons: a program may end with results that nobody took, or in a source that hangs.
        for target in (self._feed, *[self._run] * self._in_flight):
            threading.Thread(target=target, name="lprnet-client", daemon=True).start()

    def next_batch(self) -> Future[list[Result]] | None:
        """The oldest batch that was begun; None when there will be no more."""
        with self._begun:
            while not self._batches and not self._is_empty():
                self._begun.wait()
            if not self._batches:
                return None
            self._arrived.notify()  # there is room for another one
            return self._batches.popleft()

    def check(self) -> None:
        """Raise what ended the items early."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        with self._room:
            self._closed = True
            self._incoming.clear()
            self._wake_all()

    def _is_empty(self) -> bool:
        return self._closed or (self._ended and not self._incoming)

    def _wake_all(self) -> None:
        for condition in (self._room, self._arrived, self._begun):
            condition.notify_all()

    def _feed(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:  # whatever the caller's source raises: `check` tells
            self._failure = error
        finally:
            with self._room:
                self._ended = True
                self._wake_all()
            if isinstance(self._items, Generator):
                self._items.close()

    def _put(self, item: Item) -> bool:
        """Wait for room; False when nobody wants any more."""
        weight = 0 if self._bytes_of is None else self._bytes_of(item)
        with self._room:
            while self._is_full() and not self._closed:
                self._room.wait()
            if self._closed:
                return False
            self._incoming.append((item, weight))
            self._incoming_bytes += weight
            self._arrived.notify()
            return True

    def _is_full(self) -> bool:
        many = len(self._incoming) >= self._size * self._in_flight
        return many or (self._bytes_of is not None and self._incoming_bytes >= self._max_bytes)

    def _run(self) -> None:
        while True:
            with self._arrived:
                while not self._is_empty() and not (
                    self._incoming and len(self._batches) < 2 * self._in_flight
                ):
                    self._arrived.wait()
                if self._is_empty():
                    return
                batch = self._take()
                future: Future[list[Result]] = Future()
                self._batches.append(future)
                self._room.notify()
                self._begun.notify()
            try:
                future.set_result(self._work(batch))
            except BaseException as error:  # the thread that asks for the result raises it
                future.set_exception(error)
            del batch, future  # while this thread waits for the next one

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        taken_bytes = 0
        while self._incoming and len(batch) < self._size:
            item, weight = self._incoming[0]
            if batch and self._bytes_of is not None and taken_bytes + weight > self._max_bytes:
                break
            self._incoming.popleft()
            self._incoming_bytes -= weight
            taken_bytes += weight
            batch.append(item)
        return batch


class UntilError(Iterator[Item]):
    """Ends where `items` fails, so that nothing before the failure is lost; `check` raises it."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._failure: Exception | None = None

    def __next__(self) -> Item:
        if self._failure is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._failure = error
            raise StopIteration from None

    def check(self) -> None:
        """Raise what ended the iteration early."""
        if self._failure is not None:
            raise self._failure
