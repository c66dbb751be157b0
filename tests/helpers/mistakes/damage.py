"""What a case does to the files that it starts from: `(verb, path, ...)`, as data."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mistakes.fuzzing import npy, pickled, png


def spoil(folder: Path, one: tuple[Any, ...]) -> None:
    """Do one thing to a file below `folder`."""
    verb, name, *more = one
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    VERBS[verb](path, *more)


def _text(path: Path, text: str) -> None:
    path.write_text(text.replace("{root}", str(path.parent)))


def _cut(path: Path, size: int) -> None:
    """The first `size` bytes; from the end when negative."""
    path.write_bytes(path.read_bytes()[:size])


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _folder(path: Path) -> None:
    """A folder in place of the file."""
    if path.exists():
        _remove(path)
    path.mkdir(parents=True)


def _save(path: Path, pixels: Any, **more: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, **more)


def _mask(path: Path, shape: tuple[int, ...], value: int = 0, dtype: str = "uint8") -> None:
    """A picture of one value; a third length makes it RGB or RGBA."""
    _save(path, np.full(shape, value, dtype), format="PNG")


def _jpeg(path: Path, shape: tuple[int, ...]) -> None:
    _save(path, np.zeros(shape, np.uint8), format="JPEG")


def _palette(path: Path, shape: tuple[int, int], value: int) -> None:
    from PIL import Image

    image = Image.fromarray(np.full(shape, value, np.uint8), mode="P")
    image.putpalette([channel for c in range(256) for channel in (c, 0, 0)])
    image.save(path)


def _bits(path: Path, shape: tuple[int, int]) -> None:
    """A picture of one bit a pixel, all of them set."""
    from PIL import Image

    Image.new("1", shape[::-1], 1).save(path)


def _loop(path: Path) -> None:
    """A link to itself in place of the file."""
    path.unlink()
    path.symlink_to(path.name)


def _pixel(path: Path, value: int) -> None:
    """Another value of one pixel of a mask."""
    from PIL import Image

    with Image.open(path) as image:
        ids = np.array(image)
    ids[3, 4] = value
    _save(path, ids)


def _npy(path: Path, values: Any, dtype: str) -> None:
    np.save(path, np.array(values, dtype=dtype), allow_pickle=dtype == "O")


def _json(path: Path, keys: tuple[Any, ...], value: Any = "remove") -> None:
    """Set, or remove, what stands at a sequence of keys of a JSON file."""
    data = json.loads(path.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    if value == "remove":
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(data))


def _sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _bomb(path: Path) -> None:
    path.write_bytes(png(60_000, 60_000))


def _claims(path: Path, header: str) -> None:
    path.write_bytes(npy(header))


def _pickle(path: Path) -> None:
    path.write_bytes(pickled(path.with_name("executed")))


def _torch(path: Path, content: Any) -> None:
    import torch

    torch.save(content, path)


def _model(path: Path) -> None:
    """A checkpoint that holds a whole module, which only a pickle can make again."""
    import torch

    torch.save({"model": torch.nn.Linear(2, 2)}, path)


def _bytes_name(path: Path, name: bytes) -> None:
    """Rename to a name that is not UTF-8."""
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/" + name)


VERBS: dict[str, Callable[..., Any]] = {
    "text": _text,
    "bytes": lambda path, data: path.write_bytes(data),
    "cut": _cut,
    "flip": _flip,
    "remove": _remove,
    "folder": _folder,
    "empty": _empty,
    "mask": _mask,
    "palette": _palette,
    "jpeg": _jpeg,
    "pixel": _pixel,
    "bomb": _bomb,
    "npy": _npy,
    "claims": _claims,
    "pickle": _pickle,
    "json": _json,
    "sql": _sql,
    "torch": _torch,
    "model": _model,
    "bits": _bits,
    "loop": _loop,
    "link": lambda path, target: path.symlink_to(target),
    "rename": lambda path, name: path.rename(path.with_name(name)),
    "bytes name": _bytes_name,
    "copy": lambda path, source: shutil.copy(path.parent / source, path),
    "mode": lambda path, mode: path.chmod(mode),
}
