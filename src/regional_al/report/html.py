"""`report.html`: one self-contained file, made from the files of a run alone."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..errors import EnvironmentProblem
from ..store import results as records
from ..store.images import replacing
from ..store.results import Record, Results
from ..types import I64, JSON, Costs
from . import figures, gallery, stored
from .page import PAGE, STYLE
from .position import read_position
from .table import NOT_KNOWN, full, percent, spell
from .wording import plain, subtitle, summary, two_keys

FILE = "report.html"


class Picture(NamedTuple):
    """An embedded PNG. width, height: display points."""

    uri: str
    alt: str
    width: int
    height: int


def write_report(work_dir: Path) -> Path:
    """Write `work_dir/report.html` and `work_dir/figures/`; returns the path of the page.

    Works at every point of a run: what is not there yet is left out and said. Raises WorkDirError
    for a folder that is no run, DataError for damaged files, EnvironmentProblem without
    matplotlib, jinja2 or Pillow.
    """
    work_dir = Path(work_dir)
    results = records.load(work_dir)
    page = render(results, work_dir)
    path = work_dir / FILE
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(results: Results, work_dir: Path) -> str:
    """The page as text; writes the figures on the way."""
    environment = jinja_environment()
    counts = stored.class_counts(work_dir, results)
    folder = work_dir / "figures"
    overlays, left_out = gallery.overlays(work_dir, results, folder / "overlays")
    finished, state = read_position(work_dir, results).sentence()
    page: str = environment.from_string(PAGE).render(
        style=STYLE,
        version=__version__,
        work_dir=work_dir.name,
        title=results.title,
        subtitle=subtitle(results),
        two_keys=two_keys(results.acquisition),
        summary=summary(results.acquisition),
        finished=finished,
        state=state,
        tiles=tiles(results),
        rounds=[round_row(record) for record in results.records],
        iou=iou_table(results, counts),
        overlays=overlays,
        left_out=left_out,
        key=[(n, css(c)) for n, c in zip(results.classes, results.palette, strict=True)],
        config=[(key, plain(value)) for key, value in results.acquisition.items()],
        **charts(results, counts, folder),
    )
    return page


def charts(results: Results, counts: I64, folder: Path) -> dict[str, Any]:
    """Draw, save and embed the charts; None (or no curve) where there is nothing to draw."""
    clicks = figures.learning_curve(results, "clicks")
    drawn = {
        "curve_labelled": (
            figures.learning_curve(results, "labelled"),
            "mIoU on the validation set over the labelled share of the pool",
        ),
        "curve_clicks": (
            clicks,
            "mIoU on the validation set over the clicks spent",
        ),
        "curve_regions": (  # in its place when nobody counted clicks
            None if clicks else figures.learning_curve(results, "regions"),
            "mIoU on the validation set over the annotation visits (clicks are not known)",
        ),
        "seconds": (figures.stage_seconds(results), "Wall-clock time of each stage by round"),
        "bought": (
            figures.bought(results, counts),
            "Share of each class among all pixels labelled so far, by round",
        ),
        "class_iou": (figures.class_iou(results), "IoU of each class by round"),
    }
    made: dict[str, Picture | None] = {}
    for name, (figure, alt) in drawn.items():
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of an earlier report that this one does not confirm
        made[name] = None if figure is None else embed(figures.save(figure, path), alt)
    curves = [p for name, p in made.items() if name.startswith("curve") and p is not None]
    return {"curves": curves, "seconds": made["seconds"], "bought": made["bought"]}


def embed(path: Path, alt: str) -> Picture:
    """A PNG file as a data URI, shown at half its pixels."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return Picture(uri, alt, width // 2, height // 2)


