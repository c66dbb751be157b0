"""`report.html`: one self-contained file, made from the files of a run alone."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..errors import EnvironmentProblem
from ..store import results as records
from ..store.images import replacing
from ..store.ledger import EDITED
from ..store.results import Record, Results
from ..store.work_dir import WorkDir
from ..types import I64, JSON, Costs
from . import data, figures, overlays, people
from .figures import hex_colour
from .status import plain, read_position, subtitle, summary, two_keys
from .table import NOT_KNOWN, full, percent, spell

_RAW_IDS = frozenset(map(str, range(256)))
MAX_EDITS = 50
"""Edited label files that the report lists."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """An embedded PNG. width, height: display points."""

    uri: str
    alt: str
    width: int
    height: int


class Tile(NamedTuple):
    """A number in the head of a page."""

    name: str
    value: str
    note: str


def write_report(work_dir: Path) -> Path:
    """Write `report.html` and `figures/` of a run.

    Works at any point of a run: what does not exist yet is left out, and the page says so.

    Args:
        work_dir: The folder of the run.

    Returns:
        The path of the page.

    Raises:
        WorkDirError: The folder does not contain a run.
        DataError: A file is damaged.
        EnvironmentProblem: matplotlib, jinja2 or Pillow is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.store import results
        >>> ids = (0, *[-1] * 254, 255)
        >>> empty = results.Results("demo", {}, ("road",), ((128, 64, 128),), ids, 1, 100, "torch")
        >>> with TemporaryDirectory() as folder:
        ...     path = results.write(Path(folder), empty)
        ...     print(write_report(Path(folder)).name)
        report.html
    """
    run = WorkDir(Path(work_dir))
    page = render(records.load(run.root), run)
    with replacing(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def render(results: Results, run: WorkDir, folder: Path | None = None) -> str:
    """The page as text.

    Args:
        results: Of the run.
        run: Its folder.
        folder: Where the figures are written on the way; default: `run.figures`.
    """
    folder = folder or run.figures
    template = page_template("report.html.j2")
    counts = data.class_counts(run, results)
    groups, left_out = overlays.groups(run, results, folder / "overlays")
    finished, state = read_position(run, results).sentence()
    spent = people.summary(run, results)
    page: str = template.render(
        version=__version__,
        work_dir=run.root.name,
        title=results.title,
        subtitle=subtitle(results),
        two_keys=two_keys(results.acquisition),
        summary=summary(results.acquisition),
        finished=finished,
        state=state,
        tiles=tiles(results),
        timed=(timed := any(r.costs.annotation_seconds is not None for r in results.records)),
        judged=(judged := any(r.label_miou is not None for r in results.records)),
        guessed=(guessed := any(r.pseudo_pixels is not None for r in results.records)),
        rounds=[round_row(record, timed, judged, guessed) for record in results.records],
        changes=[change_row(c) for c in results.changes if not _is_edit(c)],
        **edits(results),
        people=None if spent is None else people.tables(spent),
        iou=iou_table(results, counts),
        overlays=groups,
        left_out=left_out,
        legend=[(n, hex_colour(c)) for n, c in zip(results.classes, results.palette, strict=True)],
        config=[(key, plain(value)) for key, value in results.acquisition.items()],
        **charts(results, counts, folder),
    )
    return page


def change_row(change: JSON) -> JSON:
    """A change of the config as it is shown: values as JSON, shortened."""
    texts = {key: shorten(json.dumps(change.get(key)), 80) for key in ("old", "new")}
    name = str(change.get("name")).removeprefix("variables.")
    return {"round": change.get("round"), "stage": change.get("stage"), "name": name, **texts}


def _is_edit(change: JSON) -> bool:
    """Whether a change is of a label file that was edited by hand."""
    return str(change.get("name")).startswith(EDITED)


def edits(results: Results) -> JSON:
    """`edits`, the accepted edits of label files as they are shown, and `more_edits`: how many
    others there are."""
    found = [change for change in results.changes if _is_edit(change)]
    rows = []
    for change in found[:MAX_EDITS]:
        old, new = _pixels(change.get("old")), _pixels(change.get("new"))
        texts = [
            f"{_class_name(results, v)} {old.get(v, 0):,} → {new.get(v, 0):,}"
            for v in sorted({*old, *new})
            if old.get(v, 0) != new.get(v, 0)
        ]
        what = ", ".join(texts) or "as many pixels of each class, in other places"
        key = str(change["name"]).removeprefix(EDITED)
        row = {"round": change.get("round"), "stage": change.get("stage"), "key": key}
        rows.append({**row, "what": what})
    return {"edits": rows, "more_edits": len(found) - len(rows)}


def _pixels(summary: Any) -> dict[int, int]:
    """Raw id -> pixels, of a label file as `Entry.summary` describes it; what else may stand there
    is left out."""
    pixels = summary.get("pixels") if isinstance(summary, dict) else None
    found = pixels.items() if isinstance(pixels, dict) else ()
    return {int(v): n for v, n in found if v in _RAW_IDS and isinstance(n, int)}


def _class_name(results: Results, value: int) -> str:
    """Of a raw id in a label file."""
    index = results.raw_to_train[value]
    return results.classes[index] if 0 <= index < len(results.classes) else "no class"


def page_template(name: str, package: str = "report") -> Any:
    """The jinja2 template of a page, from `templates/` of a package; it may extend those of the
    report. Templates escape, and fail on undefined names. Raises EnvironmentProblem."""
    try:
        import jinja2
    except ImportError:
        raise EnvironmentProblem(
            "the report needs jinja2: pip install 'jinja2>=3.1' 'matplotlib>=3.7'"
        ) from None
    packages = dict.fromkeys((package, "report"))
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(f"regional_al.{p}") for p in packages]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template(name)


def charts(results: Results, counts: I64, folder: Path) -> JSON:
    """Draw, save and embed the charts; None (or no curve) where there is nothing to draw."""
    clicks = figures.learning_curve(results, "clicks")
    # Annotation visits take the place of clicks when these were not counted.
    regions = None if clicks else figures.learning_curve(results, "regions")
    drawn = {
        "curve_labelled": (
            figures.learning_curve(results, "labelled"),
            "mIoU on the validation set over the labelled share of the pool",
        ),
        "curve_clicks": (clicks, "mIoU on the validation set over clicks"),
        "curve_regions": (
            regions,
            "mIoU on the validation set over annotation visits (clicks are not known)",
        ),
        "curve_seconds": (
            figures.learning_curve(results, "annotation_seconds"),
            "mIoU on the validation set over annotation time",
        ),
        "seconds": (figures.stage_seconds(results), "Wall-clock time per round and stage"),
        "bought": (
            figures.class_shares(results, counts),
            "Share of each class in all pixels labelled so far, by round",
        ),
        "class_iou": (figures.class_iou(results), "IoU per class and round"),
    }
    made = save_and_embed(drawn, folder)
    curves = [picture for name, picture in made.items() if name.startswith("curve")]
    return {"curves": curves, "seconds": made.get("seconds"), "bought": made.get("bought")}


def save_and_embed(
    drawn: Mapping[str, tuple[Figure | None, str]], folder: Path
) -> dict[str, Picture]:
    """Save figures as PNG and embed them.

    Args:
        drawn: Name -> (figure, alternative text).
        folder: Where the files are written; the file of a figure that is None is deleted, since an
            earlier report may have written it.
    """
    made = {}
    for name, (figure, alt) in drawn.items():
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            made[name] = _embed(figures.save(figure, path), alt)
    return made


def _embed(path: Path, alt: str) -> Picture:
    """A PNG file as a data URI, shown at half its pixels."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(uri, alt, width // 2, height // 2)


