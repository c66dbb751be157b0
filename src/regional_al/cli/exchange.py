"""`regional-al export WORK_DIR --to TOOL` and `regional-al import WORK_DIR FILES...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..exchange import Imported
from ..exchange import export as write
from ..exchange import import_answers as take


def export(
    work_dir: Path,
    to: str,
    out: Path | None = None,
    images: Path | None = None,
    prelabels: Path | None = None,
) -> int:
    """Write what a waiting run asks as a zip for a labelling tool, and return 0.

    The arguments are those of `regional_al.exchange.export`, and so are the errors.
    """
    path = write(work_dir, to, out, images, prelabels)
    print(f"exported: {path}")
    print(f"then: regional-al import {work_dir} FILES   (see docs/exchange.md)")
    return 0


def import_answers(work_dir: Path, files: Sequence[Path], form: str | None = None) -> int:
    """Take over answers from the files of a labelling tool, and return 0.

    The arguments are those of `regional_al.exchange.import_answers`, and so are the errors.
    """
    print(_summary(take(work_dir, files, form)))
    return 0


def _summary(done: Imported) -> str:
    """What has been imported, and what is missing."""
    if done.images:
        text = f"imported: {done.pixels:,} pixels of {_images(done.images)} into {done.answers}"
    else:
        text = (
            "imported: nothing, since no class lies above __ask__, or in its place, where something"
            " is asked"
        )
    if done.ignored:
        text += f"; {_images(done.ignored)} had a complete answer before, which stays"
    if done.incomplete:
        text += f"\nmissing: {done.incomplete} of {done.asked} images are not completely answered"
    else:
        text += "\ncomplete: run the same training command with --resume"
    return text


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
