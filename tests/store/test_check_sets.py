"""Class sets that are lost or changed are found when a run starts; what a kill leaves is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_run import play, small_data

from regional_al.errors import WorkDirError
from regional_al.store.check import check_run
from regional_al.store.label_maps import CLASSES
from regional_al.store.ledger import Ledger

SETS = {
    "level": "region",
    "heuristic": "Random",
    "region": {"type": "grid", "cell": 16},
    "budget": {"amount": 2, "unit": "region", "scope": "image"},
    "annotator": {"type": "oracle", "answer": "multiclass"},
    "warm_start": {"amount": 1, "unit": "region", "scope": "image"},
    "seed": 5,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=4)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("whole") / "run"
    play(data, work_dir, {**SETS, "rounds": 1})
    assert len(maps(work_dir)) == 4
    return work_dir


def maps(work_dir: Path) -> list[Path]:
    return sorted((work_dir / "labels" / CLASSES).rglob("*.png"))


def swap(files: list[Path]) -> None:
    files[0].write_bytes(files[1].read_bytes())


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda files: files[0].unlink(), "is missing since the run wrote it"),
        (lambda files: shutil.rmtree(files[0].parent), "is missing since the run wrote it"),
        (swap, "has changed since the run wrote it"),
    ],
)
def test_damage_is_found_before_anything_is_trained(
    data: Path,
    whole: Path,
    tmp_path: Path,
    damage: Callable[[list[Path]], object],
    said: str,
    thorough: bool,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    assert [f for f in check_run(run, thorough=thorough) if f.blocks] == []
    first = maps(run)[0]
    damage(maps(run))
    found = [str(f) for f in check_run(run, thorough=thorough) if f.blocks]
    assert found[0] == f"{first} {said}: restore it from a backup"
    with pytest.raises(WorkDirError, match=said):
        play(data, run, {**SETS, "rounds": 2})


def test_a_map_that_no_answer_has_made_is_named(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    new = maps(run)[0].with_name("other.png")
    shutil.copy(maps(run)[0], new)
    (found,) = [str(f) for f in check_run(run) if f.blocks]
    assert found == f"{new} is new since the run wrote it: restore it from a backup"


def test_what_a_kill_leaves_is_no_damage(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the files and the ledger, in both rounds; the run ends as the whole one."""
    run = tmp_path / "run"

    class Killed(BaseException):
        pass

    real, rounds = Ledger.record_answers, iter([0, 1])
    due = next(rounds)

    def dies(self: Ledger, round: int, rows: object) -> None:
        nonlocal due
        if round == due:
            due = next(rounds, -1)
            raise Killed
        real(self, round, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "record_answers", dies)
    for _ in range(2):
        with pytest.raises(Killed):
            play(data, run, {**SETS, "rounds": 1})
        assert [f for f in check_run(run, thorough=True) if f.blocks] == []
    play(data, run, {**SETS, "rounds": 1})
    assert [f.read_bytes() for f in maps(run)] == [f.read_bytes() for f in maps(whole)]
    assert [f for f in check_run(run, thorough=True) if f.blocks] == []
