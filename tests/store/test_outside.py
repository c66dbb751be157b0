"""Files that other people hand over: links, FIFOs and headers that lie are refused by name, before
anything is read. Readers: answers of the folder annotator, labels of another run, region maps."""

from __future__ import annotations

import os
import signal
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from regional_al.acquisition.scorer import read_groups, write_groups
from regional_al.annotators import build_annotator
from regional_al.errors import DataError
from regional_al.partitions import PARTITIONS
from regional_al.store import outside
from regional_al.store.images import read_ids, read_rgb, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.outside import check_file, declared_shape
from regional_al.store.query import QueryInfo, copy_query, read_query, write_query
from regional_al.store.reading import read_array, read_json
from regional_al.types import PICK_DTYPE, ImageAnswer, LabelSpace, PoolItem

SHAPE = (6, 9)
KEY = "town/a"
SPACE = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
Read = Callable[[], object]


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """A read that would wait forever fails instead."""

    def late(*_: object) -> None:
        raise TimeoutError("it is read, and waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bomb(path: Path, height: int, width: int) -> None:
    """A PNG of a few bytes that declares an image of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        tail = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + tail

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def plant(kind: str, path: Path, outside: Path) -> str:
    """Put something bad at `path`; what the error must say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = outside / "secret.png"
    write_png(secret, np.zeros(SHAPE, np.uint8))
    if kind == "link":
        path.symlink_to(secret)
        return "link that leads out of .*secret.png: put the file itself there"
    if kind == "relative link":
        path.symlink_to(os.path.relpath(secret, path.parent))
        return "link that leads out of"
    if kind == "linked folder":
        path.parent.rmdir()
        write_png(outside / "more" / path.name, np.zeros(SHAPE, np.uint8))
        path.parent.symlink_to(outside / "more")
        return "link that leads out of"
    if kind == "broken link":
        path.symlink_to(path.parent / "gone.png")
        return "is a link to .*gone.png, which does not exist"
    if kind == "endless link":
        path.symlink_to(path)
        return "cannot be read|does not exist"
    if kind == "device":
        path.symlink_to("/dev/zero")
        return "link that leads out of .*/dev/zero"
    if kind == "fifo":
        os.mkfifo(path)
        return "is a FIFO, not a file: remove it"
    if kind == "folder":
        path.mkdir()
        return "is a folder, not a file"
    if kind == "large file":
        with path.open("wb") as file:
            file.truncate(50 << 20)
        return "has 52,428,800 bytes, far too many for an image of 6x9"
    if kind == "gigantic image":
        bomb(path, 60000, 60000)
        return "pixels|decompression bomb"
    assert kind == "large image"
    bomb(path, 9000, 9000)
    return r"9000x9000 \(height x width\), its image is 6x9"


KINDS = ["link", "relative link", "linked folder", "broken link", "endless link", "device", "fifo"]
KINDS += ["folder", "large file", "gigantic image", "large image"]


def answers(root: Path) -> tuple[Path, Read]:
    """Where an answer of a person is expected, and its reader."""
    pool = [PoolItem(KEY, root / "a.jpg", None, SHAPE)]
    asked = np.ones(SHAPE, np.int32)
    info = QueryInfo(round=1, level="region", partition="grid")
    folder = root / "rounds" / "001" / "query"
    query = write_query(folder, info, np.zeros(1, PICK_DTYPE), iter([(0, KEY, asked)]))
    annotator = build_annotator("folder", pool, SPACE)
    annotator.request(query)
    return folder.parent / "answers" / f"{KEY}.png", lambda: list(annotator.collect(query, [KEY]))


def region_map(root: Path) -> tuple[Path, Read]:
    """Where the region map of an image is expected, and its reader."""
    folder = root / "maps"
    folder.mkdir()
    partition = PARTITIONS.build({"type": "precomputed", "folder": folder})
    item = PoolItem(KEY, root / "a.jpg", None, SHAPE)
    return folder / f"{KEY}.png", lambda: partition.prepare([item])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [answers, region_map])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_handed_over_is_refused_by_name(
    tmp_path: Path, kind: str, place: Callable[[Path], tuple[Path, Read]]
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").mkdir()
    path, read = place(tmp_path / "run")
    match = plant(kind, path, tmp_path / "outside")
    with pytest.raises(DataError, match=match) as caught:
        read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def query_file(name: str) -> Callable[[Path], tuple[Path, Read]]:
    """A file of a query, and what reads it."""

    def place(root: Path) -> tuple[Path, Read]:
        asked, info = np.ones(SHAPE, np.int32), QueryInfo(round=1, level="region", partition="grid")
        folder = root / "query"
        write_query(folder, info, np.zeros(1, PICK_DTYPE), iter([(0, KEY, asked)]))
        return folder / name, lambda: read_query(folder).asked(KEY)

    return place


def copied(root: Path) -> tuple[Path, Read]:
    """A mask of a query that is copied as a whole, as a shared start is."""
    path, _ = query_file(f"asked/{KEY}.png")(root)
    query = read_query(root / "query")
    return path, lambda: copy_query(query, root / "copy")


def label(method: str) -> Callable[[Path], tuple[Path, Read]]:
    """A file of the label store, and a method that reads it."""

    def place(root: Path) -> tuple[Path, Read]:
        answered = np.ones(SHAPE, bool)
        LabelStore(root).write(ImageAnswer(KEY, np.zeros(SHAPE, np.uint8), answered), 0)
        store = LabelStore(root)
        path = store.sidecar_path(KEY) if method == "annotated" else store.path(KEY)
        if method == "training_digest":
            return path, lambda: store.training_digest(np.ones(256, bool))
        return path, lambda: getattr(store, method)(KEY)

    return place


def groups(root: Path) -> tuple[Path, Read]:
    """What a scorer keeps for the selection."""
    write_groups(root, KEY, np.zeros(3, np.int32))
    return root / f"{KEY}.npy", lambda: read_groups(root, KEY)


PLACES: dict[str, Callable[[Path], tuple[Path, Read]]] = {
    **{name: query_file(name) for name in ("query.json", "picks.npy", f"asked/{KEY}.png")},
    "copy": copied,
    **{name: label(name) for name in ("read", "annotated", "training_digest")},
    "groups": groups,
}


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (place, kind)
        for place in PLACES
        for kind in ("link", "broken link", "device", "fifo")
        if (place, kind) != ("training_digest", "broken link")  # as a label that is missing
    ],
)
def test_links_and_fifos_in_the_folders_of_a_run_are_refused_by_name(
    tmp_path: Path, place: str, kind: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").mkdir()
    path, read = PLACES[place](tmp_path / "run")
    read()
    path, read = PLACES[place](tmp_path / "again")  # not what has been read before
    path.unlink()
    match = plant(kind, path, tmp_path / "outside")
    with pytest.raises(DataError, match=match) as caught:
        read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "again").glob("copy*"))


