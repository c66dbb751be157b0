"""Where a run was made: processor, device, versions, git revision. Nothing that names a person,
host or path."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..types import JSON

PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "scikit-image",
    "onedl-mmcv",
    "onedl-mmengine",
    "onedl-mmsegmentation",
    "mmcv",
    "mmcv-full",
    "mmengine",
    "mmsegmentation",
)


def facts() -> JSON:
    """Everything a reader of the numbers needs to know about the machine, JSON-able."""
    import torch

    cuda = torch.cuda.is_available()
    versions = {"python": platform.python_version(), "regional_al": __version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu(),
        "cores": cores(),
        "device": torch.cuda.get_device_name() if cuda else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "revision": revision(),
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def revision() -> str | None:
    """Short git revision of the package's own source, `-dirty` with changes to tracked files;
    None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        tracked = _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        if not tracked:
            return None
        return _git(here, "describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
