"""tools/compiled_wheels.py: what a wheel is kept by, CPU or CUDA, and that none is half-written or
of another torch. The compiles themselves are stood in for by pure Python packages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from paths import ROOT

SCRIPT = ROOT / "tools" / "compiled_wheels.py"
UNDEFINED = "ImportError: _ext.so: undefined symbol: _ZN3c10"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compiled_wheels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compiled_wheels"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_wheels_of_another_torch_python_or_kind_lie_elsewhere(tool: ModuleType) -> None:
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    cpu = tool.key("2.1.2+cu121", None)
    assert cpu.startswith(f"{python}-torch2.1.2-cpu-")
    assert cpu == tool.key("2.1.2+cpu", None) == tool.key("2.1.2", None)
    assert tool.key("2.1.2", "12.1").startswith(f"{python}-torch2.1.2-cu121-")
    assert len({cpu, tool.key("2.1.1", None), tool.key("2.1.2", "11.8")}) == 3
    assert "/" not in cpu


NVCC_12 = "Cuda compilation tools, release 12.4, V12.4.131"
NVCC_13 = "Cuda compilation tools, release 13.0, V13.0.88"


@pytest.mark.parametrize(
    ("gpus", "built_for", "nvcc", "force", "expected"),
    [
        (0, "12.1", None, None, None),
        (0, "12.1", NVCC_12, None, None),  # a toolkit without a GPU
        (1, "12.1", NVCC_12, None, "12.1"),
        (1, "12.1", NVCC_13, None, None),  # torch refuses another major version
        (1, "12.1", None, None, None),
        (1, None, NVCC_12, None, None),  # torch for the CPU
        (1, "12.1", NVCC_12, "0", None),
        (0, "12.1", NVCC_12, "1", "12.1"),
    ],
)
def test_cuda_is_compiled_for_where_it_can_be(
    tool: ModuleType, gpus: int, built_for: str, nvcc: str, force: str, expected: str
) -> None:
    assert tool.cuda_of(gpus, built_for, nvcc, force) == expected


@pytest.mark.parametrize(("nvcc", "have"), [(None, "there is no nvcc"), (NVCC_13, "of CUDA 13")])
def test_cuda_that_cannot_be_forced(tool: ModuleType, nvcc: str | None, have: str) -> None:
    with pytest.raises(tool.BuildError, match=f"torch is for CUDA 12.1 and .*{have}"):
        tool.cuda_of(0, "12.1", nvcc, "1")


def test_a_cpu_build_sees_no_gpu(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAX_JOBS", raising=False)
    chosen = tool.environment(None, cores=64, gib=33.0)
    assert chosen["CUDA_VISIBLE_DEVICES"] == ""
    assert (chosen["FORCE_CUDA"], chosen["MMCV_WITH_OPS"]) == ("0", "1")
    assert chosen["MAX_JOBS"] == "16"  # two GiB for each compiler
    assert tool.environment(None, cores=2, gib=0.5)["MAX_JOBS"] == "1"
    with_cuda = tool.environment("12.1", cores=2, gib=16.0)
    assert with_cuda["FORCE_CUDA"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in with_cuda
    monkeypatch.setenv("MAX_JOBS", "7")
    assert tool.environment(None, cores=2, gib=16.0)["MAX_JOBS"] == "7"


def write_wheel(folder: Path, body: str, name: str = "made_up-1.0-cp311-cp311-any.whl") -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("made_up/__init__.py", "")
        archive.writestr("made_up/_ext.py", body)
    return folder / name


@pytest.fixture
def package(tool: ModuleType) -> Any:
    return tool.Package("made-up", "1.0", "import made_up._ext")


@pytest.fixture
def builds(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the stand-in of the compile writes, from the end of the list; empty: a failure."""
    bodies: list[str] = []

    def build(package: Any, folder: Path, log: Path, variables: Any) -> None:
        if not bodies:
            raise tool.BuildError("did not compile")
        write_wheel(folder, bodies.pop())

    monkeypatch.setattr(tool, "build", build)
    monkeypatch.setattr(tool, "check_compiler", lambda package: None)
    return bodies


