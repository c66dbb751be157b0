"""tools/matrix.py: which tests are the core, and what a cell is made of."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "tools" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_core_tests_exist(matrix: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["--list"]) == 0
    names = capsys.readouterr().out.split()
    assert names == list(matrix.CORE)
    assert all((ROOT / name).exists() for name in names)


def test_the_workflow_tries_every_cell(matrix: ModuleType) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    (listed,) = re.findall(r"python: \[([^\]]+)\]", text)
    (torch,) = set(re.findall(r"matrix\.python \}\}:([\d.]+)", text))
    assert [f"{v}:{torch}" for v in re.findall(r"[\d.]+", listed)] == list(matrix.CELLS)


def test_old_torch_gets_numpy_1(matrix: ModuleType) -> None:
    def built(torch: str, index: str | None = None) -> list[str]:
        return [" ".join(c) for c in matrix.commands("py", Path("e"), torch, index)]

    venv, wheel, rest = built("2.1.2", "https://x")
    assert venv == "py -m venv e"
    assert wheel.endswith("torch==2.1.2 --index-url https://x")
    assert "numpy<2 -e .[test]" in rest
    assert "numpy<2" not in built("2.13.0")[2]


def test_a_python_that_is_not_there_is_skipped(matrix: ModuleType, tmp_path: Path) -> None:
    assert matrix.run("3.99:2.13.0", tmp_path, None) == "skipped: python3.99 is not installed"
    assert matrix.run("3.11", tmp_path, None).startswith("failed: give PYTHON:TORCH")
