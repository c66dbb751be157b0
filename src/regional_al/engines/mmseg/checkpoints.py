"""Checkpoints are data: they are read by `torch.load(weights_only=True)`, which executes nothing.

What this package writes consists of tensors and plain values. What it reads may also contain the
few harmless classes of an ordinary mmengine checkpoint. Anything else is refused.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ConfigError
from ..quiet import quiet_warnings
from ..specs import first_line

log = logging.getLogger("regional_al")
_DROP = object()


def read_checkpoint(path: Path | str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it contains.

    Args:
        path: The file; `~` is expanded.
        map_location: As of `torch.load`. Default: the CPU.

    Returns:
        Its content: tensors, plain values, and the statistics that mmengine keeps.

    Raises:
        ConfigError: It is missing, damaged, not a dict, or contains any other class or function;
            one line, with the command that extracts the weights of a trusted file.
    """
    path = os.path.expanduser(str(path).removeprefix("file://"))
    if not os.path.isfile(path):
        raise ConfigError(f"checkpoint {path} does not exist")
    return _content(path, path, map_location)


def _content(file: Any, name: str, map_location: Any) -> dict[str, Any]:
    """What `torch.load` reads from a file or buffer. Raises ConfigError."""
    try:
        with quiet_warnings(), _harmless():  # torch 2.1 warns of a storage class of its own
            content = torch.load(file, map_location=map_location or "cpu", weights_only=True)
    except Exception as error:  # whatever zip, unpickler and torch raise
        raise ConfigError(_refusal(name, error)) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"checkpoint {name} contains a {type(content).__name__}, not a dict of tensors"
        )
    return content


def check_fits(path: str, model: torch.nn.Module, key: str) -> None:
    """Raise ConfigError when not one weight of a checkpoint has a place in the model: mmengine and
    mmcv skip what does not fit, so a run would start from random weights without a word.

    key: of the config that names the file.
    """
    content = read_checkpoint(path)
    weights = content.get("state_dict", content)
    mine = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if not isinstance(weights, Mapping):
        raise ConfigError(f"{key}={path!r}: its state_dict is no dict")
    shapes = {
        str(name).removeprefix("module."): tuple(getattr(value, "shape", ()))
        for name, value in weights.items()
    }
    if not any(mine.get(name) == shape for name, shape in shapes.items()):
        raise ConfigError(
            f"{key}={path!r} has no weight of this model (it has {next(iter(shapes), 'none')!r}, "
            f"the model {next(iter(mine), 'none')!r}); weights of a backbone alone belong into "
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )


def _refusal(name: str, error: Exception) -> str:
    """One line for a checkpoint that cannot be read; torch ends a paragraph of advice with what it
    has refused."""
    found = re.search(r"(?:GLOBAL|class|function|instantiate) ([\w.]+\.\w+)", str(error))
    if found is None:
        told = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())
        return f"checkpoint {name} cannot be read ({type(error).__name__}: {told[:200]})"
    return (
        f"checkpoint {name} cannot be read with weights_only=True (it contains {found.group(1)}): "
        'if you trust it, save its weights alone by python -c "import torch; c = torch.load('
        f"'{name}', map_location='cpu', weights_only=False); torch.save(c.get('state_dict', c), "
        "'weights.pth')\""
    )


