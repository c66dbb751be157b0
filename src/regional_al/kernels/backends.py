"""Selection of the backend, and the input checks that all backends share."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, EnvironmentProblem, ScoreError
from ._fixed import Kind

MODULES = {
    "numba": "cpu",
    "torch": "reference",
    "triton": "cuda",
    "torch_scatter": "scatter",
}


class Backend(Protocol):
    """The functions of a backend module; `reference` documents them."""

    NAME: str

    def pixel(self, logits: Tensor, kind: Kind, score: Tensor, label: Tensor) -> bool: ...

    def accumulate(
        self, logits: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
    ) -> tuple[bool, bool]: ...

    def add_values(
        self, values: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
    ) -> bool: ...

    def windows(
        self,
        values: Tensor | None,
        label: Tensor | None,
        radius: int,
        num_classes: int,
        mode: str,
        area: int,
        shift: int,
        out: Tensor,
    ) -> bool: ...


_chosen: str | None = None
_loaded: dict[str, Any] = {}


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can be used on this machine.

    Returns:
        'torch' always; 'numba' and 'torch_scatter' if installed; 'triton' if installed and a CUDA
        device is available (or TRITON_INTERPRET=1 is set).

    Example:
        >>> from regional_al.kernels import available_backends
        >>> 'torch' in available_backends()
        True
    """
    names = [name for name in MODULES if name == "torch" or find_spec(name) is not None]
    device = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    if not device or not _triton_fits():
        names = [name for name in names if name != "triton"]
    return tuple(names)


def _triton_fits() -> bool:
    """Whether Triton is version 3 or newer.

    Triton 2, used by torch before 2.4, has neither exact division nor a way to prevent fused
    multiply-add.
    """
    try:
        return int(version("triton").split(".")[0]) >= 3
    except PackageNotFoundError:
        return False


def set_backend(name: str | None) -> None:
    """Set the backend for all following calls that do not name one.

    Args:
        name: 'torch', 'numba', 'triton' or 'torch_scatter'; None selects by device: numba on the
            CPU, Triton on CUDA, torch where those are missing.

    Raises:
        ConfigError: for an unknown name.
        EnvironmentProblem: if the backend cannot be loaded.

    Example:
        >>> from regional_al import kernels
        >>> kernels.set_backend('torch')
        >>> kernels.set_backend(None)
    """
    global _chosen
    if name is not None:
        _load(name)
    _chosen = name


def backend_for(device: torch.device, asked: str | None = None) -> Backend:
    """The backend for tensors on `device`. Raises ConfigError if `asked` does not support it."""
    name = asked or _chosen
    if name is None:
        return _default(device)
    backend = _load(name)
    if name == "numba" and device.type != "cpu":
        raise ConfigError(f"backend 'numba' needs CPU tensors, got {device}; use 'triton' or None")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if name == "triton" and device.type != "cuda" and not interpreted:
        raise ConfigError(f"backend 'triton' needs CUDA tensors, got {device}; use 'numba' or None")
    return backend


def _default(device: torch.device) -> Backend:
    wanted = {"cpu": "numba", "cuda": "triton"}.get(device.type, "torch")
    try:
        return _load(wanted)
    except EnvironmentProblem:
        return _load("torch")


def _load(name: str) -> Backend:
    if name not in MODULES:
        raise ConfigError(f"unknown backend {name!r}; choose from: {', '.join(sorted(MODULES))}")
    if name not in _loaded:
        try:
            if name == "torch_scatter":
                importlib.import_module(name)
            if name == "triton" and not _triton_fits():
                raise ImportError("requires Triton 3")
            _loaded[name] = importlib.import_module(f".{MODULES[name]}", __package__)
        except Exception as error:  # a broken numba or Triton must not stop a run without it
            _loaded[name] = error
    found = _loaded[name]
    if isinstance(found, Exception):
        raise EnvironmentProblem(
            f"backend {name!r} cannot be loaded ({type(found).__name__}: {found}); "
            f"install {name.replace('_', '-')} or choose from: torch, numba"
        ) from None
    return found  # type: ignore[no-any-return]


def check_logits(logits: Tensor) -> Tensor:
    """Logits [C, H, W], floating point, C >= 1. Raises ValueError."""
    if logits.ndim != 3 or logits.shape[0] < 1 or not logits.is_floating_point():
        raise ValueError(f"logits must be float [C, H, W], got {_shown(logits)}")
    return logits.detach()


def check_map(values: Tensor, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """A map [H, W], of a given shape if any. Raises ValueError."""
    if values.ndim != 2 or (shape is not None and tuple(values.shape) != tuple(shape)):
        wanted = "[H, W]" if shape is None else str(list(shape))
        raise ValueError(f"{what} must be {wanted}, got {_shown(values)}")
    return values.detach()


def check_ids(values: Tensor, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """An integer map [H, W]. Raises ValueError."""
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{what} must be integers [H, W], got {_shown(values)}")
    return check_map(values, what, shape)


def outside(ids: Tensor, number: int, what: str) -> ValueError:
    """The error for ids outside 0..number-1, naming the extremes."""
    wide = ids.to(torch.int64)
    return ValueError(
        f"{what} must be in 0..{number - 1}, found {int(wide.min())}..{int(wide.max())}"
    )


def not_finite(name: str | None, what: str = "logits") -> ScoreError:
    """The error for NaN or infinite input, naming the image if known."""
    prefix = f"{name}: " if name else ""
    return ScoreError(
        f"{prefix}{what} contain NaN or infinite values; lower the learning rate or disable AMP"
    )


def _shown(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
