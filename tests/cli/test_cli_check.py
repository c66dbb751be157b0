"""`regional-al check`, and what else a spoilt work dir makes the command line say: one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_run import make_run
from small_run import play, small_data

from regional_al import cli
from regional_al.errors import RegionalALError
from regional_al.store.images import read_ids, temporary_name, write_png
from regional_al.store.ledger import Ledger
from regional_al.store.lock import FolderLock
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir
from regional_al.types import UNLABELED


def start(data: Path, work_dir: Path, rounds: int = 1) -> None:
    play(data, work_dir, {"level": "pixel", "heuristic": "Margin", "rounds": rounds})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=3)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("runs") / "run"
    start(data, work_dir)
    return work_dir


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_clean_findings_and_repair(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: the files agree with the ledger\n"
    stray = temporary_name(run / "labels" / "train_0000.png")
    stray.write_bytes(b"half")
    assert cli.main(["check", str(run)]) == 1
    finding, summary = capsys.readouterr().out.splitlines()
    assert finding == f"{stray} was left by a process that was killed"
    assert summary.startswith(f"{run}: 1 finding; none keeps the run from being resumed")
    (run / "results.json").unlink()
    assert cli.main(["check", str(run)]) == 1
    assert f"2 findings; run `regional-al check {run} --repair`" in capsys.readouterr().out
    side = run / "labels" / "_annotated" / "train_0001.png"
    side.unlink()
    assert cli.main(["check", str(run), "--repair"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"repaired: removed {stray}"
    assert out[1].startswith(f"repaired: {run / 'results.json'}: wrote it again")
    assert out[2].startswith(f"{side} is missing: the ledger has ")
    assert out[-1].startswith(f"{run}: 1 finding; restore the other files from a backup")
    assert (run / "labels" / "train_0001.png").exists()  # never cleared: people gave it


def another_class(path: Path) -> None:
    """What somebody does in a paint program: one labelled pixel gets another class."""
    pixels = read_ids(path)
    where = np.flatnonzero(pixels != UNLABELED)[0]
    pixels.ravel()[where] = (int(pixels.ravel()[where]) + 1) % 3
    write_png(path, pixels)


def test_edited_labels_are_named_and_accepted(
    data: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "labels" / "train_0000.png"
    another_class(path)
    assert cli.main(["check", str(run)]) == 1
    finding, summary = capsys.readouterr().out.splitlines()
    assert finding == (
        f"{path} was edited after the run had written it: restore it from a backup, or accept it "
        "with `--accept-labels`"
    )
    command = f"`regional-al check {run} --accept-labels`"
    assert summary == (f"{run}: 1 finding; restore the edited files, or accept them with {command}")
    assert cli.main(["check", str(run), "--repair"]) == 1  # not without being told
    capsys.readouterr()
    with pytest.raises(RegionalALError, match=rf"{path} was edited") as caught:
        start(data, run, rounds=2)
    assert str(caught.value).endswith(f": run `regional-al check {run}`")
    assert cli.main(["check", str(run), "--accept-labels"]) == 0
    accepted, summary = capsys.readouterr().out.splitlines()
    assert accepted == f"accepted: {path}"
    assert summary == f"{run}: the files agree with the ledger"
    assert cli.main(["check", str(run), "--accept-labels"]) == 0
    assert "accepted" not in capsys.readouterr().out
    start(data, run, rounds=2)
    with Ledger.open(run, readonly=True) as ledger:
        names = [change["name"] for change in ledger.changes()]
    assert names.count("label of train_0000") == 1


def test_edits_beside_other_findings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    another_class(run / "labels" / "train_0000.png")
    temporary_name(run / "labels" / "train_0000.png").write_bytes(b"half")
    assert cli.main(["check", str(run)]) == 1
    assert f"check {run} --repair --accept-labels`" in capsys.readouterr().out
    (run / "labels" / "train_0001.png").unlink()
    assert cli.main(["check", str(run), "--repair", "--accept-labels"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out[:2]] == ["repaired", "accepted"]
    assert "train_0001.png is missing" in out[2]
    assert out[-1].startswith(f"{run}: 1 finding; restore")


def test_a_repaired_run_is_resumed(data: Path, run: Path) -> None:
    (run / "results.json").write_text("{")
    assert cli.main(["check", str(run), "--repair"]) == 0
    start(data, run, rounds=2)
    assert cli.main(["check", str(run)]) == 0


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def line(*arguments: str) -> str:
        assert cli.main(["check", *arguments]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert "empty does not contain a run" in line(str(tmp_path / "empty"))
    assert "file is not a folder" in line(str(tmp_path / "file"))
    assert "gone does not exist" in line(str(tmp_path / "gone"), "--repair")
    assert not (tmp_path / "gone").exists()
    with FolderLock(run).holding():
        said = line(str(run))
    assert f"{run} is in use by another run (process {os.getpid()} on " in said


def test_other_runs_are_checked_without_their_engine(tmp_path: Path) -> None:
    """A run of an earlier version: no head in the ledger, so results.json cannot be written."""
    make_run(tmp_path, rounds=1)
    (tmp_path / "results.json").unlink()
    assert cli.main(["check", str(tmp_path), "--repair"]) == 1
    assert not (tmp_path / "results.json").exists()


# What a damaged work dir makes a run say. One line that names the file.


def text(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content) and None


def sql(statement: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        db = sqlite3.connect(run / "ledger.sqlite")
        with db:
            db.execute(statement)
        db.close()

    return change


def middle(run: Path) -> None:
    """Pages in the middle of the ledger are lost."""
    path = run / "ledger.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "no database",
        text("ledger.sqlite", b"no database" * 99),
        r"ledger\.sqlite is not a read",
    ),
    ("empty ledger", text("ledger.sqlite", b""), r"ledger\.sqlite is not a read"),
    ("lost pages", middle, r"ledger\.sqlite"),
    ("no table", sql("DROP TABLE stages"), r"ledger\.sqlite.*no such table: stages"),
    ("no JSON", sql("UPDATE stages SET payload = 'x'"), r"ledger\.sqlite is damaged"),
    ("results cut", text("results.json", b'{"format": 1'), r"results\.json is damaged"),
    ("results of bytes", text("results.json", b"\xff\x00"), r"results\.json is damaged"),
    ("query cut", text("rounds/000/query/query.json", b"{"), r"query is damaged: query\.json"),
    ("query a list", text("rounds/000/query/query.json", b"[]"), r"query is damaged: query\.json"),
    ("picks empty", text("rounds/001/query/picks.npy", b""), r"query is damaged: picks\.npy"),
    ("picks no array", text("rounds/001/query/picks.npy", b"PK\x03\x04"), r"picks\.npy"),
    ("label cut", text("labels/train_0000.png", b"\x89PNG"), r"train_0000\.png is damaged"),
]


@pytest.mark.parametrize(
    ("damage", "match"), [d[1:] for d in DAMAGE], ids=[d[0].replace(" ", "-") for d in DAMAGE]
)
def test_a_damaged_file_is_one_line(
    damage: Callable[[Path], None],
    match: str,
    data: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run)
    with pytest.raises(RegionalALError, match=match) as caught:
        start(data, run, rounds=2)
    assert "\n" not in str(caught.value)
    capsys.readouterr()
    assert cli.main(["check", str(run)]) == 1
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_a_ledger_that_breaks_while_a_run_goes_on_is_one_line(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: SQLite itself says so, at its limit of pages."""
    connect = sqlite3.connect

    def small(*args: object, **more: object) -> sqlite3.Connection:
        db = connect(*args, **more)  # type: ignore[call-overload]
        db.execute("PRAGMA max_page_count = 1")  # as large as it is already
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    with Ledger.open(run) as ledger, pytest.raises(RegionalALError) as caught:
        ledger.note("much", {"text": "x" * 100000})
    line = f"{run / 'ledger.sqlite'}: database or disk is full; free some space, then resume"
    assert str(caught.value) == line


def test_a_full_disk_names_the_label_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RegionalALError, match=r"rounds/000/query cannot be written: No space left"):
        start(data, tmp_path / "run")


def test_a_query_that_breaks_while_a_run_goes_on_is_one_line(run: Path) -> None:
    folder = WorkDir(run).query(0)
    path = folder / "asked" / "train_0000.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RegionalALError, match=r"train_0000\.png cannot be read"):
        read_query(folder).asked("train_0000")


def test_a_file_as_work_dir_is_one_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegionalALError, match=r"file is not a folder: choose another"):
        start(data, tmp_path / "file")
