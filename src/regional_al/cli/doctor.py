"""`regional-al doctor`: check the installation and suggest fixes.

`find` collects, mostly package metadata; `diagnose` judges (a pure function of the facts); `run`
prints. What only an import can tell is tried in a separate process, since a library built for
another ABI may crash it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime import shared_memory
from . import families

DISTRIBUTIONS = {
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-full", "mmcv-lite"),
    "mmengine": ("onedl-mmengine", "mmengine", "mmengine-lite"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
}
OTHERS = (
    "pillow",
    "rich",
    "numba",
    "scikit-image",
    "matplotlib",
    "jinja2",
    "triton",
    "torch-scatter",
    "torchvision",
    "ftfy",
    "regex",
    "setuptools",
    "yapf",
    "baal",
)


@dataclass(frozen=True)
class Package:
    """version None: not installed. distributions: names of the PyPI packages that provide it."""

    version: str | None = None
    distributions: tuple[str, ...] = ()

    @property
    def forked(self) -> bool:
        """From the maintained onedl-* forks."""
        return any(name.startswith("onedl-") for name in self.distributions)

    def __str__(self) -> str:
        if self.version is None:
            return "-"
        return f"{self.version}  ({'fork' if self.forked else 'official'}: " + (
            f"{', '.join(self.distributions)})"
        )


@dataclass(frozen=True)
class Facts:
    """What was found. *_error: last line of a failed import, None if it succeeds or the package is
    absent. others: version or None by distribution name (`OTHERS`). shared_memory: free bytes of
    /dev/shm, None where there is none. families: see `families.find`."""

    python: tuple[int, ...] = (3, 11, 0)
    torch: str | None = None
    numpy: str | None = None
    mmcv: Package = Package()
    mmengine: Package = Package()
    mmseg: Package = Package()
    mmcv_ops: bool = False
    mmcv_ops_error: str | None = None
    others: Mapping[str, str | None] = field(default_factory=dict)
    build_tools_error: str | None = None
    cuda_devices: int = 0
    cuda_build: str | None = None
    cv2_error: str | None = None
    torch_scatter_error: str | None = None
    torchvision_error: str | None = None
    import_error: str | None = None
    shared_memory: int | None = None
    families: Mapping[str, str | None] = field(default_factory=dict)

    def table(self) -> list[tuple[str, str]]:
        """(name, value) rows for people."""
        ops = "present" if self.mmcv_ops else ABSENT_OPS
        ops = "cannot be loaded" if self.mmcv_ops_error else ops
        cuda = f"{self.cuda_devices} device(s), torch built for {self.cuda_build or 'CPU only'}"
        rows = [("python", ".".join(map(str, self.python)))]
        rows += [("torch", self.torch or "-"), ("CUDA", cuda), ("numpy", self.numpy or "-")]
        rows += [("mmseg", str(self.mmseg)), ("mmcv", str(self.mmcv))]
        rows += [("mmcv._ext", ops if self.mmcv.version else "-")]
        rows += [("mmengine", str(self.mmengine))]
        if self.shared_memory is not None:
            rows += [("/dev/shm", f"{shared_memory.mib(self.shared_memory)} MiB free")]
        rows += [(name, self.others.get(name) or "-") for name in OTHERS]
        return [*rows, *families.rows(self.families, self.torch or "2.13", self.mmseg.forked)]


def find() -> Facts:
    """Inspect the environment of this interpreter; takes a few seconds (it imports torch)."""
    torch = _version("torch")
    mmseg, mmcv = _package("mmseg"), _package("mmcv")
    devices, build = _cuda() if torch else (0, None)
    others = {name: _version(name) for name in OTHERS}
    ops, old = _ops_library(), (mmcv.version or "").startswith("1.")
    new = torch and (mmseg.version or "").startswith("1.")
    return Facts(
        python=tuple(sys.version_info[:3]),
        torch=torch,
        numpy=_version("numpy"),
        mmcv=mmcv,
        mmengine=_package("mmengine"),
        mmseg=mmseg,
        mmcv_ops=ops is not None,
        mmcv_ops_error=_load_error(ops) if ops and torch else None,
        others=others,
        build_tools_error=_import_error("torch.utils.cpp_extension") if old and torch else None,
        cuda_devices=devices,
        cuda_build=build,
        cv2_error=_import_error("cv2") if mmcv.version else None,
        torch_scatter_error=_import_error("torch_scatter") if others["torch-scatter"] else None,
        torchvision_error=_import_error("torchvision") if others["torchvision"] else None,
        import_error=_import_error("mmseg.models") if mmseg.version else None,
        shared_memory=shared_memory.free(),
        families=families.find(_failure) if new else {},
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(module: str) -> Package:
    found = {name: _version(name) for name in DISTRIBUTIONS[module]}
    there = {name: version for name, version in found.items() if version}
    return Package(next(iter(there.values()), None), tuple(there))


def _ops_library() -> Path | None:
    """mmcv/_ext*.so in the package's folder, without importing mmcv."""
    spec = importlib.util.find_spec("mmcv")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("_ext*")), None)


def _cuda() -> tuple[int, str | None]:
    """Number of devices, and the CUDA version that torch was built for."""
    code = "import torch; print(torch.cuda.device_count(), torch.version.cuda)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    words = done.stdout.split()
    if done.returncode or len(words) != 2:
        return 0, None
    return int(words[0]), None if words[1] == "None" else f"CUDA {words[1]}"


def _import_error(module: str) -> str | None:
    """Last line of the error of `import module` in a fresh interpreter; None if it succeeds."""
    return _failure(f"import {module}")


def _load_error(library: Path) -> str | None:
    """Why a compiled library cannot be loaded with torch; its package is not imported, so that
    nothing else can be the cause."""
    return _failure(f"import torch, ctypes; ctypes.CDLL({str(library)!r}, mode=2)")  # RTLD_NOW


def _failure(code: str) -> str | None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].strip() if lines else f"the interpreter exited with code {done.returncode}"


FORKS = "onedl-mmcv==2.3.6 onedl-mmengine==0.10.12 onedl-mmsegmentation==1.4.2"
PIP = "pip install"
COMPILE = (
    f"{PIP} 'setuptools<60' 'wheel<0.43' ninja && MMCV_WITH_OPS=1 {PIP} --no-build-isolation "
    "--no-cache-dir"
)
"""Compiles mmcv-full with its ops: pip's isolated build has no torch and leaves them out, and its
cache may contain a wheel for another torch."""
MMCV0 = f"{COMPILE} mmcv-full==1.7.2"
MMCV0_AGAIN = f"{COMPILE} --force-reinstall --no-deps mmcv-full==1.7.2"

ABSENT_OPS = (
    "absent (1.x works without, Mask2Former, PointRend, CCNet and PSANet included; a model with "
    "deformable convolutions does not)"
)
USUAL_LOAD = shared_memory.Load("workers_per_gpu", 2 * 512 * 1024 * (3 * 4 + 8), 4)
"""Two crops of 512x1024, float32 and int64 labels, and four workers, as the Cityscapes configs of
MMSegmentation 0.x have it; 1.x shares about half of it (uint8 images)."""


@dataclass(frozen=True)
class Problem:
    """cause: one line. fix: one command. fatal: the engine does not work until it is fixed."""

    cause: str
    fix: str
    fatal: bool = True


def version(text: str | None) -> tuple[int, ...]:
    """`'2.13.0+cpu'` -> (2, 13, 0); letters (rc4, dev0) end the number. None -> ()."""
    numbers: list[int] = []
    for part in (text or "").split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part or not digits:
            break
    return tuple(numbers)


def engine_of(facts: Facts) -> str:
    """The engine of this environment: 'mmseg0' with MMSegmentation 0.x or mmcv 1.x."""
    major = version(facts.mmseg.version)[:1] or version(facts.mmcv.version)[:1]
    old = (0,) if facts.mmseg.version else (1,)
    return "mmseg0" if major == old else "mmseg1"


def diagnose(facts: Facts) -> list[Problem]:
    """All problems found, fatal ones first."""
    engine = _mmseg0 if engine_of(facts) == "mmseg0" else _mmseg1
    rules: list[Callable[[Facts], Iterator[Problem]]] = [
        _core,
        _mixed,
        engine,
        _ops,
        _vision,
        _opencv,
    ]
    fatal = [p for rule in rules for p in rule(facts)]
    if not fatal and facts.import_error:
        fatal = [Problem(f"mmseg cannot be imported: {facts.import_error}", _reinstall(facts))]
    return [*fatal, *_optional(facts)]


def _core(f: Facts) -> Iterator[Problem]:
    if f.python < (3, 10):
        have = ".".join(map(str, f.python))
        yield Problem(f"Python {have} is older than 3.10", "python3.11 -m venv .venv")
    if f.torch is None:
        yield Problem("torch is missing", f"{PIP} torch==2.13.0")
    if f.numpy is None:
        yield Problem("numpy is missing", f"{PIP} numpy")
    elif f.torch and version(f.torch) < (2, 3) and version(f.numpy) >= (2,):
        yield Problem(
            f"torch {f.torch} was built for numpy 1, but numpy {f.numpy} is installed",
            f"{PIP} 'numpy<2'",
        )
    for name in ("pillow", "rich"):
        if f.others.get(name) is None:
            yield Problem(f"{name} is missing", f"{PIP} {name}")


def _mixed(f: Facts) -> Iterator[Problem]:
    """Two distributions of one module overwrite each other's files."""
    forks = [f"{PIP} {fork}" for fork in FORKS.split()]
    keep = dict(zip(("mmcv", "mmengine", "mmseg"), forks, strict=True))
    if engine_of(f) == "mmseg0":
        keep |= {"mmcv": MMCV0, "mmseg": f"{PIP} mmsegmentation==0.30.0"}
    for module, package in (("mmcv", f.mmcv), ("mmengine", f.mmengine), ("mmseg", f.mmseg)):
        if len(package.distributions) > 1:
            names = " ".join(package.distributions)
            yield Problem(
                f"{module} was installed by several packages, overwriting each other: {names}",
                f"pip uninstall -y {names} && {keep[module]}",
            )


def _mmseg1(f: Facts) -> Iterator[Problem]:
    forked = any(p.forked for p in (f.mmseg, f.mmcv, f.mmengine))
    if not (f.mmseg.version or f.mmcv.version or f.mmengine.version):
        yield Problem(
            "MMSegmentation is not installed: only the engine `torch` works",
            f"{PIP} {FORKS} ftfy regex",
        )
        return
    official = {"mmseg": "mmsegmentation==1.2.2", "mmcv": "mmcv==2.1.0", "mmengine": "mmengine"}
    fork = dict(zip(("mmcv", "mmengine", "mmseg"), FORKS.split(), strict=True))
    for module, package in (("mmseg", f.mmseg), ("mmcv", f.mmcv), ("mmengine", f.mmengine)):
        if package.version is None:
            what = fork[module] if forked else official[module]
            yield Problem(
                f"{module} is missing, but {_others(f, module)} installed", f"{PIP} {what}"
            )
    mmcv, mmseg = version(f.mmcv.version), version(f.mmseg.version)
    if mmseg and mmcv and mmcv < (2,):
        yield Problem(
            f"mmseg {f.mmseg.version} needs mmcv 2, but mmcv {f.mmcv.version} is installed",
            f"pip uninstall -y {' '.join(f.mmcv.distributions)} && "
            f"{PIP} {fork['mmcv'] if f.mmseg.forked else official['mmcv']}",
        )
    elif mmseg and mmcv >= (2, 2) and not f.mmseg.forked:
        yield Problem(
            f"mmseg {f.mmseg.version} does not accept mmcv {f.mmcv.version}, only 2.0.0rc4 to 2.1",
            f"pip uninstall -y {' '.join(f.mmcv.distributions)} && {PIP} {official['mmcv']}",
        )
    missing = [name for name in ("ftfy", "regex") if f.others.get(name) is None]
    if f.mmseg.version and missing:
        yield Problem(
            f"mmseg {f.mmseg.version} needs {' and '.join(missing)}, which it does not install",
            f"{PIP} {' '.join(missing)}",
        )


def _mmseg0(f: Facts) -> Iterator[Problem]:
    for module, package, command in (
        ("mmseg", f.mmseg, f"{PIP} mmsegmentation==0.30.0"),
        ("mmcv", f.mmcv, MMCV0),
    ):
        if package.version is None:
            yield Problem(f"{module} is missing, but {_others(f, module)} installed", command)
    mmcv = version(f.mmcv.version)
    if mmcv >= (2,):
        yield Problem(
            f"mmseg {f.mmseg.version} needs mmcv-full 1.x, not mmcv {f.mmcv.version}",
            f"pip uninstall -y {' '.join(f.mmcv.distributions)} && {MMCV0}",
        )
    elif mmcv and not f.mmcv_ops:
        yield Problem(
            f"mmcv {f.mmcv.version} was built without its compiled ops (mmcv._ext)", MMCV0_AGAIN
        )
    if version(f.numpy) >= (2,) and version(f.torch) >= (2, 3):
        yield Problem(
            f"numpy {f.numpy} removed names that mmseg 0.x and mmcv 1.x use",
            f"{PIP} 'numpy<2'",
        )
    torchvision = f.others.get("torchvision")
    if torchvision is None:
        yield Problem(
            "torchvision is missing; mmcv 1.x imports it", f"{PIP} {_torchvision(f.torch)}"
        )
    elif _torchvision(f.torch) != f"torchvision=={torchvision.split('+')[0]}":
        yield Problem(
            f"torchvision {torchvision} does not match torch {f.torch}",
            f"{PIP} {_torchvision(f.torch)}",
        )
    if f.build_tools_error:
        have = f.others.get("setuptools") or "missing"
        yield Problem(
            f"setuptools {have} does not work with the build tools of torch {f.torch}, which "
            f"mmcv 1.x imports ({f.build_tools_error})",
            f"{PIP} 'setuptools<60'",
        )
    if version(f.others.get("yapf")) >= (0, 40, 2):
        yield Problem(
            f"yapf {f.others['yapf']} removed the function that mmcv 1.x prints configs with",
            f"{PIP} 'yapf<=0.40.1'",
        )


def _ops(f: Facts) -> Iterator[Problem]:
    """mmcv's compiled ops, if present."""
    if f.mmcv.version and f.mmcv_ops_error:
        old = version(f.mmcv.version) < (2,)
        pin = f"{f.mmcv.distributions[0]}=={f.mmcv.version}"
        yield Problem(
            f"mmcv._ext was not built for torch {f.torch} ({f.mmcv_ops_error})",
            MMCV0_AGAIN if old else f"{PIP} --force-reinstall --no-deps --no-cache-dir {pin}",
        )


def _vision(f: Facts) -> Iterator[Problem]:
    """torchvision, if present: one for another torch, or another build of it, fails on import
    ('operator torchvision::nms does not exist'), and mmengine imports it to describe itself."""
    wanted, have = _torchvision(f.torch), f.others.get("torchvision") or ""
    fits = wanted == f"torchvision=={have.split('+')[0]}"
    if f.torchvision_error and (fits or engine_of(f) == "mmseg1"):  # else `_mmseg0` has told it
        build = (f.torch or "").partition("+")[2]
        index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
        yield Problem(
            f"torchvision {have} does not fit torch {f.torch} ({f.torchvision_error})",
            f"{PIP} --force-reinstall --no-deps {wanted}{index}",
        )


