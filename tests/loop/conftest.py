"""Data of the loop's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from regional_al.testing import streets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=7, val=2, size=(40, 56), seed=3)
    return root
