"""Every function that reads a file or text from outside, for `fuzzing.fuzz` to damage its input.

A new reader is one entry of `READERS`: how to write a sound file, and how to read it.
"""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compare_runs
import numpy as np
import report_run
import torch

from mistakes import page_readers as page
from regional_al.annotators import build_annotator
from regional_al.annotators.base import checked_ids
from regional_al.cli import check as cli_check
from regional_al.cli import status as cli_status
from regional_al.cli.options import parse_options
from regional_al.compare import plan
from regional_al.compare import results as archives
from regional_al.compare import state as grids
from regional_al.config import grammar
from regional_al.config.budget import Budget
from regional_al.engines.mmseg import checkpoints
from regional_al.partitions import precomputed
from regional_al.partitions.superpixels import SlicPartition
from regional_al.report import data as report_data
from regional_al.selection.pool_table import TableWriter, read_table
from regional_al.store import fit_state, image_paths, images, lock, points
from regional_al.store import query as queries
from regional_al.store import results as records
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.work_dir import WorkDir
from regional_al.testing import streets
from regional_al.types import PICK_DTYPE, ImageAnswer, LabelSpace, PoolItem

SHAPE = (6, 8)
SPACE = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
ALL_IDS = np.ones(256, dtype=bool)


@dataclass(frozen=True)
class Reader:
    """A reader of files from outside.

    Args:
        where: The function, as `module.function` below `regional_al`.
        make: Writes a sound input below a folder, and returns the file that is damaged.
        read: Reads it, given the folder.
        named: Whether the error names the damaged file (else some file or key beside it).
        refuses: Whether it refuses some damage; a cache, for example, is made again.
        writes: Whether it may change files.
        allowed: Errors besides `RegionalALError` by which the reader refuses a file.
    """

    where: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    named: bool = True
    refuses: bool = True
    writes: bool = False
    allowed: tuple[type[Exception], ...] = ()


def _labels(folder: Path) -> Path:
    images.write_png(folder / "labels.png", np.arange(48, dtype=np.uint8).reshape(SHAPE))
    return folder / "labels.png"


def _image_paths(folder: Path) -> Path:
    image_paths.write_image_paths(folder / "images.json", {"town/01": Path("a.png")})
    return folder / "images.json"


