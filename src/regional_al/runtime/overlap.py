"""Work on one item while the next one is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def overlapped(
    work: Callable[[A], B], items: Iterable[A], apart: Callable[[A], bool], ahead: int = 1
) -> Generator[B, None, None]:
    """`map(work, items)`, where work on an item may run on a thread while the next item is made.

    One thread does all the work that is done apart, so that at any time one item is worked on. The
    first item is made before the thread starts: a data loader can fork its processes then. No
    thread outlives the iteration.

    Args:
        work: May be called on the thread; one call at a time.
        items: Iterated over by the caller's thread.
        apart: Whether an item's work runs on the thread; else the caller waits for it.
        ahead: Number of items that may be made beyond the one that is yielded next, >= 1.

    Yields:
        work(item), in the order of the items.

    Raises:
        Exception: What `items` or `work` raises; nothing of a later item is yielded before.

    Example:
        >>> list(overlapped(lambda n: n * n, range(4), apart=lambda n: n > 0))
        [0, 1, 4, 9]
    """
    pool: ThreadPoolExecutor | None = None
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            if apart(item):
                pool = pool or ThreadPoolExecutor(1, "overlapped")
                waiting.append(pool.submit(work, item))
            else:
                while waiting:
                    yield waiting.popleft().result()
                yield work(item)
            while len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if pool is not None:
            pool.shutdown()