def tiles(results: Results) -> list[JSON]:
    """The final numbers."""
    if not results.records:
        return []
    last = results.records[-1]
    fraction = last.labelled_fraction
    costs = last.costs
    total = sum(r.total_seconds for r in results.records)
    fit = sum(r.seconds.get("fit", 0.0) for r in results.records)
    return [
        *_miou_tile(results.records),
        _tile("labelled", f"{percent(fraction)} %", "of the pool's pixels"),
        _tile("pixels", full(costs.pixels), "annotated, void included"),
        _tile("clicks", "not known" if costs.clicks is None else full(costs.clicks), "spent"),
        _tile("regions", full(costs.regions), "annotation visits"),
        _tile("images", full(costs.images), f"of {full(results.pool_images)} touched"),
        _tile("time", spell(total), f"{spell(fit)} of it training"),
    ]


def _miou_tile(rounds: Sequence[Record]) -> list[JSON]:
    known = [(r.miou, r.round) for r in rounds if r.miou is not None]
    if not known:
        return [_tile("mIoU", NOT_KNOWN, "not evaluated yet")]
    (first, start), (last, end) = known[0], known[-1]
    best, best_round = max(known, key=lambda pair: pair[0])
    if end == start:
        note = f"after round {end}"
    elif best > last:
        note = f"best {100 * best:.2f} % in round {best_round}"
    else:
        note = f"{100 * (last - first):+.2f} points since round {start}"
    return [_tile("mIoU", f"{100 * last:.2f} %", note)]


def _tile(name: str, value: str, note: str) -> JSON:
    return {"name": name, "value": value, "note": note}


def round_row(record: Record) -> JSON:
    """One row of the cost table, as text."""
    share = record.label_share
    return {
        "round": record.round,
        "groups": [
            [*_four(record.costs), percent(record.labelled_fraction) + " %"],
            _four(record.asked),
            [
                hundred(record.miou),
                hundred(record.accuracy),
                NOT_KNOWN if share is None else percent(share) + " %",
                full(record.iterations) if record.iterations else NOT_KNOWN,
                spell(record.total_seconds if record.seconds else None),
            ],
        ],
    }


def _four(costs: Costs) -> list[str]:
    return [full(value) for value in costs]


def iou_table(results: Results, counts: I64) -> JSON:
    """Rows of the class table: name, colour, a shaded cell a round, change, share of the labels."""
    evaluated = [r for r in results.records if r.per_class_iou]
    total = counts.sum(axis=0) if len(counts) else np.zeros(len(results.classes) + 1)
    rows = []
    for c, (name, colour) in enumerate(zip(results.classes, results.palette, strict=True)):
        values = [r.per_class_iou[c] if c < len(r.per_class_iou) else None for r in evaluated]
        known = [v for v in values if v is not None]
        change = f"{100 * (known[-1] - known[0]):+.1f}" if len(known) > 1 else NOT_KNOWN
        share = percent(float(total[c] / total.sum())) + " %" if total.sum() else NOT_KNOWN
        cells = [_shade(value) for value in values]
        rows.append(
            {"name": name, "colour": css(colour), "cells": cells, "change": change, "share": share}
        )
    return {
        "rows": rows if evaluated else [],
        "rounds": [r.round for r in evaluated],
        "has_share": bool(total.sum()),
    }


def _shade(value: float | None) -> JSON:
    """Text on a blue that deepens with the IoU; white ink where the ground is dark."""
    if value is None:
        return {"text": NOT_KNOWN, "back": "#fff", "ink": "#8a949f"}
    light, dark = np.array([247, 250, 254]), np.array([22, 78, 140])
    red, green, blue = (light + (dark - light) * value**1.2).round().astype(int).tolist()
    ink = "#fff" if value > 0.72 else "#1f2933"
    return {"text": f"{100 * value:.1f}", "back": css((red, green, blue)), "ink": ink}


def hundred(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{100 * value:.2f}"


def css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def jinja_environment() -> Any:
    """Templates escape, and complain of what is missing. Raises EnvironmentProblem."""
    try:
        import jinja2
    except ImportError:
        raise EnvironmentProblem(
            "the report needs jinja2: pip install 'jinja2>=3.1' 'matplotlib>=3.7'"
        ) from None
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
