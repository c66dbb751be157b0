"""How the tests of mistakes call for an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mmseg_tiny import make_engine

from regional_al.errors import RegionalALError


def refused(kind: type[RegionalALError], match: str, make: Callable[[], Any]) -> None:
    """`make()` raises exactly that kind of error, with one line that matches."""
    with pytest.raises(kind, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def preflight(
    root: Path, changes: Mapping[str, Any] | None = None, **more: Any
) -> Callable[[], None]:
    """The preflight of the tiny config with overrides, for `refused` to call."""
    return lambda: make_engine(root, changes, **more).preflight()  # type: ignore[attr-defined]