def tiles(results: Results) -> list[Tile]:
    """The final numbers."""
    if not results.records:
        return []
    last = results.records[-1]
    costs = last.costs
    clicks = "not known" if costs.clicks is None else full(costs.clicks)
    people = costs.annotation_seconds
    total = sum(r.total_seconds for r in results.records)
    fit = sum(r.seconds.get("fit", 0.0) for r in results.records)
    return [
        _miou_tile(results.records),
        Tile("labelled", f"{percent(last.labelled_fraction)} %", "of the pool's pixels"),
        Tile("pixels", full(costs.pixels), "annotated, including void"),
        Tile("clicks", clicks, "in all rounds"),
        *([] if people is None else [Tile("annotation time", spell(people), "in all rounds")]),
        Tile("regions", full(costs.regions), "annotation visits"),
        Tile("images", full(costs.images), f"of {full(results.pool_images)} queried"),
        Tile("time", spell(total), f"of which {spell(fit)} training"),
    ]


def _miou_tile(rounds: Sequence[Record]) -> Tile:
    known = [(r.miou, r.round) for r in rounds if r.miou is not None]
    if not known:
        return Tile("mIoU", NOT_KNOWN, "not evaluated yet")
    (first, start), (last, end) = known[0], known[-1]
    best, best_round = max(known, key=lambda pair: pair[0])
    if end == start:
        note = f"after round {end}"
    elif best > last:
        note = f"best {100 * best:.2f} % in round {best_round}"
    else:
        note = f"{100 * (last - first):+.2f} points since round {start}"
    return Tile("mIoU", f"{100 * last:.2f} %", note)


