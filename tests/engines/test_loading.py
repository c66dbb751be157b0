"""Which engine serves a config, from its own keys and from what is installed. Needs no mm*."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from regional_al import engines
from regional_al.errors import ConfigError, EnvironmentProblem

SOURCE = Path("mine.py")


@pytest.mark.parametrize(
    ("cfg", "name"),
    [
        ({"train_dataloader": {}, "train_cfg": {}}, "mmseg1"),
        ({"data": {"samples_per_gpu": 2}, "runner": {}}, "mmseg0"),
        ({"data": {"samples_per_gpu": 2}, "total_iters": 9}, "mmseg0"),
        ({"runner": {}}, "mmseg0"),
        ({"data": {}, "train_dataloader": {}, "train_cfg": {}}, "mmseg1"),
        ({"engine": "mmseg0", "train_dataloader": {}, "train_cfg": {}}, "mmseg0"),
        ({"engine": "torch"}, "torch"),
    ],
)
def test_dialect(cfg: dict[str, Any], name: str) -> None:
    assert engines.dialect(cfg, SOURCE) == name


@pytest.mark.parametrize("cfg", [{}, {"data": {}}, {"train_dataloader": {}}, {"engine": "mmseg"}])
def test_neither_dialect(cfg: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"mine\.py"):
        engines.dialect(cfg, SOURCE)


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (("mmcv/runner", "mmseg"), "mmseg0"),
        (("mmcv/runner", "mmengine"), "mmseg0"),
        (("mmcv", "mmengine"), "mmseg1"),
        (("mmengine",), "mmseg1"),
        ((), None),
    ],
)
def test_generation_without_importing(
    folders: tuple[str, ...], name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages in a folder of their own; an import of them would raise."""
    for package in ("mmcv", "mmengine", "mmseg"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder.split("/")[0] / "__init__.py").write_text("raise RuntimeError\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert engines.generation() == name


def test_nothing_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text("runner = dict()\n")
    monkeypatch.setattr(engines.loading, "generation", lambda: None)
    with pytest.raises(
        EnvironmentProblem, match=r"mine\.py.*make env-mmseg0.*\[mmseg1\]"
    ) as caught:
        engines.load(config)
    assert "\n" not in str(caught.value)
