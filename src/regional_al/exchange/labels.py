"""The labels of an export: the classes, and two more for what is asked and for no class.

Tools know a label by its name, so each class gets one of its own: equal class names are numbered,
white space is made plain, and Unicode is composed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import DataError
from ..registry import nearest

ASK = "__ask__"
"""Label of what is asked and not answered."""
VOID = "__void__"
"""Label of what is answered, but no class."""

Colour = tuple[int, int, int]
_ASK_COLOUR: Colour = (255, 0, 255)
_VOID_COLOUR: Colour = (224, 224, 192)


@dataclass(frozen=True)
class Labels:
    """All labels of an export; label i + 1 of a format that numbers them is `names[i]`.

    Args:
        names: Of the classes, in their order, then `__void__` and `__ask__`.
        colours: RGB of each, none twice and none black.

    Example:
        >>> labels = Labels.of(["car", "car"], [(0, 0, 0), (0, 0, 0)])
        >>> labels.names, len(set(labels.colours))
        (('car', 'car (2)', '__void__', '__ask__'), 4)
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]

    @staticmethod
    def of(classes: Sequence[str], palette: Sequence[Colour]) -> Labels:
        """The labels of a run.

        Args:
            classes: Names of the classes.
            palette: RGB of each.

        Returns:
            The labels.
        """
        names = _unique([*classes], (VOID, ASK))
        colours = _distinct([*palette, _VOID_COLOUR, _ASK_COLOUR])
        return Labels((*names, VOID, ASK), colours)

    @property
    def num_classes(self) -> int:
        """Labels that are classes."""
        return len(self.names) - 2

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Number of each label, from 1."""
        return {name: i + 1 for i, name in enumerate(self.names)}

    def find(self, text: object, where: str) -> str:
        """The name of a label as a tool has written it.

        Args:
            text: What stands in the file.
            where: For messages.

        Returns:
            The name.

        Raises:
            DataError: There is no such label.

        Example:
            >>> Labels.of(["traffic light"], [(1, 2, 3)]).find(" traffic  light ", "here")
            'traffic light'
        """
        name = plain(text) if isinstance(text, str) else ""
        if name not in self.ids:
            hint = nearest(name, self.names)
            raise DataError(f"{where}: label {str(text)[:80]!r} is no class of this run.{hint}")
        return name


def plain(name: str) -> str:
    """A name as every tool keeps it: composed Unicode, no control characters, single blanks.

    Example:
        >>> plain(" cafe\\u0301  bar ") == "caf\\u00e9 bar"
        True
    """
    text = unicodedata.normalize("NFC", name)
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(kept.split())


def _unique(classes: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Plain names, those that occur already with a number."""
    wanted = [plain(name) or "unnamed" for name in classes]
    seen, names = {*taken}, []
    for name in wanted:
        number, free = 2, name
        while free in seen or (free != name and free in wanted):
            free, number = f"{name} ({number})", number + 1
        seen.add(free)
        names.append(free)
    return names


def _distinct(colours: Sequence[Colour]) -> tuple[Colour, ...]:
    """The colours, each that is black or occurs already replaced by the next free one."""
    seen, found = {(0, 0, 0)}, []
    for colour in colours:
        value = (colour[0] << 16) | (colour[1] << 8) | colour[2]
        while (free := (value >> 16 & 255, value >> 8 & 255, value & 255)) in seen:
            value = (value + 0x2B2525) & 0xFFFFFF  # odd: every colour comes once
        seen.add(free)
        found.append(free)
    return tuple(found)
