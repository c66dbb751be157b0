"""SIGTERM and SIGUSR1 (a scheduler's warning) as a request, while a training can save its state."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else (signal.SIGTERM,)


class StopRequest:
    """Which signal has arrived, if any."""

    def __init__(self) -> None:
        self.signal: int = 0
        self.answered = False
        self._parent = os.getppid()

    def note(self, number: int, _: FrameType | None = None) -> None:
        """The handler: remember the first signal. One that says that the parent has died
        (`cli.train.end_with_parent`) still ends the process at once."""
        if os.getppid() != self._parent:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = self.signal or number


def stopped_line(number: int, iteration: int) -> str:
    """What is said when a signal has stopped a training."""
    return (
        f"stopped by {signal.Signals(number).name}: state saved at iteration {iteration}; run the "
        "same command with --resume"
    )


@contextmanager
def noted() -> Iterator[StopRequest]:
    """Inside, the signals only set `StopRequest.signal`. One that nobody has `answered` is sent
    again at the end, when it has its ordinary effect. Outside the main thread, nothing changes."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if request.signal and not request.answered:
            os.kill(os.getpid(), request.signal)
