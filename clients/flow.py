"""Work on a stream of items in several threads, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[Result]:
    """Like `map`, with up to `in_flight` calls at a time.

    Items are taken only as results leave: at most twice `in_flight` of them are held. The first
    exception of `work` ends the iteration; calls that have begun are left to end by their own
    deadlines. One of `items` is raised behind the results of those before it.
    """
    source = UntilError(items)
    head = list(islice(source, 2))
    if len(head) < 2 or in_flight == 1:  # nothing to overlap: no thread needed
        for item in head:
            yield work(item)
        for item in source:
            yield work(item)
        source.check()
        return
    pool = ThreadPoolExecutor(in_flight, "lprnet-client")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in head:
            waiting.append(pool.submit(work, item))
        for item in source:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        source.check()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter; what `items` raises comes behind it."""
    source = UntilError(items)
    while chunk := list(islice(source, size)):
        yield chunk
    source.check()


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