def test_compiled_once_and_kept(
    tool: ModuleType, package: Any, builds: list[str], tmp_path: Path
) -> None:
    builds.append("x = 1")
    wheel = tool.provide(package, tmp_path, {})
    assert wheel.parent == tmp_path
    assert tool.provide(package, tmp_path, {}) == wheel  # a second build would fail
    assert [file.name for file in tmp_path.iterdir()] == [wheel.name]


@pytest.mark.parametrize("content", [f"raise {UNDEFINED!r}", None])
def test_a_kept_wheel_that_does_not_import_is_built_again(
    tool: ModuleType,
    package: Any,
    builds: list[str],
    tmp_path: Path,
    content: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wheel = write_wheel(tmp_path, "raise ImportError('undefined symbol')" if content else "")
    if content is None:
        wheel.write_bytes(b"half a wheel")
    builds.append("x = 2")
    assert tool.import_error(tool.provide(package, tmp_path, {}), package.proof) is None
    said = capsys.readouterr().out
    assert ("undefined symbol" if content else "not a zip file") in said
    assert "building it again" in said


def test_a_build_that_fails_or_does_not_import_leaves_nothing(
    tool: ModuleType, package: Any, builds: list[str], tmp_path: Path
) -> None:
    with pytest.raises(tool.BuildError, match="did not compile"):
        tool.provide(package, tmp_path, {})
    builds.append("raise ImportError('undefined symbol')")
    with pytest.raises(tool.BuildError, match=r"does not import: ImportError: undefined symbol"):
        tool.provide(package, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_compiler_is_told_what_to_install(
    tool: ModuleType, package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-g++"))
    with pytest.raises(tool.BuildError, match="apt-get install g"):
        tool.provide(package, tmp_path, {})


def test_what_a_killed_build_left_is_swept(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "key" / ".build-abc").mkdir(parents=True)
    (tmp_path / "key" / ".build-abc" / "half.whl").write_text("")
    with tool.held(tmp_path / "key"):
        assert [file.name for file in (tmp_path / "key").iterdir()] == [".lock"]


def test_two_builders_take_turns(tool: ModuleType, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import compiled_wheels, pathlib\n"
        f"with compiled_wheels.held(pathlib.Path({str(tmp_path)!r})): print('mine', flush=True)"
    )
    with tool.held(tmp_path):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert "waiting" in other.stdout.readline()
        time.sleep(0.2)
        assert other.poll() is None
    out, _ = other.communicate(timeout=60)
    assert out == "mine\n"


def test_progress_is_said_and_everything_is_logged(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["running build\n", "  [12/130] g++ -c ...\n", "note\n"]
    tool.follow(lines, tmp_path / "log", time.monotonic(), every=0.0)
    assert (tmp_path / "log").read_text() == "".join(lines)
    assert capsys.readouterr().out.count("log: 0 min, file 12 of 130\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize("works", [True, False])
def test_pip_builds_a_wheel_or_its_words_are_shown(
    tool: ModuleType, tmp_path: Path, works: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    source, house = tmp_path / "source", tmp_path / "house"
    (source / "made_up").mkdir(parents=True)
    house.mkdir()
    (source / "made_up" / "__init__.py").write_text("")
    (source / "made_up" / "_ext.py").write_text("")
    setup = "import setuptools as s; s.setup(name='made-up', version='1.0', packages=['made_up'])"
    fault = "raise SystemExit('a.h:1: error: no such header')"
    (source / "setup.py").write_text(setup if works else fault)
    package = tool.Package("made-up", "1.0", "import made_up._ext", source=str(source))
    run: Callable[[], Path] = lambda: tool.provide(package, house, {"MAX_JOBS": "1"})  # noqa: E731
    if works:
        assert run().name == "made_up-1.0-py3-none-any.whl"
        return
    with pytest.raises(tool.BuildError, match="did not compile"):
        run()
    assert "no such header" in capsys.readouterr().out
    assert [file.name for file in house.iterdir()] == ["made-up.log"]
    assert "no such header" in (house / "made-up.log").read_text()
