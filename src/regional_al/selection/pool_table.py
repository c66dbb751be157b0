"""A table of all units of the pool with what a heuristic says about each, streamed to files.

Heuristics that rank units against one another (class balance over the pool, k-centre, clusters)
need more than one image at a time. Every rank appends its images to binary files, one per column;
rank 0 reads them back in pool order, so the table does not depend on the number of ranks.

What is kept of a column:

- one number per unit: float64, exactly;
- a vector per unit: float32, exactly for values that are float32;
- a vector that the heuristic names in `vectors`, because only distances are measured with it: the
  same, but half precision times a power of two common to the column where the float32 column
  exceeds `LARGE`. Values are never reordered (a < b never becomes a > b, though close values may
  become equal), never change sign and never overflow. With m the largest magnitude of the column,
  the relative error is at most 2^-11 down to m * 2^-28; below that the absolute error is at most
  m * 2^-39.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ScoreError, WorkDirError
from ..types import F32, I64, PICK_DTYPE, Bool, Picks

Column = npt.NDArray[Any]
LARGE = 256 << 20
"""Bytes of a float32 column above which `vectors` are kept in half precision in memory."""
_CHUNK = 1 << 20
"""Numbers that are converted at a time."""
_MAX = np.finfo(np.float32).max


@dataclass(frozen=True)
class PoolTable:
    """Units of the pool, ordered by image, then unit.

    Args:
        units: PICK_DTYPE [n]; `pixels` is what an answer would still cover, 0 = annotated already
            (kept, because diversity is measured from what is labelled).
        columns: Arrays with first dimension n: what `PoolHeuristic.describe` returned.
        round: This round, 1..rounds.
        rounds: Number of rounds of the run.
        exponents: Column name -> e where a column is stored in half precision as values / 2^e.

    Example:
        >>> import numpy as np
        >>> from regional_al.types import PICK_DTYPE
        >>> units = np.zeros(3, dtype=PICK_DTYPE)
        >>> units["unit"], units["pixels"] = [0, 1, 2], [4, 0, 4]
        >>> table = PoolTable(units, {"score": np.array([0.5, 0.1, 0.9])})
        >>> len(table), table["score"].tolist(), table.open.tolist()
        (3, [0.5, 0.1, 0.9], [True, False, True])
    """

    units: Picks
    columns: Mapping[str, Column]
    round: int = 1
    rounds: int = 1
    exponents: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, name: str) -> Column:
        """A whole column; of one in half precision take `rows`, which converts only some rows."""
        if name in self.exponents:
            return self.rows(name, slice(None))
        return self.columns[name]

    def rows(self, name: str, at: Any) -> F32:
        """float32 [m, ...]: some rows (positions or a slice) of a column."""
        values = self.columns[name][at].astype(np.float32)
        if name not in self.exponents:
            return np.asarray(values)
        scaled = np.ldexp(values, self.exponents[name])
        return np.asarray(np.clip(scaled, -_MAX, _MAX), dtype=np.float32)

    @property
    def open(self) -> Bool:
        """bool [n]: some pixel is not annotated yet."""
        return np.asarray(self.units["pixels"] > 0)

    @property
    def image(self) -> I64:
        """int64 [n]: pool index of each unit's image."""
        return np.asarray(self.units["image"].astype(np.int64))


