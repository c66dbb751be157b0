"""`regional-al report WORK_DIR`: write report.html and its figures again, from files alone."""

from __future__ import annotations

from pathlib import Path


def run(work_dir: Path) -> int:
    """Write the report of a run, finished or not, and print its path. Returns 0; a folder without
    a run, damaged files and missing packages raise RegionalALError."""
    from ..report.html import write_report

    print(f"report: {write_report(work_dir)}")
    return 0
