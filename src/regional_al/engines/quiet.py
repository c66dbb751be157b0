"""What can be known of mm* packages without importing them, and importing them quietly."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path


def old_mmcv_installed() -> bool:
    """Whether mmcv 1.x, which has runners, is installed: the base of MMSegmentation 0.x."""
    mmcv = importlib.util.find_spec("mmcv")
    return bool(mmcv and mmcv.origin and (Path(mmcv.origin).parent / "runner").is_dir())


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """mmseg and mmcv speak while they are imported, about optional parts that are not there."""
    out = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def quiet_warnings() -> Iterator[None]:
    """Hide what mmseg and its relatives warn about while they build things we asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield
