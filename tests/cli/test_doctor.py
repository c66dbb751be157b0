"""`regional-al doctor`: hand-made environments, and the one that the tests run in."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT

from regional_al.cli import doctor, families
from regional_al.cli.doctor import Facts, Package, Problem, diagnose, engine_of, version
from regional_al.engines.mmseg1 import ops
from regional_al.engines.mmseg1.packages import EXTRA, commands

ALL = {name: "1.0" for name in doctor.OTHERS if name not in ("torch-scatter", "torchvision")}
FORKS = Facts(
    torch="2.13.0+cpu",
    numpy="2.4.6",
    mmcv=Package("2.3.6", ("onedl-mmcv",)),
    mmengine=Package("0.10.12", ("onedl-mmengine",)),
    mmseg=Package("1.4.2", ("onedl-mmsegmentation",)),
    others=ALL,
)
OFFICIAL = dataclasses.replace(
    FORKS,
    mmcv=Package("2.1.0", ("mmcv",)),
    mmengine=Package("0.10.7", ("mmengine",)),
    mmseg=Package("1.2.2", ("mmsegmentation",)),
)
OLD = Facts(
    torch="2.1.2",
    numpy="1.26.4",
    mmcv=Package("1.7.2", ("mmcv-full",)),
    mmseg=Package("0.30.0", ("mmsegmentation",)),
    mmcv_ops=True,
    others={**ALL, "torchvision": "0.16.2", "yapf": "0.40.1"},
)
NMS = "RuntimeError: operator torchvision::nms does not exist"
SYMBOL = "OSError: /site/mmcv/_ext.so: undefined symbol: _ZN3c106detail14torchCheckFail"


@pytest.mark.parametrize("good", [FORKS, OFFICIAL, OLD])
def test_an_environment_that_fits_has_no_problem(good: Facts) -> None:
    assert diagnose(good) == []


def without(found: Facts, *names: str) -> dict[str, str | None]:
    return {name: None if name in names else v for name, v in found.others.items()}


CASES = {
    "old python": (FORKS, {"python": (3, 9, 2)}, "Python 3.9.2 is older", "python3.11 -m venv"),
    "no torch": (FORKS, {"torch": None}, "torch is missing", "pip install torch==2.13.0"),
    "no mm*": (
        FORKS,
        {"mmcv": Package(), "mmengine": Package(), "mmseg": Package()},
        "MMSegmentation is not installed",
        "onedl-mmcv==2.3.6 onedl-mmengine==0.10.12 onedl-mmsegmentation==1.4.2",
    ),
    "no mmcv": (
        FORKS,
        {"mmcv": Package()},
        "mmcv is missing, but mmseg 1.4.2 and",
        "pip install onedl-mmcv==2.3.6",
    ),
    "no official mmcv": (
        OFFICIAL,
        {"mmcv": Package()},
        "mmcv is missing, but mmseg 1.2.2 and",
        "pip install mmcv==2.1.0",
    ),
    "no mmengine": (
        FORKS,
        {"mmengine": Package()},
        "mmengine is missing",
        "pip install onedl-mmengine==0.10.12",
    ),
    "mmcv too new": (
        OFFICIAL,
        {"mmcv": Package("2.2.0", ("mmcv",))},
        "mmseg 1.2.2 does not accept mmcv 2.2.0",
        "pip uninstall -y mmcv && pip install mmcv==2.1.0",
    ),
    "mmcv too old": (
        OFFICIAL,
        {"mmcv": Package("1.7.2", ("mmcv-full",))},
        "mmseg 1.2.2 needs mmcv 2, but mmcv 1.7.2 is installed",
        "pip uninstall -y mmcv-full && pip install mmcv==2.1.0",
    ),
    "two mmcv": (
        FORKS,
        {"mmcv": Package("2.3.6", ("onedl-mmcv", "mmcv"))},
        "overwriting each other: onedl-mmcv mmcv",
        "pip uninstall -y onedl-mmcv mmcv && pip install onedl-mmcv==2.3.6",
    ),
    "no ftfy": (
        FORKS,
        {"others": without(FORKS, "ftfy")},
        "needs ftfy, which it does not install",
        "pip install ftfy",
    ),
    "no libGL": (
        FORKS,
        {"cv2_error": "ImportError: libGL.so.1: cannot open shared object file"},
        "OpenCV, which mmcv needs, cannot be imported",
        "pip uninstall -y opencv-python && pip install opencv-python-headless",
    ),
    "torchvision of another build": (
        FORKS,
        {"torchvision_error": NMS, "others": {**ALL, "torchvision": "0.28.0"}},
        "torchvision 0.28.0 does not fit torch 2.13.0+cpu (RuntimeError: operator torchvision::nms",
        "pip install --force-reinstall --no-deps torchvision==0.28.0 --index-url "
        "https://download.pytorch.org/whl/cpu",
    ),
    "torchvision of another torch": (
        FORKS,
        {
            "torch": "2.12.1",
            "torchvision_error": NMS,
            "others": {**ALL, "torchvision": "0.28.0"},
        },
        "torchvision 0.28.0 does not fit torch 2.12.1",
        "pip install --force-reinstall --no-deps torchvision==0.27.1",
    ),
    "torchvision of another build beside mmseg 0.x": (
        OLD,
        {"torchvision_error": NMS},
        "torchvision 0.16.2 does not fit torch 2.1.2",
        "pip install --force-reinstall --no-deps torchvision==0.16.2",
    ),
    "broken": (
        FORKS,
        {"import_error": "ImportError: no name 'x'"},
        "mmseg cannot be imported: ImportError",
        "pip uninstall -y onedl-mmcv onedl-mmengine onedl-mmsegmentation && pip install onedl-",
    ),
    "numpy 2 beside old torch": (
        OLD,
        {"numpy": "2.1.0"},
        "torch 2.1.2 was built for numpy 1",
        "pip install 'numpy<2'",
    ),
    "numpy 2 beside mmseg 0.x": (
        OLD,
        {"numpy": "2.1.0", "torch": "2.4.1", "others": {**OLD.others, "torchvision": "0.19.1"}},
        "numpy 2.1.0 removed names",
        "pip install 'numpy<2'",
    ),
    "mmcv-full without ops": (
        OLD,
        {"mmcv_ops": False},
        "without its compiled ops (mmcv._ext)",
        "MMCV_WITH_OPS=1 pip install",
    ),
    "no torchvision": (
        OLD,
        {"others": without(OLD, "torchvision")},
        "torchvision is missing; mmcv 1.x imports it",
        "pip install torchvision==0.16.2",
    ),
    "another torchvision": (
        OLD,
        {"others": {**OLD.others, "torchvision": "0.15.2+cu118"}},
        "torchvision 0.15.2+cu118 does not match torch 2.1.2",
        "pip install torchvision==0.16.2",
    ),
    "setuptools without pkg_resources": (
        OLD,
        {
            "build_tools_error": "ModuleNotFoundError: No module named 'pkg_resources'",
            "others": {**OLD.others, "setuptools": "84.2.1"},
        },
        "setuptools 84.2.1 does not work with the build tools of torch 2.1.2",
        "pip install 'setuptools<60'",
    ),
    "yapf too new": (
        OLD,
        {"others": {**OLD.others, "yapf": "0.43.0"}},
        "yapf 0.43.0 removed",
        "pip install 'yapf<=0.40.1'",
    ),
    "mmcv-full of another torch": (
        OLD,
        {"mmcv_ops_error": SYMBOL},
        "mmcv._ext was not built for torch 2.1.2 (OSError",
        "--no-build-isolation --no-cache-dir --force-reinstall --no-deps mmcv-full==1.7.2",
    ),
    "official mmcv of another torch": (
        OFFICIAL,
        {"mmcv_ops": True, "mmcv_ops_error": SYMBOL},
        "mmcv._ext was not built for torch 2.13.0+cpu",
        "pip install --force-reinstall --no-deps --no-cache-dir mmcv==2.1.0",
    ),
    "no mmcv-full": (
        OLD,
        {"mmcv": Package(), "mmcv_ops": False},
        "mmcv is missing, but mmseg 0.30.0 is installed",
        "MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir mmcv-full==1.7.2",
    ),
    "mmcv beside mmcv-full": (
        OLD,
        {"mmcv": Package("1.7.2", ("mmcv", "mmcv-full"))},
        "overwriting each other: mmcv mmcv-full",
        "pip uninstall -y mmcv mmcv-full && pip install 'setuptools<60'",
    ),
    "OpenCV beside numpy 1": (
        OLD,
        {"cv2_error": "ImportError: numpy.core.multiarray failed to import"},
        "OpenCV, which mmcv needs, cannot be imported",
        "pip install --force-reinstall --no-deps 'opencv-python-headless<4.12'",
    ),
    "broken mmseg 0.x": (
        OLD,
        {"import_error": "AssertionError: MMCV==1.7.2 is used but incompatible"},
        "mmseg cannot be imported: AssertionError",
        "make env-mmseg0",
    ),
    "mmcv 2 beside mmseg 0.x": (
        OLD,
        {"mmcv": Package("2.1.0", ("mmcv",))},
        "mmseg 0.30.0 needs mmcv-full 1.x, not mmcv 2.1.0",
        "pip uninstall -y mmcv && pip install 'setuptools<60' 'wheel<0.43' ninja && MMCV_",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_stops_the_engine_has_one_cause_and_one_command(case: str) -> None:
    base, change, cause, fix = CASES[case]
    problems = diagnose(dataclasses.replace(base, **change))  # type: ignore[arg-type]
    assert len(problems) == 1, problems
    assert cause in problems[0].cause
    assert fix in problems[0].fix
    assert problems[0].fatal
    assert "\n" not in problems[0].cause + problems[0].fix


NOTES = {
    "no numba": (
        {"others": without(FORKS, "numba")},
        "numba is not installed",
        "pip install numba",
    ),
    "no skimage": (
        {"others": without(FORKS, "scikit-image")},
        "scikit-image is not installed",
        "pip install scikit-image",
    ),
    "no report": (
        {"others": without(FORKS, "matplotlib", "jinja2")},
        "matplotlib and jinja2 are not installed",
        "pip install matplotlib jinja2",
    ),
    "no triton on a GPU": (
        {"others": without(FORKS, "triton"), "cuda_devices": 1},
        "triton is not installed",
        "pip install triton",
    ),
    "a container's shared memory": (
        {"shared_memory": 64 << 20},
        "/dev/shm has 64 MiB free, less than the 160 MiB",
        "docker run --shm-size=1g",
    ),
    "torch_scatter of another torch": (
        {"others": {**ALL, "torch-scatter": "2.1.2"}, "torch_scatter_error": "undefined symbol"},
        "was not built for torch 2.13.0+cpu (undefined symbol)",
        "--no-build-isolation torch-scatter",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_is_optional_is_a_note(case: str) -> None:
    change, cause, fix = NOTES[case]
    (problem,) = diagnose(dataclasses.replace(FORKS, **change))  # type: ignore[arg-type]
    assert not problem.fatal
    assert cause in problem.cause
    assert fix in problem.fix


def test_a_cpu_machine_does_not_miss_triton() -> None:
    assert diagnose(dataclasses.replace(FORKS, others=without(FORKS, "triton"))) == []


@pytest.mark.parametrize("found", [None, 160 << 20, 24 << 30])
def test_enough_shared_memory_is_no_problem(found: int | None) -> None:
    facts = dataclasses.replace(FORKS, shared_memory=found)
    assert diagnose(facts) == []
    assert any(name == "/dev/shm" for name, _ in facts.table()) == (found is not None)


def test_a_named_cause_is_not_repeated_as_an_import_error() -> None:
    found = dataclasses.replace(FORKS, mmcv=Package(), import_error="No module named 'mmcv'")
    assert [p.cause for p in diagnose(found)] == [
        "mmcv is missing, but mmseg 1.4.2 and mmengine 0.10.12 are installed"
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2.13.0+cpu", (2, 13, 0)),
        ("2.0.0rc4", (2, 0, 0)),
        ("1.7", (1, 7)),
        ("0.10.12.dev1", (0, 10, 12)),
        (None, ()),
    ],
)
def test_version(text: str | None, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


def test_the_engine_follows_what_is_installed() -> None:
    assert engine_of(FORKS) == engine_of(OFFICIAL) == engine_of(Facts()) == "mmseg1"
    assert engine_of(OLD) == "mmseg0"
    only_mmcv = dataclasses.replace(OLD, mmseg=Package())
    assert engine_of(only_mmcv) == "mmseg0"
    assert "mmseg is missing, but mmcv 1.7.2 is installed" in diagnose(only_mmcv)[0].cause


def test_run_prints_the_table_and_the_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "find", lambda: dataclasses.replace(FORKS, mmcv=Package()))
    assert doctor.run() == 1
    out = capsys.readouterr().out
    assert "mmseg          1.4.2  (fork: onedl-mmsegmentation)" in out
    assert "problem: mmcv is missing, but mmseg" in out
    assert "    pip install onedl-mmcv==2.3.6" in out
    assert out.endswith("engine mmseg1: does not work\n")
    slow = dataclasses.replace(FORKS, others=without(FORKS, "numba"))
    monkeypatch.setattr(doctor, "find", lambda: slow)
    assert doctor.run() == 0
    out = capsys.readouterr().out
    assert "note: numba is not installed" in out
    assert out.endswith("engine mmseg1: works\n")


def test_a_library_of_another_torch_is_told_from_a_broken_package(tmp_path: Path) -> None:
    broken = tmp_path / "_ext.cpython-311.so"
    broken.write_bytes(b"")
    assert "file too short" in str(doctor._load_error(broken))
    assert doctor._load_error(Path(torch.__file__).parent / "lib" / "libc10.so") is None


def test_the_compiled_part_is_found_without_importing_mmcv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mmcv", raising=False)
    assert doctor._ops_library() is None
    library = tmp_path / "mmcv" / "_ext.cpython-311-x86_64-linux-gnu.so"
    library.write_bytes(b"")
    assert doctor._ops_library() == library


@pytest.mark.slow
@pytest.mark.mmseg0
def test_a_setuptools_without_pkg_resources_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer ones have none: a stand-in that cannot be imported hides the one that is there."""
    gone = "ModuleNotFoundError: No module named 'pkg_resources'"
    (tmp_path / "pkg_resources.py").write_text('import sys; sys.exit("' + gone + '")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (problem,) = [p for p in diagnose(doctor.find()) if p.fatal]
    assert gone in problem.cause
    assert problem.fix == "pip install 'setuptools<60'"


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("mmseg1", marks=pytest.mark.mmseg1),
        pytest.param("mmseg0", marks=pytest.mark.mmseg0),
    ],
)
def test_the_environment_of_the_tests_works(engine: str) -> None:
    found = doctor.find()
    assert found.torch is not None
    assert found.mmseg.version is not None
    assert engine_of(found) == engine
    assert found.mmcv_ops or engine == "mmseg1"
    assert found.mmcv_ops_error is None
    fatal: list[Problem] = [p for p in diagnose(found) if p.fatal]
    assert fatal == []
    assert doctor._import_error("no_such_module") == (
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert doctor._import_error("json") is None


def test_families_of_further_packages() -> None:
    """What can run is said, and otherwise what to install, by the packages' own imports."""
    found = {"mmdet": None, "mmpretrain": "ModuleNotFoundError: No module named 'torchvision'"}
    told = dict(dataclasses.replace(FORKS, families=found).table())
    assert told["maskformer, mask2former"] == "can run (mmdet)"
    assert told["convnext, poolformer"].startswith(
        "need mmpretrain, which cannot be imported (ModuleNotFoundError: No module named "
        "'torchvision'): pip install onedl-mmpretrain==1.3.6 'torchvision==0.28.*'"
    )
    absent = dataclasses.replace(OFFICIAL, families=dict.fromkeys(found, families.ABSENT))
    assert dict(absent.table())["maskformer, mask2former"].startswith(
        "need mmdet, which is not installed: pip install mmdet==3.3.0"
    )


def test_families_are_tried_by_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("mmdet", ""), ("mmpretrain", "import not_installed_here")):
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "models" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ops, "stand_in", lambda: None)

    def failure(code: str) -> str | None:
        try:
            exec(code, {})
        except ImportError as error:
            return str(error)
        return None

    found = families.find(failure)
    assert found == {"mmdet": None, "mmpretrain": "No module named 'not_installed_here'"}
    for name in found:
        for module in (name, f"{name}.models"):
            sys.modules.pop(module, None)


def test_the_extra_holds_what_doctor_tells() -> None:
    tomllib = pytest.importorskip("tomllib")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    install = commands("2.13.0", forked=True)
    for one in told["optional-dependencies"][EXTRA][1:]:
        assert any(one in line for line in install.values()), one
