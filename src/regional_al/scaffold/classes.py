"""Classes of masks: which values they have, their names and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError
from ..types import UNLABELED
from .masks import RGB, Masks

_NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt")


@dataclass(frozen=True)
class Labels:
    """How masks become classes.

    Args:
        classes: Their names.
        palette: Their colours.
        table: Value of the masks -> id 0..C-1, or 255 (void); None: masks are read as they are.
        reduce_zero: 0 is void, and the classes are 1..C.

    Example:
        >>> Labels(("cat", "dog"), ((0, 0, 0), (128, 0, 0))).table is None
        True
    """

    classes: tuple[str, ...]
    palette: tuple[RGB, ...]
    table: dict[int | RGB, int] | None = None
    reduce_zero: bool = False


def labels_of(
    masks: Masks | None, names: Sequence[str] | None = None, ignore: Sequence[int | RGB] = ()
) -> Labels:
    """Classes from what the masks contain.

    Args:
        masks: What `recognise` has found; None: there are no masks, and names are needed.
        names: Of the classes, in the order of their values; None: proposed.
        ignore: Values that are no class, besides those that are known to be none.

    Returns:
        The classes, and how masks are read.

    Raises:
        ConfigError: Names that do not fit the values, or are not told apart.

    Example:
        >>> from regional_al.scaffold.masks import Value
        >>> labels = labels_of(Masks("binary", (Value(0, 9), Value(255, 1)), 1, 1))
        >>> labels.classes, labels.table
        (('background', 'foreground'), {0: 0, 255: 1})
    """
    if masks is None:
        if names is None:
            raise ConfigError("there are no masks: name the classes, --classes road,car,sky")
        _check_names(names, None)
        return Labels(tuple(names), tuple(voc_colour(i + 1) for i in range(len(names))))
    known = [v.value for v in masks.values]
    for value in ignore:
        if value not in known:
            raise ConfigError(f"--ignore {value}: no mask has this value")
    void = {*masks.void, *ignore}
    kept = [value for value in known if value not in void]
    colours = {v.value: v.colour for v in masks.values}
    table: dict[int | RGB, int] | None = None
    reduce_zero = False
    if masks.kind == "index":
        first = 1 if 0 not in kept else 0
        ids = list(range(first, 1 + max((v for v in kept if isinstance(v, int)), default=0)))
        if void - {UNLABELED, 0} or (first == 0 and 0 in void):
            table = {**dict.fromkeys(void, UNLABELED), **{v: i for i, v in enumerate(kept)}}
        else:
            kept, reduce_zero = [*ids], first == 1
    else:
        table = {**dict.fromkeys(void, UNLABELED), **{v: i for i, v in enumerate(kept)}}
    _check_names(names, len(kept))
    palette = [colours.get(v) or voc_colour(i) for i, v in enumerate(kept)]
    if len(set(palette)) < len(palette):  # an entry for several ids says nothing
        palette = [voc_colour(i) for i in range(len(kept))]
    return Labels(
        tuple(names if names is not None else proposed_names(kept)),
        tuple(palette),
        table,
        reduce_zero,
    )


def voc_colour(index: int) -> RGB:
    """Colour of a class in the palette of Pascal VOC, in which neighbours differ much.

    Args:
        index: 0..255.

    Returns:
        RGB.

    Example:
        >>> voc_colour(0), voc_colour(1), voc_colour(15)
        ((0, 0, 0), (128, 0, 0), (192, 128, 128))
    """
    colour = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return colour[0], colour[1], colour[2]


def proposed_names(values: Sequence[int | RGB]) -> list[str]:
    """Names for classes of which only the values are known.

    Args:
        values: One for each class.

    Returns:
        As many names.

    Example:
        >>> proposed_names([0, 255]), proposed_names([(0, 0, 0), (9, 9, 0), (9, 0, 0)])
        (['background', 'foreground'], ['background', 'class_1', 'class_2'])
    """
    if len(values) == 2 and values[0] in (0, (0, 0, 0)):
        return ["background", "foreground"]
    names = [f"class_{i}" for i in range(len(values))]
    return ["background", *names[1:]] if values[0] == (0, 0, 0) else names


def names_from(root: Path) -> list[str] | None:
    """Class names from a `classes.txt` in a folder: one in each line.

    Args:
        root: The folder.

    Returns:
        The names; None: there is no such file.

    Raises:
        DataError: It cannot be read as text.

    Example:
        >>> names_from(Path("no/such/folder")) is None
        True
    """
    for name in _NAME_FILES:
        path = root / name
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path} cannot be read: {error}") from None
            return [line.strip() for line in lines if line.strip()] or None
    return None


def split_names(text: str) -> list[str]:
    """Names separated by commas.

    Args:
        text: As typed.

    Returns:
        The names without blanks around them.

    Example:
        >>> split_names("road, traffic sign")
        ['road', 'traffic sign']
    """
    return [part.strip() for part in text.split(",")]


def _check_names(names: Sequence[str] | None, many: int | None) -> None:
    if names is None:
        return
    if any(not name or not name.isprintable() for name in names):
        raise ConfigError("--classes has an empty name: separate names by single commas")
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"--classes names {twice[0]!r} twice")
    if many is not None and len(names) != many:
        raise ConfigError(
            f"--classes has {len(names)} names, but the masks have {many} classes: name each value "
            "of the table in its order, or leave values out with --ignore"
        )
    if len(names) < 2:
        raise ConfigError(
            f"--classes {names[0]}: at least two classes are needed; call what is left 'background'"
        )
    if len(names) > 254:
        raise ConfigError(f"--classes has {len(names)} names: at most 254 are possible")