def _picture(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        pixels = np.random.default_rng(3).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
        return folder / name

    return make


def _query(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        picks = np.array([(0, -1, -1, 5, 0.9, 2), (0, -1, -1, 6, 0.8, 2)], PICK_DTYPE)
        info = queries.QueryInfo(1, "region", "slic")
        asked = np.array([[0, 1], [2, 1]], np.int32)
        queries.write_query(folder / "query", info, picks, iter([(0, "town/01", asked)]))
        return folder / "query" / file

    return make


def _read_query(folder: Path) -> Any:
    query = queries.read_query(folder / "query")
    return [(query.asked(key), query.items(key)) for key in query.image_keys()]


def _run(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        report_run.make_run(folder / "run", rounds=2, images=2, shape=(60, 80), per_round=1)
        with closing(sqlite3.connect(folder / "run/ledger.sqlite")) as db, db:
            db.execute("VACUUM")  # small
        return folder / "run" / file

    return make


def _points(folder: Path) -> Path:
    with points.PointLog.open(folder) as log:
        for step in range(1, 5):
            point = points.Point("train", 0, step, step, 4, 1.5, {"loss": 0.5, "lr": 0.1})
            log.add(point)
        log.note("sent to x", {"number": 2})
    with closing(sqlite3.connect(folder / "tracking.sqlite")) as db, db:
        db.execute("VACUUM")
    return folder / "tracking.sqlite"


def _read_points(folder: Path) -> Any:
    with points.PointLog.open(folder, readonly=True) as log:
        return log.after(0), log.last("train"), log.last_step(), log.noted("sent to x")


def _read_ledger(folder: Path) -> Any:
    with Ledger.open(folder / "run", readonly=True) as ledger:
        keys = ["town/0000", "town/0001"]
        found = (ledger.position(), ledger.records(), ledger.answer_rows(), ledger.answers())
        more = (ledger.files(), ledger.changes(), ledger.faults(), ledger.outstanding(0, keys))
        return found, more, ledger.noted("head"), [records.record_of(ledger, 0, 9)]


def _store(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        store = LabelStore(folder / "labels")
        labels = np.arange(48, dtype=np.uint8).reshape(SHAPE)
        store.write(ImageAnswer("a", labels, labels < 20), 0)
        store.save_index()
        return folder / "labels" / file

    return make


def _read_store(folder: Path) -> Any:
    store = LabelStore(folder / "labels")
    answer = ImageAnswer("a", np.zeros(SHAPE, np.uint8), np.ones(SHAPE, bool))
    return store.trainable_keys(ALL_IDS), store.rounds_of("a"), store.write(answer, 1)


def _state(folder: Path) -> Path:
    meta = {fit_state.KEY: {"identity": {"round": 1}, "iteration": 5}}
    fit_state.write(folder, lambda path: torch.save({"meta": meta, "w": torch.ones(2)}, path))
    return folder / fit_state.FILE


def _checkpoint(folder: Path) -> Path:
    torch.save({"state_dict": {"w": torch.ones(2, 3)}, "meta": {"epoch": 1}}, folder / "c.pth")
    return folder / "c.pth"


def _held(folder: Path) -> Path:
    ended = f"4194399 on {socket.gethostname()}\n"  # above the largest process id of Linux
    (folder / lock.HELD).write_text(ended)
    return folder / lock.HELD


def _take_without_locks(folder: Path) -> None:
    lock.FolderLock(folder)._take_by_name()


def _lock_file(folder: Path) -> Path:
    (folder / lock.NAME).write_text("1 on here\n")
    return folder / lock.NAME


def _take(folder: Path) -> None:
    with lock.FolderLock(folder).holding():
        pass


def _grid_file(folder: Path) -> Path:
    grid = {"arms": {"a": {"acquisition": {"heuristic": "RIPU"}}}, "seeds": [0, 1], "levels": [0.5]}
    (folder / "grid.json").write_text(json.dumps(grid))
    return folder / "grid.json"


def _grid(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        compare_runs.two(folder / "out")
        note = {"machine": {"cpu": "x"}, "attempts": [{"code": 1, "error": "e"}]}
        grids.write_json(grids.note_path(folder / "out", "RIPU", 0), note)
        if file == archives.ARCHIVE:
            archives.write(folder / "out" / file, archives.collect(folder / "out"), {})
        return folder / "out" / file

    return make


def _collect_grid(folder: Path) -> Any:
    return archives.collect(folder / "out")


def _region_map(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ids = (np.arange(48) // 5).reshape(SHAPE)
        if name.endswith(".npy"):
            np.save(folder / name, ids, allow_pickle=False)
        else:
            images.write_png(folder / name, ids.astype(np.uint8))
        return folder / name

    return make


def _slic(folder: Path) -> SlicPartition:
    return SlicPartition(n_segments=3, cache_dir=folder / "cache")


def _slic_map(folder: Path) -> Path:
    _picture("image.png")(folder)
    item = PoolItem("image", folder / "image.png", None, SHAPE)
    _slic(folder).ids(item)
    return next((folder / "cache/slic").iterdir())


def _slic_ids(folder: Path) -> Any:
    item = PoolItem("image", folder / "image.png", None, SHAPE)
    ids = _slic(folder).ids(item)
    assert ids.shape == SHAPE
    return ids


def _slic_image(folder: Path) -> Path:
    return _picture("image.png")(folder)


def _answers(folder: Path) -> Path:
    _query("query.json")(folder)
    images.write_png(folder / "answers/town/01.png", np.zeros((2, 2), np.uint8))
    return folder / "answers/town/01.png"


def _collect(folder: Path) -> Any:
    pool = [PoolItem("town/01", folder / "x.png", None, (2, 2))]
    annotator = build_annotator({"type": "folder", "answers": folder / "answers"}, pool, SPACE)
    return list(annotator.collect(queries.read_query(folder / "query"), ["town/01"]))


def _table(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        units = np.zeros(3, PICK_DTYPE)
        units["unit"] = range(3)
        writer = TableWriter(folder / "table", 0)
        columns = {"score": torch.tensor([0.1, 0.2, 0.3]), "f": torch.ones(3, 2)}
        writer.add(units, columns, "a")
        writer.close()
        return folder / "table/0000" / file

    return make


def _read_table(folder: Path) -> Any:
    return read_table(folder / "table")


def _preview(folder: Path) -> Path:
    np.save(folder / "score.npy", np.ones(SHAPE, np.float16), allow_pickle=False)
    return folder / "score.npy"


def _acquisition(folder: Path) -> Path:
    given = {
        "level": "region",
        "heuristic": {"type": "RIPU", "radius": 2},
        "region": {"type": "slic", "n_segments": 40},
        "budget": {"amount": "1%", "unit": "pixel", "scope": "pool"},
        "rounds": 3,
        "warm_start": {"level": "image", "amount": 2, "unit": "image"},
        "annotator": {"type": "oracle", "answer": "full"},
        "stop": {"target_miou": 0.5, "plateau": 2},
        "iterations": {"amount": 2, "per": "image"},
        "seed": 1,
    }
    (folder / "acquisition.json").write_text(json.dumps(given))
    return folder / "acquisition.json"


def _parse_acquisition(folder: Path) -> Any:
    try:
        given = json.loads((folder / "acquisition.json").read_text())
    except (ValueError, RecursionError):
        return None  # nothing that a config can hold
    return grammar.parse(given)


def _options(folder: Path) -> Path:
    text = 'a.b=[1,(2,3)]\nmodel.type="x,y"\nacquisition={"_delete_": true}\nseeds=1,2'
    (folder / "options.txt").write_text(text)
    return folder / "options.txt"


def _parse_options(folder: Path) -> Any:
    return parse_options((folder / "options.txt").read_text(errors="surrogateescape").split("\n"))


def _budget(folder: Path) -> Path:
    (folder / "budget.txt").write_text("12.5%")
    return folder / "budget.txt"


def _parse_budget(folder: Path) -> Any:
    text = (folder / "budget.txt").read_text(errors="surrogateescape")
    return Budget.parse(text, "region", "slic").resolve(10_000)


def _scenes(folder: Path) -> Path:
    streets.generate(folder / "data", train=1, val=1, size=(32, 32))
    return folder / "data" / streets.MANIFEST


READERS: dict[str, Reader] = {
    "streets manifest": Reader(
        "testing.streets.generate",
        _scenes,
        lambda f: streets.generate(f / "data", train=1, val=1, size=(32, 32)),
        writes=True,  # completes a data set
    ),
    "label": Reader("store.images.read_ids", _labels, lambda f: images.read_ids(f / "labels.png")),
    "label checked": Reader(
        "annotators.base.checked_ids",
        _labels,
        lambda f: checked_ids(f / "labels.png", SHAPE, ALL_IDS),
    ),
    "image png": Reader(
        "store.images.read_rgb", _picture("a.png"), lambda f: images.read_rgb(f / "a.png")
    ),
    "image jpg": Reader(
        "store.images.read_rgb", _picture("a.jpg"), lambda f: images.read_rgb(f / "a.jpg")
    ),
    "image tif": Reader(
        "store.images.read_rgb", _picture("a.tif"), lambda f: images.read_rgb(f / "a.tif")
    ),
    "image bmp": Reader(
        "store.images.read_rgb", _picture("a.bmp"), lambda f: images.read_rgb(f / "a.bmp")
    ),
    "image webp": Reader(
        "store.images.read_rgb", _picture("a.webp"), lambda f: images.read_rgb(f / "a.webp")
    ),
    "size png": Reader(
        "store.images.image_size", _picture("a.png"), lambda f: images.image_size(f / "a.png")
    ),
    "size jpg": Reader(
        "store.images.image_size", _picture("a.jpg"), lambda f: images.image_size(f / "a.jpg")
    ),
    "checksums": Reader("store.images.verify", _labels, lambda f: images.verify(f / "labels.png")),
    "query.json": Reader("store.query.read_query", _query("query.json"), _read_query, named=False),
    "picks.npy": Reader("store.query.read_query", _query("picks.npy"), _read_query),
    "asked": Reader("store.query.read_id_png", _query("asked/town/01.png"), _read_query),
    "image paths": Reader(
        "store.image_paths.read_image_paths",
        _image_paths,
        lambda f: image_paths.read_image_paths(f / "images.json"),
    ),
    "results.json": Reader(
        "store.results.load", _run("results.json"), lambda f: records.load(f / "run")
    ),
    "ledger": Reader("store.ledger.Ledger", _run("ledger.sqlite"), _read_ledger),
    "points": Reader("store.points.PointLog", _points, _read_points),
    "status": Reader(
        "cli.status.run", _run("ledger.sqlite"), lambda f: cli_status.run(f / "run", 100)
    ),
    "status results": Reader(
        "cli.status.run", _run("results.json"), lambda f: cli_status.run(f / "run", 100)
    ),
    "check": Reader(
        "cli.check.run", _run("ledger.sqlite"), lambda f: cli_check.run(f / "run"), refuses=False
    ),
    "check results": Reader(
        "cli.check.run", _run("results.json"), lambda f: cli_check.run(f / "run"), refuses=False
    ),
    "store label": Reader("store.labels.LabelStore", _store("a.png"), _read_store, writes=True),
    "store sidecar": Reader(
        "store.labels.LabelStore", _store("_annotated/a.png"), _read_store, writes=True
    ),
    "store index": Reader(
        "store.labels.LabelStore",
        _store("_annotated/index.sqlite"),
        _read_store,
        refuses=False,
        writes=True,
    ),
    "training state": Reader(
        "store.fit_state.read",
        _state,
        lambda f: fit_state.read(f, {"round": 1}),
        named=False,
        allowed=(fit_state.UnusableStateError,),
    ),
    "checkpoint": Reader(
        "engines.mmseg.checkpoints.read_checkpoint",
        _checkpoint,
        lambda f: checkpoints.read_checkpoint(f / "c.pth"),
    ),
    "lock": Reader("store.lock.FolderLock", _lock_file, _take, refuses=False, writes=True),
    "lock held": Reader("store.lock.FolderLock", _held, _take_without_locks, writes=True),
    "compare --grid": Reader(
        "compare.plan.read_spec",
        _grid_file,
        lambda f: plan.read_spec([], f / "grid.json", None),
        named=False,
    ),
    "grid.json": Reader("compare.results.collect", _grid("grid.json"), _collect_grid),
    "run note": Reader("compare.results.collect", _grid("runs/RIPU/seed0.json"), _collect_grid),
    "grid results": Reader(
        "compare.results.collect", _grid("runs/RIPU/seed0/results.json"), _collect_grid, named=False
    ),
    "compare.json": Reader(
        "compare.results.read",
        _grid(archives.ARCHIVE),
        lambda f: archives.read(f / "out" / archives.ARCHIVE),
    ),
    "region map png": Reader(
        "partitions.precomputed",
        _region_map("m.png"),
        lambda f: precomputed(f / "m.png", SHAPE),
    ),
    "region map npy": Reader(
        "partitions.precomputed",
        _region_map("m.npy"),
        lambda f: precomputed(f / "m.npy", SHAPE),
    ),
    "superpixel cache": Reader(
        "partitions.superpixels.SlicPartition", _slic_map, _slic_ids, refuses=False, writes=True
    ),
    "superpixel image": Reader(
        "partitions.superpixels.SlicPartition", _slic_image, _slic_ids, writes=True
    ),
    "answer": Reader("annotators.folder.FolderAnnotator", _answers, _collect),
    "pool table layout": Reader(
        "selection.pool_table.read_table", _table("table.json"), _read_table
    ),
    "pool table units": Reader("selection.pool_table.read_table", _table("units.bin"), _read_table),
    "pool table column": Reader(
        "selection.pool_table.read_table", _table("score.bin"), _read_table
    ),
    "preview score": Reader(
        "report.data.read_score", _preview, lambda f: report_data.read_score(f / "score.npy")
    ),
    "preview index": Reader(
        "report.data.read_previews",
        _run("rounds/000/preview/index.json"),
        lambda f: report_data.read_previews(WorkDir(f / "run"), 0),
    ),
    "acquisition": Reader("config.grammar.parse", _acquisition, _parse_acquisition, named=False),
    "--cfg-options": Reader("cli.options.parse_options", _options, _parse_options, named=False),
    "budget": Reader("config.budget.Budget", _budget, _parse_budget, named=False),
    "painted map": Reader("annotators.replay.decode", page.painted, page.read_painted, named=False),
    "class sets": Reader("store.label_maps.read_sets", page.sets, page.read_class_sets),
    "sieved pixels": Reader("store.sieved.SievedPixels", page.sieved, page.read_sieved),
    "pseudo labels": Reader("store.pseudo_labels.PseudoLabels", page.pseudo, page.read_pseudo),
    "answer log": Reader("store.answer_log.AnswerLog", page.log, page.read_log, writes=True),
    "closed round": Reader("loop.closing.closed", page.closed_round, page.read_closed),
}
