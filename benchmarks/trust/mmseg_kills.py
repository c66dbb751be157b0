"""Kills of runs of one MMSegmentation engine: mmseg_kills.py ENGINE DATA SEED OUT [KILLS1 KILLS2].

Started by `__main__` with the interpreter that has this generation installed; writes its rows to
OUT, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from interruptions import kills
from jobs import Launcher, Setup


def main() -> None:
    engine, data, seed, out, *counts = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="trust-") as name:
        folder = Path(name)
        (folder / "streets").symlink_to(Path(data), target_is_directory=True)
        setup = Setup(engine, folder / "streets")
        setup.write_config()
        launcher = Launcher(engine)
        rows = []
        for ranks, count in zip((1, 2), counts, strict=False):
            began = time.monotonic()
            row = kills(launcher, setup, folder, ranks, int(count), int(seed))
            rows.append({**row, "seconds": round(time.monotonic() - began, 1)})
    Path(out).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
