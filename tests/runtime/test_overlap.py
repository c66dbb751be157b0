"""Work beside the next item: order, errors, one at a time, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from regional_al.runtime.overlap import overlapped

CALLER = threading.get_ident()


def names() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("overlapped")]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_results_keep_their_order_wherever_the_work_runs(ahead: int) -> None:
    where: dict[int, bool] = {}

    def work(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        where[n] = threading.get_ident() == CALLER
        return n * n

    found = list(overlapped(work, range(12), lambda n: n % 4 != 0, ahead))
    assert found == [n * n for n in range(12)]
    assert where == {n: n % 4 == 0 for n in range(12)}
    assert names() == []


def test_the_next_item_is_made_during_the_work_and_no_more_than_ahead() -> None:
    made, started, go_on = [], threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for n in range(4):
            if n == 1:  # the work on item 0 has begun and waits for this one
                assert started.wait(5)
                go_on.set()
            made.append(n)
            yield n

    def work(n: int) -> int:
        started.set()
        assert go_on.wait(5)
        return n

    results = overlapped(work, items(), lambda n: True, 1)
    assert next(results) == 0
    assert made == [0, 1]
    assert list(results) == [1, 2, 3]


def test_work_is_on_one_item_at_a_time() -> None:
    busy = threading.Lock()

    def work(n: int) -> int:
        assert busy.acquire(blocking=False)
        time.sleep(0.002)
        busy.release()
        return n

    assert list(overlapped(work, range(9), lambda n: n % 3 > 0, 3)) == list(range(9))


def test_an_error_comes_in_its_place_and_stops_everything() -> None:
    done = []

    def work(n: int) -> int:
        if n == 2:
            raise ValueError("item 2")
        done.append(n)
        return n

    results = overlapped(work, range(50), lambda n: True, 1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)
    assert len(done) <= 4
    assert names() == []


def test_closing_early_leaves_no_thread() -> None:
    results = overlapped(lambda n: n, range(50), lambda n: True, 2)
    assert next(results) == 0
    results.close()
    assert names() == []
