"""What is installed, for `doctor`: mostly package metadata. What only an import can tell is tried
in a separate process, since a library built for another ABI may crash it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    absent. others: version or None by distribution name (`OTHERS`)."""

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
    import_error: str | None = None

    def table(self) -> list[tuple[str, str]]:
        """(name, value) rows for people."""
        ops = "present" if self.mmcv_ops else "absent (models that use mmcv.ops cannot be built)"
        ops = "cannot be loaded" if self.mmcv_ops_error else ops
        cuda = f"{self.cuda_devices} device(s), torch built for {self.cuda_build or 'CPU only'}"
        rows = [("python", ".".join(map(str, self.python)))]
        rows += [("torch", self.torch or "-"), ("CUDA", cuda), ("numpy", self.numpy or "-")]
        rows += [("mmseg", str(self.mmseg)), ("mmcv", str(self.mmcv))]
        rows += [("mmcv._ext", ops if self.mmcv.version else "-")]
        rows += [("mmengine", str(self.mmengine))]
        return [*rows, *((name, self.others.get(name) or "-") for name in OTHERS)]


def find() -> Facts:
    """Inspect the environment of this interpreter; takes a few seconds (it imports torch)."""
    torch = _version("torch")
    mmseg, mmcv = _package("mmseg"), _package("mmcv")
    devices, build = _cuda() if torch else (0, None)
    others = {name: _version(name) for name in OTHERS}
    ops, old = _ops_library(), (mmcv.version or "").startswith("1.")
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
        import_error=_import_error("mmseg.models") if mmseg.version else None,
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
