"""What the wheel contains: the package, its templates and pages, the configs and the scripts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

BACKEND = "hatchling"
BUILD = f"import sys; from {BACKEND} import build; print(build.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, built without isolation."""
    if importlib.util.find_spec(BACKEND) is None:
        pytest.skip(f"the build backend {BACKEND} is not installed (extra `test`)")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def tracked(folder: str) -> set[str]:
    """Files of a folder of the repository, relative to it, without what tools leave there."""
    found = (ROOT / folder).rglob("*")
    return {
        path.relative_to(ROOT / folder).as_posix()
        for path in found
        if path.is_file() and not {"__pycache__", ".ruff_cache"} & set(path.parts)
    }


def test_the_wheel_has_the_package_the_configs_and_the_scripts(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = {f"regional_al/{name}" for name in tracked("src/regional_al")}
    wanted |= {f"regional_al/configs/{name}" for name in tracked("configs")}
    wanted |= {f"regional_al/tools/{path.name}" for path in (ROOT / "tools").glob("*_train.sh")}
    assert names == wanted
    for name in ("report/templates/report.html.j2", "web/static/app.js", "py.typed"):
        assert f"regional_al/{name}" in names


def test_an_unpacked_wheel_finds_its_configs_and_commands(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import regional_al, regional_al.shipped as s; from regional_al.cli import build_parser\n"
        "build_parser(); print(regional_al.__version__, s.config('streets/region_ripu_slic.py'))\n"
        "print(s.folder('tools') / 'dist_train.sh')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    inside = tmp_path / "site/regional_al"
    version, config, script = done.stdout.split()
    assert f"-{version}-py3" in wheel.name
    assert Path(config) == inside / "configs/streets/region_ripu_slic.py"
    assert Path(script) == inside / "tools/dist_train.sh"
    assert Path(script).is_file()


def test_the_metadata_names_command_licence_and_readme(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    text = {Path(n).name: n for n in archive.namelist() if ".dist-info/" in n}
    assert b"regional-al = regional_al.cli:entry" in archive.read(text["entry_points.txt"])
    metadata = archive.read(text["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Provides-Extra: mmseg1" in metadata
    assert "regional-al demo" in metadata  # of the README
