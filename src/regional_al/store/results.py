"""`results.json`: costs and metrics of a run, one record per round. Typed, checked, atomic."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, WorkDirError
from ..types import JSON, Costs
from . import reading
from .images import replacing
from .ledger import Ledger
from .reading import Reader
from .schema import STAGES as LEDGER_STAGES
from .work_dir import WorkDir

FORMAT = 1
STAGES = ("prepare", "score", "select", "annotate", "fit", "evaluate")
"""Keys of `Record.seconds` in the order in which they run."""


@dataclass(frozen=True)
class Record:
    """One round.

    Args:
        round: 0 is the warm start.
        costs: Up to and including this round.
        asked: Costs of this round alone.
        labelled_fraction: Annotated pixels / pixels of the pool, 0..1, void included.
        miou: 0..1; None when not evaluated.
        per_class_iou: [C] of 0..1; None for a class that is absent from the validation set.
        accuracy: 0..1; None when not evaluated.
        label_miou: Of the labels that the training saw, where they are a machine's in part and the
            truth is known: 0..1.
        label_accuracy: Likewise.
        label_share: Labelled pixels that reached the loss / labelled pixels of the samples drawn
            (above 1 where images are enlarged); None if unknown.
        pseudo_pixels: Pixels of which the training saw a pseudo label; None without such labels.
        iterations: Length of the training.
        unlabeled: Of a training on pixels without an answer: `pixels`, how many its images had,
            and `confident`, those of each class of which the teacher was sure. None without it.
        seconds: Wall-clock time by stage.
        extra: Unknown keys of the file, written back.
    """

    round: int
    costs: Costs
    asked: Costs
    labelled_fraction: float
    miou: float | None = None
    per_class_iou: tuple[float | None, ...] = ()
    accuracy: float | None = None
    label_miou: float | None = None
    label_accuracy: float | None = None
    label_share: float | None = None
    pseudo_pixels: int | None = None
    iterations: int = 0
    unlabeled: JSON | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    extra: JSON = field(default_factory=dict)

    def __post_init__(self) -> None:
        """NaN becomes None, as in the file."""
        for name in ("miou", "accuracy", "label_miou", "label_accuracy", "label_share"):
            object.__setattr__(self, name, _known(getattr(self, name)))
        object.__setattr__(self, "per_class_iou", tuple(_known(v) for v in self.per_class_iou))

    @property
    def total_seconds(self) -> float:
        return float(sum(self.seconds.values()))


@dataclass(frozen=True)
class Results:
    """A run.

    Args:
        title: Of the run.
        acquisition: The resolved `acquisition`.
        classes: Names of the classes.
        palette: RGB of each class.
        raw_to_train: [256] raw id -> class, 255 = void, -1 = must not occur.
        pool_images: Images of the pool.
        pool_pixels: Pixels of the pool.
        engine: Name of the engine.
        world_size: Number of processes.
        records: One per finished round.
        stopped: Why the run ended; None while it has not.
        changes: Keys of the config that a resumed run has changed, and label files whose edits
            were accepted, see `Ledger.changes`.
        extra: Unknown keys of the file, written back.
    """

    title: str
    acquisition: JSON
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    raw_to_train: tuple[int, ...]
    pool_images: int
    pool_pixels: int
    engine: str
    world_size: int = 1
    records: tuple[Record, ...] = ()
    stopped: str | None = None
    changes: tuple[JSON, ...] = ()
    extra: JSON = field(default_factory=dict)


def load(work_dir: Path) -> Results:
    """Read the results.json of a work dir.

    Raises:
        WorkDirError: There is none.
        DataError: It is damaged; the message names file and key.
    """
    path = WorkDir(Path(work_dir)).results
    if not path.is_file():
        raise WorkDirError(f"{work_dir} contains no {path.name}: give the work dir of a run")
    return parse(reading.read_json(path), str(path))


def write(work_dir: Path, results: Results) -> Path:
    """Write results.json atomically; NaN becomes null."""
    path = WorkDir(Path(work_dir)).results
    text = json.dumps(_finite(to_json(results)), indent=1, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def append_record(work_dir: Path, record: Record) -> Results:
    """Add a round to results.json, replacing a record of the same round, so that a resumed round
    can be recorded again. Returns what has been written."""
    results = load(work_dir)
    kept = [r for r in results.records if r.round != record.round]
    results = replace(results, records=tuple(sorted([*kept, record], key=lambda r: r.round)))
    write(work_dir, results)
    return results


def head_of(results: Results) -> JSON:
    """All but the records, the changes and why the run ended, as JSON."""
    head: JSON = _finite(to_json(replace(results, records=(), stopped=None, changes=(), extra={})))
    return head


def record_of(ledger: Ledger, round: int, pool_pixels: int) -> Record:
    """The record of a finished round, from what the ledger knows about it."""
    done = {stage: ledger.done(round, stage) or {} for stage in LEDGER_STAGES}
    return _record(round, done, ledger.costs(round), ledger.total_costs(round), pool_pixels)


def records_of(ledger: Ledger, pool_pixels: int) -> tuple[Record, ...]:
    """The records of all finished rounds."""
    done, rounds = ledger.payloads(), range(ledger.position()[0])
    return tuple(
        _record(r, {s: done.get((r, s), {}) for s in LEDGER_STAGES}, *costs, pool_pixels)
        for r, costs in zip(rounds, ledger.all_costs(len(rounds) - 1), strict=True)
    )


def _record(
    round: int, done: Mapping[str, JSON], asked: Costs, costs: Costs, pool_pixels: int
) -> Record:
    seconds: dict[str, float] = {}
    for payload in done.values():
        for name, spent in (payload.get("seconds") or {}).items():
            seconds[name] = seconds.get(name, 0.0) + spent
    fit, scores = done["fit"], done["evaluate"]
    return Record(
        round=round,
        costs=costs,
        asked=asked,
        labelled_fraction=costs.pixels / max(1, pool_pixels),
        miou=scores.get("miou"),
        per_class_iou=tuple(scores.get("per_class_iou") or ()),
        accuracy=scores.get("accuracy"),
        label_miou=scores.get("label_miou"),
        label_accuracy=scores.get("label_accuracy"),
        label_share=fit.get("label_share"),
        pseudo_pixels=fit.get("pseudo_pixels"),
        iterations=fit.get("iterations", 0),
        unlabeled=fit.get("unlabeled"),
        seconds=seconds,
    )


def parse(data: Any, where: str) -> Results:
    """JSON -> Results. Raises DataError naming `where` and the key."""
    get = Reader(data, where)
    if get("format", reading.integer) != FORMAT:
        raise DataError(f"{where}: format is {data['format']!r}, this version reads {FORMAT}")
    classes = tuple(get("classes", reading.list_of(reading.text)))
    palette = tuple(get("palette", reading.list_of(reading.colour)))
    if len(palette) != len(classes):
        raise DataError(f"{where}: palette has {len(palette)} colours, classes {len(classes)}")
    raw_to_train = tuple(
        get("raw_to_train", reading.list_of(reading.integer), _plain_table(len(classes)))
    )
    if len(raw_to_train) != 256:
        raise DataError(f"{where}: raw_to_train has {len(raw_to_train)} entries, not 256")
    bad = next((v for v in raw_to_train if v not in (-1, 255) and not 0 <= v < len(classes)), None)
    if bad is not None:
        raise DataError(f"{where}: raw_to_train names class {bad}, there are {len(classes)}")
    pool = Reader(get("pool", reading.mapping), f"{where}: pool")
    items = get("records", reading.list_of(reading.mapping))
    records = [_parse_record(item, f"{where}: records[{i}]") for i, item in enumerate(items)]
    rounds = [record.round for record in records]
    if rounds != sorted(set(rounds)):
        raise DataError(f"{where}: records must be in the order of their rounds, not {rounds}")
    return Results(
        title=get("title", reading.text),
        acquisition=get("acquisition", reading.acquisition),
        classes=classes,
        palette=palette,
        raw_to_train=raw_to_train,
        pool_images=pool("images", reading.integer),
        pool_pixels=pool("pixels", reading.integer),
        engine=get("engine", reading.text),
        world_size=get("world_size", reading.integer, 1),
        records=tuple(records),
        stopped=get("stopped", reading.text, None),
        changes=tuple(get("changes", reading.list_of(reading.mapping), ())),
        extra=get.rest(),
    )


def to_json(results: Results) -> JSON:
    """Inverse of `parse`."""
    return {
        "format": FORMAT,
        "title": results.title,
        "acquisition": results.acquisition,
        "classes": list(results.classes),
        "palette": [list(colour) for colour in results.palette],
        "raw_to_train": list(results.raw_to_train),
        "pool": {"images": results.pool_images, "pixels": results.pool_pixels},
        "engine": results.engine,
        "world_size": results.world_size,
        "records": [_record_to_json(record) for record in results.records],
        "stopped": results.stopped,
        "changes": list(results.changes),
        **results.extra,
    }


def _parse_record(data: Any, where: str) -> Record:
    get = Reader(data, where)
    asked = get("asked", reading.mapping)
    return Record(
        round=get("round", reading.integer),
        costs=_costs(get),
        asked=_costs(Reader(asked, f"{where}: asked")),
        labelled_fraction=get("labelled_fraction", reading.share),
        miou=get("mIoU", reading.share, None),
        per_class_iou=tuple(
            get("per_class_iou", reading.list_of(reading.share_or_null), None) or ()
        ),
        accuracy=get("accuracy", reading.share, None),
        label_miou=get("label_mIoU", reading.share, None),
        label_accuracy=get("label_accuracy", reading.share, None),
        label_share=get("label_share", reading.at_least_zero, None),
        pseudo_pixels=get("pseudo_pixels", reading.integer, None),
        iterations=get("iterations", reading.integer, 0),
        unlabeled=get("unlabeled", reading.mapping, None),
        seconds={str(k): reading.number(v) for k, v in get("seconds", reading.seconds, {}).items()},
        extra=get.rest(),
    )


def _record_to_json(record: Record) -> JSON:
    return {
        "round": record.round,
        **record.costs._asdict(),
        "asked": record.asked._asdict(),
        "labelled_fraction": record.labelled_fraction,
        "mIoU": record.miou,
        "per_class_iou": list(record.per_class_iou),
        "accuracy": record.accuracy,
        **label_quality(record),
        "label_share": record.label_share,
        **({} if record.pseudo_pixels is None else {"pseudo_pixels": record.pseudo_pixels}),
        "iterations": record.iterations,
        **({} if record.unlabeled is None else {"unlabeled": record.unlabeled}),
        "seconds": dict(record.seconds),
        **record.extra,
    }


def label_quality(record: Record) -> dict[str, float]:
    """How good the labels are, by the names that files have; empty where it is not known."""
    found = {"label_mIoU": record.label_miou, "label_accuracy": record.label_accuracy}
    return {name: value for name, value in found.items() if value is not None}


def _costs(get: Reader) -> Costs:
    return Costs(
        get("images", reading.integer),
        get("regions", reading.integer),
        get("pixels", reading.integer),
        get("clicks", reading.integer, None),
        get("annotation_seconds", reading.at_least_zero, None),
    )


def _plain_table(num_classes: int) -> list[int]:
    return [c if c < num_classes else -1 for c in range(255)] + [255]


def _finite(value: Any) -> Any:
    """NaN and infinity as None, at any depth: JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