def _harmless() -> AbstractContextManager[Any]:
    """Lets the classes of an ordinary mmengine checkpoint pass, where torch (from 2.6) can."""
    try:
        from mmengine.logging import HistoryBuffer
    except ImportError:
        return nullcontext()
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()

    def attribute(owner: Any, name: str) -> Any:
        """The one use that a HistoryBuffer makes of getattr: its own statistics."""
        if owner is HistoryBuffer and name in ("min", "max", "current", "mean"):
            return getattr(owner, name)
        raise ValueError(f"function builtins.getattr of {owner!r}")

    multiarray: Any = (np._core if hasattr(np, "_core") else np.core).multiarray  # type: ignore[attr-defined,unused-ignore]
    known: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, slice, (attribute, "builtins.getattr")]
    known += [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdSU"]
    for package in ("numpy._core.multiarray", "numpy.core.multiarray"):  # numpy 2 and 1
        for function in ("_reconstruct", "scalar"):
            known.append((getattr(multiarray, function), f"{package}.{function}"))
    found: AbstractContextManager[Any] = torch.serialization.safe_globals(known)
    return found


@contextmanager
def safely(loaders: Any) -> Iterator[None]:
    """Let the checkpoint loaders of mmengine or mmcv read as `read_checkpoint` does.

    Both fall back to executing pickles. Inside the context, everything that goes through their
    `load_checkpoint` (`load_from`, resuming, `init_cfg=dict(type='Pretrained', ...)`, downloads)
    is read safely.

    Args:
        loaders: The module `mmengine.runner.checkpoint` or `mmcv.runner.checkpoint`.
    """
    ours: dict[str, Any] = {"torch": _Torch(), "load_url": _load_url, "_safe_torch_load": _load}
    before = {name: getattr(loaders, name) for name in ours if hasattr(loaders, name)}
    for name in before:
        setattr(loaders, name, ours[name])
    try:
        yield
    finally:
        for name, item in before.items():
            setattr(loaders, name, item)


def _load(file: Any, map_location: Any = None, **_: Any) -> dict[str, Any]:
    """In place of `torch.load`; buffers come from object storage."""
    if isinstance(file, (str, Path)):
        return read_checkpoint(file, map_location)
    return _content(file, "from the storage", map_location)


def _load_url(
    url: str, model_dir: Any = None, map_location: Any = None, *_: Any, **__: Any
) -> dict[str, Any]:
    return read_checkpoint(cached(url, model_dir), map_location)


class _Torch:
    """The module torch, with a `load` that executes nothing."""

    load = staticmethod(_load)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def cached(url: str, folder: Any = None) -> Path:
    """The file of a URL in torch's cache, downloaded if it is not there."""
    place = Path(folder or Path(torch.hub.get_dir()) / "checkpoints")
    path = place / os.path.basename(urllib.parse.urlparse(url).path)
    if not path.exists():
        log.warning(f"fetching {url}")
        place.mkdir(parents=True, exist_ok=True)
        with patience(30):
            torch.hub.download_url_to_file(url, str(path), progress=False)
    return path


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Give up on a server that says nothing for so long; urllib itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def remote_weights(model: Any, key: str = "model") -> Iterator[tuple[str, str, str]]:
    """(key, name, key to set to None) of pretrained weights in a model's config that come by a
    scheme such as https:// or open-mmlab://."""
    if isinstance(model, Mapping):
        for name, value in model.items():
            if name == "pretrained" and is_remote(value):
                yield f"{key}.pretrained", value, f"{key}.pretrained"
            elif name == "init_cfg" and isinstance(value, Mapping):
                if is_remote(value.get("checkpoint")):
                    yield f"{key}.init_cfg.checkpoint", value["checkpoint"], f"{key}.init_cfg"
            else:
                yield from remote_weights(value, f"{key}.{name}")
    elif isinstance(model, (list, tuple)):
        for index, item in enumerate(model):
            yield from remote_weights(item, f"{key}.{index}")


def is_remote(value: Any) -> bool:
    """True for 'https://...', 'open-mmlab://...' and the like."""
    return isinstance(value, str) and "://" in value and not value.startswith("file://")


def url_of(source: str, loaders: Any) -> str | None:
    """What mmengine or mmcv (`loaders`: their module) would download for a name with a scheme; None
    for one that they treat otherwise."""
    scheme, _, name = source.partition("://")
    if scheme in ("http", "https"):
        return source
    if scheme in ("open-mmlab", "openmmlab"):
        name = loaders.get_deprecated_model_names().get(name, name)
        found = loaders.get_external_models()[name]
    elif scheme in ("torchvision", "modelzoo"):
        models = loaders.get_torchvision_models()
        found = models[name.lower().replace("_weights", "")]
    elif scheme == "mmcls":
        found = loaders.get_mmcls_models()[name]
    else:
        return None
    return str(found) if str(found).startswith("http") else None


def fetch(source: str, key: str, fix: str, url_of: Callable[[str], str | None]) -> None:
    """Download weights into torch's cache, where mmengine or mmcv will find them. For one rank to
    call while the others wait: their own loaders would leave them waiting for ever when it fails.

    key: that names them in the config; fix: what to write instead. Raises ConfigError.
    """
    try:
        url = url_of(source)
        if url is not None:
            cached(url)
    except Exception as error:  # no network, no such name, no space
        raise ConfigError(
            f"{key}={source!r} cannot be fetched ({first_line(error)}): {fix}"
        ) from None


def strip(value: Any) -> Any:
    """`value` without anything but tensors, numbers, text, None and containers of these."""
    found = _plain(value)
    return None if found is _DROP else found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        if type(value) in (bool, int, float, str, type(None)) or isinstance(value, torch.Tensor):
            return value
        return _base_number(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        pairs = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not _DROP}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        items = [item for item in map(_plain, value) if item is not _DROP]
        return tuple(items) if isinstance(value, tuple) else items
    return _DROP


def _base_number(value: Any) -> Any:
    """Subclasses of int, float and str (numpy's float64 is one) as the plain thing."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return _DROP
