"""1.x configs that inherit from mmseg itself; see test_mmseg_engine_preflight.py for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmseg")
from refusals import refused

from regional_al import engines
from regional_al.errors import ConfigError

pytestmark = pytest.mark.mmseg1


def test_a_base_that_mmseg_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("_base_ = 'mmseg::fcn/none.py'\n")
    refused(ConfigError, r"fcn/none\.py", lambda: engines.load(path))


def test_base_from_mmseg_and_options(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'\n"
        "acquisition = dict(level='pixel', budget=dict(amount='1%'))\n"
    )
    loaded = engines.load(path, {"acquisition.rounds": 3, "work_dir": "there"})
    assert loaded.name == "mmseg1"
    assert loaded.acquisition == {"level": "pixel", "budget": {"amount": "1%"}, "rounds": 3}
    assert type(loaded.acquisition["budget"]) is dict
    assert loaded.work_dir == Path("there")
