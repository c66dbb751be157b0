"""Signals as requests, and random generators that continue where they were."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import numpy as np
import torch

from regional_al.runtime import randomness, signals


def draws() -> list[Any]:
    return [random.random(), random.gauss(0, 1), np.random.normal(), float(torch.rand(1))]  # noqa: NPY002


def test_generators_continue_from_a_saved_state() -> None:
    randomness.seed(1, 2)
    draws()  # leaves half of a pair of normal numbers in two of them
    saved = randomness.state()
    first = draws()
    with randomness.kept():
        draws()
        inside = randomness.state()
    assert draws() != first
    randomness.restore(saved)
    assert draws() == first
    randomness.restore(inside)
    assert draws() != first


def test_seeds_differ_by_every_number() -> None:
    found = []
    for numbers in ((1, 2), (1, 3), (2, 2), (1, 2)):
        randomness.seed(*numbers)
        found.append(tuple(draws()))
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_a_signal_is_noted_and_answered() -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with signals.noted() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.signal == signal.SIGTERM, "the first one"
        stop.answered = True
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


def test_a_signal_that_nobody_answers_has_its_ordinary_effect() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with signals.noted():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert seen == []
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_death_of_the_parent_ends_the_process() -> None:
    child = os.fork()
    if child == 0:
        with signals.noted():
            os.getppid = lambda: 1  # type: ignore[assignment]
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
