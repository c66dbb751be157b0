"""Whether the families of MMSegmentation 1.x that need a further package can run, for `doctor`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping

from ..engines.mmseg1.packages import FAMILIES, commands

ABSENT = "absent"


def find(failure: Callable[[str], str | None]) -> dict[str, str | None]:
    """Package -> None: it can be imported; `ABSENT`; or why it cannot.

    Args:
        failure: Runs code in a fresh interpreter and returns the last line of its error, or None.
    """
    start = "from regional_al.engines.mmseg1.ops import stand_in; stand_in(); "
    return {
        name: failure(f"{start}import {name}.models") if importlib.util.find_spec(name) else ABSENT
        for name in FAMILIES
    }


def rows(found: Mapping[str, str | None], torch: str, forked: bool) -> list[tuple[str, str]]:
    """(families, whether they can run, and what to install otherwise) for people.

    Args:
        found: As `find` returns it.
        torch: Version of torch.
        forked: Whether mmseg is that of the maintained forks.

    Example:
        >>> rows({"mmdet": None, "mmpretrain": ABSENT}, "2.13.0", True)[0]
        ('maskformer, mask2former', 'can run (mmdet)')
    """
    told, install = [], commands(torch, forked)
    for name, error in found.items():
        text = f"can run ({name})"
        if error == ABSENT:
            text = f"need {name}, which is not installed: {install[name]}"
        elif error is not None:
            text = f"need {name}, which cannot be imported ({error}): {install[name]}"
        told.append((", ".join(FAMILIES[name]), text))
    return told