class TableWriter:
    """One rank's part of a table: `<folder>/<rank>/<column>.bin` and `table.json`."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder / f"{rank:04d}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._files: dict[str, IO[bytes]] = {}
        self._layout: dict[str, tuple[str, list[int]]] = {}

    def add(self, units: Picks, columns: Mapping[str, torch.Tensor], key: str) -> None:
        """Append one image's units.

        Args:
            units: PICK_DTYPE [m], the rows to keep of each column, by unit id.
            columns: Tensors with first dimension R, indexed by unit id.
            key: The image, for messages.

        Raises:
            ScoreError: A kept value is NaN, +inf, or, in a vector, -inf; or a vector has another
                length than in earlier images.
        """
        rows = {"units": units}
        for name, values in columns.items():
            array = values.detach().to("cpu").numpy()[units["unit"]]
            if array.dtype.kind == "f":
                array = array.astype(np.float64 if array.ndim == 1 else np.float32)
                usable = np.isfinite(array)
                if array.ndim == 1:
                    usable |= array == -np.inf  # never ask
                if not usable.all():
                    raise ScoreError(
                        f"image {key!r}: {name} holds NaN or infinite values; the model diverged "
                        "or the heuristic is broken: lower the learning rate or check the "
                        "checkpoint"
                    )
            rows[name] = array
        for name, array in rows.items():  # all are looked at before any is written
            if name in self._layout:
                of_others = self._layout[name][1]
                _check_width(name, list(array.shape[1:]), of_others, f"image {key!r}")
        for name, array in rows.items():
            self._append(name, np.ascontiguousarray(array))

    def close(self) -> None:
        """Write the layout, without which `read_table` does not know the files."""
        for file in self._files.values():
            file.close()
        (self.folder / "table.json").write_text(json.dumps(self._layout))

    def _append(self, name: str, array: Column) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
            dtype = "picks" if array.dtype.names else array.dtype.str
            self._layout[name] = (dtype, list(array.shape[1:]))
        self._files[name].write(array.tobytes())


def read_table(
    folder: Path, round_: int = 1, rounds: int = 1, vectors: Collection[str] = ()
) -> PoolTable | None:
    """The parts of all ranks as one table in pool order.

    Args:
        folder: Where the `TableWriter` of each rank wrote.
        round_: This round.
        rounds: Number of rounds of the run.
        vectors: Columns with which only distances are measured (see the module's docstring).

    Returns:
        The table, or None when no rank had an image.

    Raises:
        ScoreError: A vector differs in length between ranks.
    """
    parts: list[dict[str, Column]] = []
    for part in sorted(folder.iterdir()):
        try:
            columns = _read_part(part)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            why = " ".join(str(error).split())[:200]
            raise WorkDirError(
                f"{part} is damaged ({why}): resume the run, which scores the pool again"
            ) from None
        if columns:
            parts.append(columns)
    if not parts:
        return None
    for other in parts[1:]:
        for name, values in other.items():
            _check_width(name, list(values.shape[1:]), list(parts[0][name].shape[1:]), "an image")
    units = np.concatenate([part["units"] for part in parts])
    order = np.lexsort((units["unit"], units["image"]))
    joined: dict[str, Column] = {}
    exponents: dict[str, int] = {}
    for name in parts[0].keys() - {"units"}:
        pieces = [part[name] for part in parts]
        if name in vectors and 4 * sum(piece.size for piece in pieces) > LARGE:
            joined[name], exponents[name] = _halved(pieces, order)
        else:
            joined[name] = np.concatenate(pieces)[order]
    return PoolTable(units[order], joined, round_, rounds, exponents)


def _read_part(part: Path) -> dict[str, Column]:
    """The columns of one rank, all with a row for each unit. Raises ValueError and the like."""
    layout = json.loads((part / "table.json").read_text(encoding="utf-8"))
    columns: dict[str, Column] = {}
    for name, (dtype, shape) in layout.items():
        kind = PICK_DTYPE if dtype == "picks" else np.dtype(dtype)
        if kind.hasobject or kind.itemsize == 0:
            raise ValueError(f"{name} is of type {kind}")
        columns[name] = np.memmap(part / f"{name}.bin", kind, mode="r").reshape(-1, *shape)
    rows = {name: len(values) for name, values in columns.items()}
    if columns and ("units" not in columns or len({*rows.values()}) > 1):
        raise ValueError(f"its columns have {rows} rows")
    return columns


def _halved(pieces: Sequence[Column], order: I64) -> tuple[Column, int]:
    """(float16 [n, ...] in the given order, e) with values = float16 * 2^e, the largest magnitude
    in [2^14, 2^15]: float32 is read chunk by chunk and never held whole."""
    shape = pieces[0].shape[1:]
    step = max(1, _CHUNK // max(1, int(np.prod(shape))))
    chunks = [piece[i : i + step] for piece in pieces for i in range(0, len(piece), step)]
    largest = max(float(np.abs(chunk).max(initial=0.0)) for chunk in chunks)
    exponent = int(np.frexp(largest)[1]) - 15 if largest else 0
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    out = np.empty((len(order), *shape), dtype=np.float16)
    start = 0
    for chunk in chunks:
        rows = place[start : start + len(chunk)]
        out[rows] = np.ldexp(chunk.astype(np.float64), -exponent).astype(np.float16)
        start += len(chunk)
    return out, exponent


def _check_width(name: str, shape: list[int], others: list[int], where: str) -> None:
    """Raise ScoreError where one image's column is of another width than the others'."""
    if shape != others:
        raise ScoreError(
            f"{where}: {name} has {shape} numbers per unit, other images {others}: the model "
            "returns features for some images only, as with sliding windows over images of several "
            "sizes; set model.test_cfg=dict(mode='whole')"
        )
