"""A data set, loader, backbone, head and heuristic that nobody here knows, by `custom_imports`."""

from __future__ import annotations

import sys
from pathlib import Path

import foreign
import pytest
from mmseg_tiny import Tiny

from regional_al import engines
from regional_al.errors import DataError
from regional_al.loop import runner
from regional_al.report.html import write_report
from regional_al.store import results
from regional_al.store.labels import LabelStore


def test_five_bands_and_everything_of_ones_own(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_config(tmp_path, foreign.write(tmp_path, tiny.name))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert runner.run_training(tmp_path / "tiny.py", tmp_path / "run", report=False) == 0
    found = results.load(tmp_path / "run")
    assert [record.round for record in found.records] == [0, 1]
    assert found.records[1].costs.pixels > found.records[0].costs.pixels > 0
    assert found.records[1].miou is not None
    assert LabelStore(tmp_path / "run" / "labels").keys()[0].startswith("town/")
    page = write_report(tmp_path / "run").read_text()
    assert page.count("data:image/png") > 3  # the images are shown

    loaded = engines.load(tmp_path / "tiny.py", {}, tmp_path / "again")
    image = sorted((tmp_path / "img" / "train").rglob("*.npy"))[0]
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(DataError, match=rf"{image} cannot be read as an NPY file"):
        loaded.build()
    assert sys.modules[foreign.MODULE].__file__ == str(tmp_path / f"{foreign.MODULE}.py")
