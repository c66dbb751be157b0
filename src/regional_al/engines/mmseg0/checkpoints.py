"""Checkpoints of mmcv 1.x, read with `weights_only=True`; where pretrained weights come from."""

from __future__ import annotations

import logging
import os
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import CheckpointLoader
from mmcv.runner import checkpoint as mmcv_checkpoint

from ...errors import ConfigError
from ..quiet import quiet_warnings
from ..specs import first_line

log = logging.getLogger("regional_al")
SCHEME = "plain:"


def located(source: str | Path) -> str:
    """A checkpoint's name for mmcv: files through our loader, everything with a scheme as it is."""
    return str(source) if "://" in str(source) else f"{SCHEME}{source}"


def load_from_plain(filename: str, map_location: Any = None) -> Any:
    """mmcv's way to a `plain:` checkpoint: a file of tensors and plain values, no pickled code.

    Raises ConfigError when it is missing, damaged or holds anything else.
    """
    path = os.path.expanduser(filename.removeprefix(SCHEME))
    if not os.path.isfile(path):
        raise ConfigError(f"checkpoint {path} does not exist")
    try:
        with quiet_warnings():  # torch 2.1 warns of a storage class of its own
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except Exception as error:  # whatever zip, unpickler and torch raise
        raise ConfigError(
            f"checkpoint {path} cannot be read with weights_only=True ({first_line(error)}): if "
            'you trust it, save its state_dict alone by python -c "import torch; torch.save('
            f"torch.load('{path}')['state_dict'], 'weights.pth')\""
        ) from None


if SCHEME not in CheckpointLoader._schemes:
    CheckpointLoader.register_scheme(SCHEME, load_from_plain)


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


def url_of(source: str) -> str | None:
    """What mmcv would download for a name with a scheme; None for one that it treats otherwise."""
    scheme, _, name = source.partition("://")
    if scheme in ("http", "https"):
        return source
    if scheme in ("open-mmlab", "openmmlab"):
        name = mmcv_checkpoint.get_deprecated_model_names().get(name, name)
        found = mmcv_checkpoint.get_external_models()[name]
    elif scheme in ("torchvision", "modelzoo"):
        models = mmcv_checkpoint.get_torchvision_models()
        found = models[name.lower().replace("_weights", "")]
    elif scheme == "mmcls":
        found = mmcv_checkpoint.get_mmcls_models()[name]
    else:
        return None
    return str(found) if str(found).startswith("http") else None


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Give up on a server that says nothing for so long; urllib itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetch(source: str, key: str, fix: str) -> None:
    """Download weights into torch's cache, where mmcv will find them. For one rank to call while
    the others wait: mmcv's own loader would leave them waiting for ever when it fails.

    key: that names them in the config; fix: what to write instead. Raises ConfigError.
    """
    try:
        url = url_of(source)
        if url is None:
            return
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        path = folder / os.path.basename(urllib.parse.urlparse(url).path)
        if not path.exists():
            log.warning(f"{key}: fetching {url}")
            folder.mkdir(parents=True, exist_ok=True)
            with patience(30):
                torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # no network, no such name, no space
        raise ConfigError(
            f"{key}={source!r} cannot be fetched ({first_line(error)}): {fix}"
        ) from None