def _opencv(f: Facts) -> Iterator[Problem]:
    if f.mmcv.version and f.cv2_error:
        headless = "opencv-python-headless"
        if version(f.numpy) < (2,):
            headless = "'opencv-python-headless<4.12'"  # newer ones bring numpy 2
        if "libGL" in f.cv2_error or "libgthread" in f.cv2_error or "libxcb" in f.cv2_error:
            fix = f"pip uninstall -y opencv-python && {PIP} {headless}"
        else:
            fix = f"{PIP} --force-reinstall --no-deps {headless}"
        yield Problem(f"OpenCV, which mmcv needs, cannot be imported: {f.cv2_error}", fix)


def _optional(f: Facts) -> Iterator[Problem]:
    """Not required, but without it something is slower or missing."""
    has = f.others.get
    if has("numba") is None:
        yield Problem(
            "numba is not installed: region and window scores are slower", f"{PIP} numba", False
        )
    if has("scikit-image") is None:
        cause = (
            "scikit-image is not installed: region=dict(type='slic') is not available; grid and "
            "window work"
        )
        yield Problem(cause, f"{PIP} scikit-image", False)
    absent = [name for name in ("matplotlib", "jinja2") if has(name) is None]
    if absent:
        are = "are" if len(absent) > 1 else "is"
        cause = f"{' and '.join(absent)} {are} not installed: report.html is not written"
        yield Problem(cause, f"{PIP} {' '.join(absent)}", False)
    if f.cuda_devices and has("triton") is None:
        cause = "triton is not installed: scores on the CUDA device use plain torch"
        yield Problem(cause, f"{PIP} triton", False)
    if f.shared_memory is not None and f.shared_memory < USUAL_LOAD.needed:
        yield Problem(
            f"{shared_memory.FOLDER} has {shared_memory.mib(f.shared_memory)} MiB free, less than "
            f"the {shared_memory.mib(USUAL_LOAD.needed, up=True)} MiB that the data workers of a "
            "usual config need, without which loading hangs",
            "docker run --shm-size=1g ..., or num_workers=0 (0.x: workers_per_gpu=0) in the config",
            False,
        )
    if has("torch-scatter") is not None and f.torch_scatter_error:
        yield Problem(
            f"torch_scatter, which is optional, was not built for torch {f.torch} "
            f"({f.torch_scatter_error})",
            f"{PIP} --force-reinstall --no-deps --no-cache-dir --no-build-isolation torch-scatter",
            False,
        )


def _others(f: Facts, module: str) -> str:
    """'mmseg 1.4.2 and mmengine 0.10.12 are': what is installed besides a missing module."""
    packages = (("mmseg", f.mmseg), ("mmcv", f.mmcv), ("mmengine", f.mmengine))
    there = [f"{name} {p.version}" for name, p in packages if name != module and p.version]
    return f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'}"


def _torchvision(torch: str | None) -> str:
    """Since torch 2.0, torchvision's minor version is torch's plus 15; patch numbers agree."""
    numbers = version(torch)
    if len(numbers) < 3 or numbers[0] != 2:
        return "torchvision"
    return f"torchvision==0.{numbers[1] + 15}.{numbers[2]}"


def _reinstall(f: Facts) -> str:
    if engine_of(f) == "mmseg0":
        return "make env-mmseg0"
    names = " ".join((*f.mmcv.distributions, *f.mmengine.distributions, *f.mmseg.distributions))
    return f"pip uninstall -y {names} && {PIP} {FORKS} ftfy regex"


def run() -> int:
    """Print table and problems. Returns 0 if the engine of this environment works, else 1."""
    facts = find()
    rows = facts.table()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    problems = diagnose(facts)
    for problem in problems:
        print(f"\n{'problem' if problem.fatal else 'note'}: {problem.cause}")
        print(f"    {problem.fix}")
    works = not any(problem.fatal for problem in problems)
    print(f"\nengine {engine_of(facts)}: {'works' if works else 'does not work'}")
    sys.stdout.flush()
    return 0 if works else 1
