"""`regional-al annotate WORK_DIR`: the page on which people answer what a run asks."""

from __future__ import annotations

import argparse

from ..checks import within
from ..errors import EnvironmentProblem


def run(args: argparse.Namespace) -> int:
    """Serve the page; see `web.server.serve`. Returns the exit code."""
    within("--overlap", args.overlap, 0.0, 1.0)
    within("--lease", args.lease, 1.0, 86400.0)
    try:
        from ..web.server import serve
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        raise EnvironmentProblem(
            f"{missing} is not installed: pip install 'regional-al[web]'"
        ) from None
    return serve(
        args.work_dir,
        args.host,
        args.port,
        args.overlap,
        args.lease,
        args.train,
        not args.no_browser,
    )