@pytest.mark.parametrize("read", [read_json, read_array, read_ids, read_rgb])
def test_readers_do_not_wait_for_a_fifo(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DataError, match="a is a FIFO, not a file: remove it"):
        read(tmp_path / "a")


@pytest.mark.parametrize("place", [answers, region_map])
def test_files_and_links_within_the_folder_are_read(
    tmp_path: Path, place: Callable[[Path], tuple[Path, Read]]
) -> None:
    path, read = place(tmp_path)
    write_png(path.parent / "b.png", np.zeros(SHAPE, np.uint8))
    path.symlink_to("b.png")
    read()
    path.unlink()
    (path.parent / "b.png").rename(path)
    read()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write_png(tmp_path / "disk" / "a.png", np.zeros(SHAPE, np.uint8))
    (tmp_path / "answers").symlink_to(tmp_path / "disk")
    check_file(tmp_path / "answers" / "a.png", tmp_path / "answers", SHAPE)
    check_file(tmp_path / "answers" / "none.png", tmp_path / "answers", SHAPE)


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.png")
        with pytest.raises(DataError, match=r"a\.png is a socket, not a file"):
            check_file(tmp_path / "a.png", tmp_path)


def test_an_array_whose_header_lies_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    partition = PARTITIONS.build({"type": "precomputed", "folder": tmp_path, "suffix": ".npy"})
    path = tmp_path / "a.npy"
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (10000000, 10000000), }"
    text = header.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    assert declared_shape(path) == (10000000, 10000000)
    with pytest.raises(DataError, match=r"a\.npy is a map of 10000000x10000000"):
        partition.prepare([PoolItem("a", tmp_path / "a.jpg", None, SHAPE)])


def test_plain_files_are_recognised_without_resolving_links(tmp_path: Path) -> None:
    """The quick look says yes only to what the thorough one accepts, and to all ordinary files."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("in/a", "in/deep/b", "out", "in2"):
        (tmp_path / name).write_bytes(b"1")
    (folder / "link").symlink_to(folder / "a")
    (folder / "away").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(folder)
    os.mkfifo(folder / "fifo")
    plain = [(folder, folder / "a"), (folder, folder / "deep/b")]
    plain.append((tmp_path / "alias", tmp_path / "alias/a"))  # the folder itself may be a link
    others = [folder / name for name in ("link", "away/out", "fifo", "deep", "none", "a/b", "..")]
    others += [tmp_path / "in2", tmp_path / "out", folder / "../out", folder / "deep/../../out"]
    for root, path in plain:
        found = outside._plain_file(str(path), str(root))
        assert found is not None
        assert found.st_ino == path.stat().st_ino
        check_file(path, root)
    for path in others:
        assert outside._plain_file(str(path), str(folder)) is None, path
