"""Logs of a stretch: everything into its file, progress and warnings to the screen."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path

from mmcv.utils import get_logger

from ...runtime import distributed as dist

FORMAT = "%(asctime)s - mmseg - %(levelname)s - %(message)s"
_numbers = itertools.count()


def calm_loggers() -> None:
    """The loggers that mmseg and mmcv share, at WARNING: until now they had not been asked for, and
    their first user decides. A stretch has a logger of its own."""
    for name in ("mmseg", "mmcv"):
        get_logger(name, log_level=logging.WARNING)


class ProgressOnly(logging.Filter):
    """Lets the lines of TextLoggerHook and warnings through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what a person wants to see while training."""
        return record.levelno >= logging.WARNING or record.module == "text"


def stretch_logger(out_dir: Path, stamp: str, level: str | int) -> logging.Logger:
    """A logger for one runner: `<stamp>.log` on rank 0, progress on the screen. Known to nobody
    else, so it is gone with the runner; `close_logger` closes its file."""
    logger = logging.Logger(f"regional_al.mmseg0.{next(_numbers)}", level)
    if not dist.is_main():
        logger.setLevel(logging.ERROR)
    screen = logging.StreamHandler(sys.stdout)
    screen.addFilter(ProgressOnly())
    handlers: list[logging.Handler] = [screen]
    if dist.is_main():
        handlers.append(logging.FileHandler(out_dir / f"{stamp}.log", "w"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    return logger


def close_logger(logger: logging.Logger) -> None:
    """Close the log file."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()
