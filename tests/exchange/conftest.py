"""Data and a run that waits for answers, for the tests of whole exchanges."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from exchange_run import TWIN, start

from regional_al.store.images import read_ids, write_png
from regional_al.testing import streets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two sizes and with names that tools do not like."""
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=3, val=1, size=(40, 56), seed=3)
    small = streets.generate(root.with_name("small"), train=2, val=1, size=(33, 47), seed=4)
    for old, new in (("train_0000", "Straße 車 (1)"), ("train_0001", "0123456789ab")):
        for kind in ("images", "annotations"):
            (file,) = (small / kind / "train").glob(f"{old}.*")
            shutil.copy(file, root / kind / "train" / f"{new}{file.suffix}")
    return root


@pytest.fixture(scope="module")
def raw_data(data: Path) -> Path:
    """The same with ids from 1, and TWIN in every other column of class 0."""
    root = data.with_name("raw")
    shutil.copytree(data, root)
    for path in (root / "annotations").rglob("*.png"):
        ids = read_ids(path)
        ids = np.where(ids == 255, 255, ids + 1)
        ids[:, ::2][ids[:, ::2] == 1] = TWIN
        write_png(path, ids.astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def waiting(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits for the answers of round 0. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("waiting") / "run"
    assert start(data, folder).status == "waiting"
    return folder


@pytest.fixture
def run(waiting: Path, tmp_path: Path) -> Path:
    shutil.copytree(waiting, tmp_path / "run")
    return tmp_path / "run"
