"""Zips: the same bytes for the same content, and nothing unsafe is read."""

from __future__ import annotations

import os
import stat
import time
import warnings
import zipfile
from pathlib import Path

import pytest

from regional_al.errors import DataError
from regional_al.exchange import archive
from regional_al.exchange.archive import Source, write_zip


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"pixels")
    files = {"b/x.json": b"{}", "a/a.png": picture, "straße.txt": b"1"}
    write_zip(tmp_path / "1.zip", files)
    os.utime(picture, (time.time() - 10**6,) * 2)
    write_zip(tmp_path / "2.zip", dict(reversed(files.items())))
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    (source,) = Source.open([tmp_path / "1.zip"])
    assert source.names == ("a/a.png", "b/x.json", "straße.txt")
    assert source.read("a/a.png") == b"pixels"
    assert list(tmp_path.glob(".*")) == []


def test_zips_and_folders_are_read_one_by_one_and_files_together(tmp_path: Path) -> None:
    write_zip(tmp_path / "1.zip", {"a": b""})
    (tmp_path / "set/sub").mkdir(parents=True)
    for name in ("set/sub/b.json", "set/.hidden", "c.json", "d.json"):
        (tmp_path / name).write_text("{}")
    paths = [tmp_path / name for name in ("c.json", "set", "1.zip", "d.json")]
    found = [source.names for source in Source.open(paths)]
    assert found == [("sub/b.json",), ("a",), ("c.json", "d.json")]
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(DataError, match=r"another file has the same name 'b.json'"):
        Source.open([tmp_path / "b.json", tmp_path / "set/sub/b.json"])
    with pytest.raises(DataError, match=r"nothing.zip does not exist"):
        Source.open([tmp_path / "nothing.zip"])


def zip_with(path: Path, name: str, data: bytes = b"x", **attributes: int) -> None:
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    for key, value in attributes.items():
        setattr(entry, key, value)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")
        file.writestr(entry, data, zipfile.ZIP_DEFLATED)
        file.writestr("other", b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x.json", "leads out"),
        ("a/../../x.json", "leads out"),
        ("/etc/x.json", "leads out"),
        ("a//b", "leads out"),
        ("./x", "leads out"),
        ("a\\..\\b", "not allowed"),
        ("C:/x", "not allowed"),
        ("a\nb.json", "not allowed"),
        ("\x1b[2Jb.json", "not allowed"),
        ("other", "in it twice"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, message: str, tmp_path: Path) -> None:
    zip_with(tmp_path / "x.zip", name)
    with pytest.raises(DataError, match=message) as caught:
        Source.open([tmp_path / "x.zip"])
    assert "\n" not in str(caught.value)
    assert "x.zip" in str(caught.value)


def test_links_in_folders_are_refused(tmp_path: Path) -> None:
    """They may lead to any file of this machine; leaving them out would lose answers silently."""
    (tmp_path / "set/sub").mkdir(parents=True)
    (tmp_path / "set/sub/a.json").write_text("{}")
    for target in ("/etc/hostname", "/etc"):
        link = tmp_path / "set/sub/link"
        link.symlink_to(target)
        with pytest.raises(DataError, match=r"set/sub/link is a link"):
            Source.open([tmp_path / "set"])
        link.unlink()
    (tmp_path / "other").symlink_to(tmp_path / "set")  # named by the user
    assert Source.open([tmp_path / "other"])[0].names == ("sub/a.json",)


def test_links_encryption_and_unmarked_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    zip_with(path, "link", external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(DataError, match="'link' is a link"):
        Source.open([path])
    zip_with(path, "ab.json")
    plain = path.read_bytes()
    path.write_bytes(plain.replace(b"ab.json", b"\xc3\xbc.json"))
    with pytest.raises(DataError, match="not marked as UTF-8"):
        Source.open([path])
    data = bytearray(plain)
    data[plain.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        Source.open([path])
    path.write_bytes(plain[:-30])
    with pytest.raises(DataError, match="not a readable zip"):
        Source.open([path])
    path.write_bytes(plain.replace(plain[plain.index(b"ab.json") + 7 :][:3], b"\xff\xff\xff", 1))
    with pytest.raises(DataError, match=r"ab.json cannot be read"):
        Source.open([path])[0].read("ab.json")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zip_with(tmp_path / "x.zip", "a", bytes(5000))
    monkeypatch.setattr(archive, "SMALL", 4999)
    with pytest.raises(DataError, match=r"'a' unpacks from \d+ to 5000 bytes, which no"):
        Source.open([tmp_path / "x.zip"])
    monkeypatch.setattr(archive, "SMALL", 5000)
    monkeypatch.setattr(archive, "MAX_TOTAL", 4000)
    with pytest.raises(DataError, match="5000 bytes unpacked, more than 4000"):
        Source.open([tmp_path / "x.zip"])
    monkeypatch.setattr(archive, "MAX_MEMBER", 3000)
    with pytest.raises(DataError, match="'a' has 5000 bytes, more than 3000"):
        Source.open([tmp_path / "x.zip"])
    (tmp_path / "large").write_bytes(bytes(5000))
    with pytest.raises(DataError, match="large has more than 3000 bytes"):
        Source.open([tmp_path / "large"])[0].read("large")
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match="2 files, more than 1"):
        Source.open([tmp_path / "x.zip"])


def test_a_zip_that_lies_about_a_size_is_not_read_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    zip_with(path, "a", bytes(5000))
    data = path.read_bytes()
    path.write_bytes(data.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="cannot be read"):
        Source.open([path])[0].read("a")
