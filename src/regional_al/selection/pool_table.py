"""A table of all units of the pool with what a heuristic says about each, streamed to files.

Heuristics that rank units against one another (class balance over the pool, k-centre, clusters)
need more than one image at a time. Every rank appends its images to binary files, one a column;
rank 0 reads them back in pool order, so that the table does not depend on the number of ranks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ScoreError
from ..types import I64, PICK_DTYPE, Bool, Picks

Column = npt.NDArray[Any]
LARGE = 256 << 20
"""Bytes of one float32 column of vectors above which it is kept as float16."""


@dataclass(frozen=True)
class PoolTable:
    """Units of the pool, ordered by image, then unit.

    units: PICK_DTYPE [n]; `pixels` is what an answer would still cover, 0 = answered already (kept,
    because diversity is measured from what is labelled). columns: arrays with first dimension n,
    what `Heuristic.describe` gave: float64 for one number a unit, float32 for several, so that
    order and sign are those of the scores; float16 for `vectors` of a large pool, which are
    compared by distances alone.
    round, rounds: this round (1..rounds) and how many there will be.
    """

    units: Picks
    columns: Mapping[str, Column]
    round: int = 1
    rounds: int = 1

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @property
    def open(self) -> Bool:
        """bool [n]: an answer is still missing."""
        return np.asarray(self.units["pixels"] > 0)

    @property
    def image(self) -> I64:
        """int64 [n]: pool index of each unit's image."""
        return np.asarray(self.units["image"].astype(np.int64))


class TableWriter:
    """One rank's part of a table: `<folder>/<rank>/<column>.bin` and `table.json`."""

    def __init__(
        self, folder: Path, rank: int, expected_units: int, vectors: Collection[str] = ()
    ) -> None:
        self.folder = folder / f"{rank:04d}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.expected, self.vectors = expected_units, vectors
        self._files: dict[str, IO[bytes]] = {}
        self._layout: dict[str, tuple[str, list[int]]] = {}

    def add(self, units: Picks, columns: Mapping[str, torch.Tensor], key: str) -> None:
        """Append one image's units. Raises ScoreError, naming the image, for NaN or infinity."""
        rows = {"units": units}
        for name, values in columns.items():
            array = values.detach().to("cpu").numpy()[units["unit"]]
            if array.dtype.kind == "f":
                array = self._stored(name, array.astype(np.float64), key)
            rows[name] = array
        for name, array in rows.items():
            self._append(name, np.ascontiguousarray(array), key)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        (self.folder / "table.json").write_text(json.dumps(self._layout))

    def _stored(self, name: str, array: Column, key: str) -> Column:
        usable = np.isfinite(array)
        if array.ndim == 1:
            usable |= array == -np.inf  # never ask
        if not usable.all():
            raise ScoreError(
                f"image {key!r}: {name} holds NaN or infinite values; the model diverged or the "
                "heuristic is broken: lower the learning rate or check the checkpoint"
            )
        if array.ndim == 1:
            return array
        size = 4 * self.expected * int(np.prod(array.shape[1:]))
        if name not in self.vectors or size <= LARGE:
            return array.astype(np.float32)
        return np.clip(array, -65504, 65504).astype(np.float16)

    def _append(self, name: str, array: Column, key: str) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
            dtype = "picks" if array.dtype.names else array.dtype.str
            self._layout[name] = (dtype, list(array.shape[1:]))
        check_width(name, list(array.shape[1:]), self._layout[name][1], f"image {key!r}")
        self._files[name].write(array.tobytes())


def read_table(folder: Path, round_: int = 1, rounds: int = 1) -> PoolTable | None:
    """The parts of all ranks as one table in pool order; None when no rank had an image."""
    parts: list[dict[str, Column]] = []
    for part in sorted(folder.iterdir()):
        layout = json.loads((part / "table.json").read_text())
        columns = {}
        for name, (dtype, shape) in layout.items():
            kind = PICK_DTYPE if dtype == "picks" else np.dtype(dtype)
            columns[name] = np.fromfile(part / f"{name}.bin", dtype=kind).reshape(-1, *shape)
        if columns:
            parts.append(columns)
    if not parts:
        return None
    for other in parts[1:]:
        for name, values in other.items():
            check_width(name, list(values.shape[1:]), list(parts[0][name].shape[1:]), "an image")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((joined["units"]["unit"], joined["units"]["image"]))
    joined = {name: values[order] for name, values in joined.items()}
    return PoolTable(joined.pop("units"), joined, round_, rounds)


def check_width(name: str, shape: list[int], others: list[int], where: str) -> None:
    """Raise ScoreError where one image's column is of another width than the others'."""
    if shape != others:
        raise ScoreError(
            f"{where}: {name} has {shape} numbers a unit, other images {others}: the model offers "
            "features for some images only, as with sliding windows over images of several sizes; "
            "set model.test_cfg=dict(mode='whole')"
        )
