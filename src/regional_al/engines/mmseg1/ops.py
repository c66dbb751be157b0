"""Operators of `mmcv.ops` that need nothing compiled, for an mmcv that has no compiled ones.

`import mmcv.ops` fails as a whole where its extension is missing, and mmseg then takes every
operator for missing. Some are plain torch: their files are loaded by themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import mmcv

FILES = {"point_sample": "point_sample", "CrissCrossAttention": "cc_attention"}
"""Name -> file in mmcv.ops without its suffix."""

USERS = (
    ("point_sample", "mmseg.models.utils.point_sample"),
    ("point_sample", "mmseg.models.decode_heads.point_head"),
    ("point_sample", "mmseg.models.decode_heads.san_head"),
    ("point_sample", "mmseg.utils.mask_classification"),
    ("CrissCrossAttention", "mmseg.models.decode_heads.cc_head"),
)
"""(name, module of mmseg that would have imported it)."""


def provide() -> None:
    """Give mmseg's modules the operators that they lack, as far as those need nothing compiled."""
    for name, user in USERS:
        try:
            module = importlib.import_module(user)
        except ImportError:  # another release of mmseg
            continue
        if getattr(module, name, ...) is None:
            setattr(module, name, load(name))


@cache
def load(name: str) -> Any:
    """A function or class of mmcv.ops, from its file alone."""
    path = Path(mmcv.__file__).parent / "ops" / f"{FILES[name]}.py"
    spec = importlib.util.spec_from_file_location(f"_regional_al_{FILES[name]}", path)
    assert isinstance(spec, ModuleSpec)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
