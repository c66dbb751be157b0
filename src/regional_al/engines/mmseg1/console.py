"""What of mmengine's and mmseg's talk reaches the screen; a stretch's log file keeps it all."""

from __future__ import annotations

import io
import logging
from typing import Any

from mmengine.runner import Runner

from ..quiet import quiet_warnings as quiet_warnings


class ProgressOnly(logging.Filter):
    """Lets the lines of LoggerHook and warnings through; the log file keeps everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what a person wants to see while training."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            return "deprecated" not in text and not text.startswith("The dataset metainfo")
        return record.module == "logger_hook" and not text.startswith("Exp name")


class Console(io.TextIOBase):
    """Standard output without the line that mmengine prints, on every rank, when it loads."""

    def __init__(self, screen: Any) -> None:
        self.screen = screen
        self.dropped = False

    def write(self, text: str) -> int:
        """Pass text on, except that line and its end."""
        if text.startswith("Loads checkpoint by"):
            self.dropped = True
        elif not (self.dropped and text == "\n"):
            self.screen.write(text)
        self.dropped = self.dropped and text != "\n"
        return len(text)

    def flush(self) -> None:
        """Flush the screen."""
        self.screen.flush()


def calm_console(runner: Runner, screen: Any) -> list[logging.Handler]:
    """Point the runner's console handlers back to the screen, progress lines only."""
    handlers: list[logging.Handler] = []
    for handler in list(runner.logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handlers.append(handler)
        elif isinstance(handler, logging.StreamHandler):
            handler.setStream(screen)
            handler.addFilter(ProgressOnly())
    return handlers
