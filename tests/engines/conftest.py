"""The generations of MMSegmentation that one suite runs on; see helpers/mmseg_tiny.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmseg0_tiny
import mmseg1_tiny
import pytest
from mmseg_tiny import Tiny, fit_once, label_some, make_data, make_engine

from regional_al.store.labels import LabelStore


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(mmseg1_tiny.TINY, marks=pytest.mark.mmseg1, id="mmseg1"),
        pytest.param(mmseg0_tiny.TINY, marks=pytest.mark.mmseg0, id="mmseg0"),
    ],
)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """What the tests need of a generation; only the one that is installed runs."""
    found: Tiny = request.param
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """A folder with the tiny data set and its config."""
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    tiny.write_config(folder)
    return folder


@pytest.fixture(scope="module")
def engine(root: Path) -> Any:
    """The engine of the tiny config."""
    return make_engine(root)


@pytest.fixture(scope="module")
def store(root: Path, engine: Any) -> LabelStore:
    """Labels on three of the five images."""
    store = LabelStore(root / "labels")
    label_some(store, engine, 3)
    return store


@pytest.fixture(scope="module")
def trained(root: Path, engine: Any) -> Path:
    """The checkpoint of a training on four images."""
    store = LabelStore(root / "labels_of_trained")
    label_some(store, engine, 4)
    found: Path = fit_once(engine, store, root / "trained").checkpoint
    return found
