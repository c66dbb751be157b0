"""Whether what data workers load ahead fits into /dev/shm."""

from __future__ import annotations

from pathlib import Path

import pytest

from regional_al.runtime.shared_memory import Load, free, processes, shortage

MIB = 1 << 20
TRAIN = Load("train_dataloader.num_workers", batch=20 * MIB, workers=4)
VALIDATION = Load("val_dataloader.num_workers", batch=6 * MIB, workers=4)


def test_what_a_loader_needs_is_batch_times_workers_times_prefetch() -> None:
    assert TRAIN.needed == 160 * MIB
    assert Load("k", batch=MIB, workers=3, prefetch=5).needed == 15 * MIB
    assert Load("k", batch=MIB, workers=0).needed == 0


def test_a_shortage_names_what_there_is_what_is_needed_and_both_fixes() -> None:
    text = shortage(64 * MIB, [[VALIDATION], [TRAIN]])
    assert text is not None
    assert "\n" not in text
    assert text.startswith("train_dataloader.num_workers=4: /dev/shm has 64 MiB free")
    assert "need about 160 MiB" in text
    assert "set train_dataloader.num_workers=0" in text
    assert "docker run --shm-size=1g" in text


def test_the_size_that_is_advised_is_large_enough() -> None:
    for batch in (1, 100, 300, 1000):
        load = Load("k", batch * MIB, workers=4)
        text = shortage(0, [[load]])
        assert text is not None
        advised = int(text.rpartition("--shm-size=")[2].rstrip("g")) << 30
        assert shortage(advised, [[load]]) is None


def test_what_just_fits_is_no_shortage() -> None:
    assert shortage(160 * MIB, [[TRAIN], [VALIDATION]]) is None
    assert shortage(160 * MIB - 1, [[TRAIN], [VALIDATION]]) is not None


def test_loaders_that_have_batches_at_the_same_time_are_added_up() -> None:
    both = [[TRAIN, VALIDATION], [VALIDATION]]
    assert shortage(208 * MIB, both) is None
    text = shortage(208 * MIB - 1, both)
    assert text is not None
    first, second = "train_dataloader.num_workers", "val_dataloader.num_workers"
    assert text.startswith(f"{first}=4 and {second}=4: /dev/shm has 207 MiB free")
    assert "for training, and for the validation within it, need about 208 MiB" in text
    assert f"set {first}=0 and {second}=0, or start" in text
    assert first in str(shortage(0, [[TRAIN, Load(second, MIB, 0)]]))
    assert second not in str(shortage(0, [[TRAIN, Load(second, MIB, 0)]]))


def test_processes_of_one_machine_share_its_memory() -> None:
    assert shortage(200 * MIB, [[TRAIN]]) is None
    assert "in 2 processes need about 320 MiB" in (shortage(200 * MIB, [[TRAIN]], 2) or "")


def test_nothing_is_said_without_workers_or_without_the_folder() -> None:
    assert shortage(0, []) is None
    assert shortage(0, [[Load("k", MIB, workers=0)]]) is None
    assert shortage(None, [[TRAIN]]) is None


def test_free_space_of_a_folder(tmp_path: Path) -> None:
    found = free(tmp_path)
    assert found is not None
    assert found > 0
    assert free(tmp_path / "none") is None


@pytest.mark.parametrize(("given", "count"), [(None, 1), ("4", 4), ("", 1), ("x", 1)])
def test_processes_of_this_machine(
    given: str | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if given is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", given)
    assert processes() == count