def round_row(
    record: Record, timed: bool = False, judged: bool = False, guessed: bool = False
) -> JSON:
    """One row of the cost table, as text; timed: with the time that people have spent; judged: with
    mIoU and accuracy of the labels; guessed: with the number of pixels that have a pseudo label."""

    def texts(costs: Costs) -> list[str]:
        counts = [full(value) for value in costs[:4]]
        return [*counts, spell(costs.annotation_seconds)] if timed else counts

    def hundred(value: float | None) -> str:
        return NOT_KNOWN if value is None else f"{100 * value:.2f}"

    share = record.label_share
    labels = [hundred(record.label_miou), hundred(record.label_accuracy)] if judged else []
    result = [
        hundred(record.miou),
        hundred(record.accuracy),
        *labels,
        *([full(record.pseudo_pixels or 0)] if guessed else []),
        NOT_KNOWN if share is None else percent(share) + " %",
        full(record.iterations) if record.iterations else NOT_KNOWN,
        spell(record.total_seconds if record.seconds else None),
    ]
    total = [*texts(record.costs), percent(record.labelled_fraction) + " %"]
    return {"round": record.round, "groups": [total, texts(record.asked), result]}


def iou_table(results: Results, counts: I64) -> JSON:
    """Rows of the class table: name, colour, a shaded cell per round, change, share of labels."""
    evaluated = [r for r in results.records if r.per_class_iou]
    pixels = counts.sum(axis=0)
    rows = []
    for c, (name, colour) in enumerate(zip(results.classes, results.palette, strict=True)):
        values = [r.per_class_iou[c] if c < len(r.per_class_iou) else None for r in evaluated]
        known = [v for v in values if v is not None]
        row = {
            "name": name,
            "colour": hex_colour(colour),
            "cells": [_shaded(value) for value in values],
            "change": f"{100 * (known[-1] - known[0]):+.1f}" if len(known) > 1 else NOT_KNOWN,
            "share": f"{percent(float(pixels[c] / pixels.sum()))} %" if pixels.any() else NOT_KNOWN,
        }
        rows.append(row)
    return {
        "rows": rows if evaluated else [],
        "rounds": [r.round for r in evaluated],
        "has_share": bool(pixels.any()),
    }


def _shaded(value: float | None) -> JSON:
    """Text on a blue that deepens with the IoU; white ink on a dark background."""
    if value is None:
        return {"text": NOT_KNOWN, "style": ""}
    light, dark = (247, 250, 254), (22, 78, 140)
    red, green, blue = (round(a + (b - a) * value**1.2) for a, b in zip(light, dark, strict=True))
    ink = "#fff" if value > 0.72 else figures.INK
    style = f"background:{hex_colour((red, green, blue))};color:{ink}"
    return {"text": f"{100 * value:.1f}", "style": style}
