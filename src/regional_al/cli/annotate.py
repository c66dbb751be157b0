"""`regional-al annotate`, `watch` and `serve`: servers for people, and for labelling tools."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from ..checks import within
from ..errors import EnvironmentProblem


def run(args: argparse.Namespace) -> int:
    """Serve the annotation page; see `web.server.serve`. Returns the exit code."""
    within("--overlap", args.overlap, 0.0, 1.0)
    within("--lease", args.lease, 1.0, 86400.0)
    with _extra():
        from ..web import server
    return server.serve(
        args.work_dir,
        args.host,
        args.port,
        args.overlap,
        args.lease,
        args.train,
        not args.no_browser,
    )


def watch(args: argparse.Namespace) -> int:
    """Serve the live report; see `web.server.watch`. Returns the exit code."""
    with _extra():
        from ..web import server
    return server.watch(args.work_dir, args.host, args.port, not args.no_browser)


def serve(args: argparse.Namespace) -> int:
    """Serve pre-labels; see `web.label_studio.serve_backend`. Returns the exit code."""
    with _extra():
        from ..web import label_studio
    return label_studio.serve_backend(args.work_dir, args.host, args.port)


@contextmanager
def _extra() -> Iterator[None]:
    """Name the extra whose packages are missing, in one line."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        raise EnvironmentProblem(
            f"{missing} is not installed: pip install 'regional-al[web]'"
        ) from None
