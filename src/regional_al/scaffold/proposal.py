"""What a new config says: decided from what was found and what somebody has answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..checks import choice
from ..config import grammar
from ..config.auto import AUTO
from ..config.budget import DEFAULTS, UNITS
from ..errors import ConfigError, DataError
from ..registry import nearest
from ..store.images import image_size
from ..types import JSON, LEVELS
from .classes import Labels
from .layout import Layout
from .machine import MODELS

HELD_OUT = 5
"""One image of so many is held out where there is no val/."""
FEW = 100
"""Images; of fewer, the default budget is a number of regions."""
MOST_SIZES = 1000
HUGE = 4096
TILE = 1024
STEP = 32
_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?\s*%|\d+)\s*(?:of\s+the\s+)?([a-z]*)\s*")


@dataclass(frozen=True)
class Sizes:
    """Sizes of images.

    Args:
        median: (H, W), the median of each.
        smallest: Smallest side, in pixels.
        largest: Largest side, in pixels.
        mixed: Whether sizes differ.

    Example:
        >>> Sizes((96, 128), 96, 128, mixed=False).crop(256)
        (96, 128)
    """

    median: tuple[int, int]
    smallest: int
    largest: int
    mixed: bool

    def crop(self, most: int) -> tuple[int, int]:
        """Height and width of a training crop: multiples of 32, at most `most` and, where an image
        is not smaller than that, at most the median size."""
        height, width = (max(STEP, min(most, side) // STEP * STEP) for side in self.median)
        return height, width

    def __str__(self) -> str:
        size = f"{self.median[0]}x{self.median[1]} (height x width)"
        if not self.mixed:
            return f"all {size}"
        return f"of mixed sizes, sides {self.smallest} to {self.largest}, median {size}"


@dataclass(frozen=True)
class Plan:
    """All that `render.config` writes.

    Args:
        layout: Where the images are, with a validation split.
        sizes: Of the images.
        labels: Classes.
        model: A name in `MODELS`.
        acquisition: The key of the config.
        lists: Images of a split, by name, where a folder alone does not say them.
        measured: There are masks to measure a round on.

    Example:
        >>> from regional_al.scaffold import Split
        >>> layout = Layout(Path("d"), ".jpg", "", Split(Path("d"), None, (), ("a",)), None)
        >>> labels = Labels(("cat", "dog"), ((0, 0, 0), (128, 0, 0)))
        >>> sizes = Sizes((96, 128), 96, 128, mixed=False)
        >>> Plan(layout, sizes, labels, "effnet_lite0", {"level": "pixel"}, lists={}).measured
        True
    """

    layout: Layout
    sizes: Sizes
    labels: Labels
    model: str
    acquisition: JSON
    lists: dict[str, tuple[str, ...]]
    measured: bool = True


def sizes_of(paths: Sequence[Path]) -> Sizes:
    """Sizes of images, from their headers.

    Args:
        paths: The images; of more than 1000, an even share.

    Returns:
        Median, smallest and largest.

    Raises:
        DataError: One cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from regional_al.store.images import write_png
        >>> with TemporaryDirectory() as folder:
        ...     write_png(Path(folder) / "a.png", np.zeros((4, 6), np.uint8))
        ...     sizes_of([Path(folder) / "a.png"]).median
        (4, 6)
    """
    step = -(-len(paths) // MOST_SIZES)
    found = [image_size(path) for path in paths[:: max(1, step)]]
    heights, widths = sorted(h for h, _ in found), sorted(w for _, w in found)
    middle = (heights[len(found) // 2], widths[len(found) // 2])
    sides = [side for size in found for side in size]
    return Sizes(middle, min(sides), max(sides), len(set(found)) > 1)


def budget_of(level: str, text: str | None, images: int = 1000, people: bool = False) -> JSON:
    """A budget as somebody types it.

    Args:
        level: 'image', 'region' or 'pixel', which is the unit that an amount alone has.
        text: Such as '1%', '200 regions', '10 pixels'; None: the default.
        images: In the pool; of few images, 1 % would be next to nothing.
        people: They answer, and a percentage does not tell them how long that takes.

    Returns:
        `budget` of the config.

    Raises:
        ConfigError: It is no budget, or not for this level.

    Example:
        >>> budget_of("region", "40")
        {'amount': 40, 'unit': 'region', 'scope': 'pool'}
        >>> budget_of("region", None, images=6), budget_of("pixel", None)["scope"]
        ({'amount': 12, 'unit': 'region', 'scope': 'pool'}, 'image')
    """
    amount, unit = DEFAULTS[level][0], level
    if level == "region" and (people or images < FEW):
        amount = max(12, images)
    if text is not None:
        match = _BUDGET.fullmatch(text.lower())
        if match is None:
            raise ConfigError(
                f"--budget {text!r} is no amount: give e.g. 1%, '200 regions' or '10 pixels'"
            )
        number, word = match[1].replace(" ", ""), match[2].removesuffix("s")
        if word and word not in UNITS:
            raise ConfigError(f"--budget {text!r}: unknown unit.{nearest(word, UNITS)}")
        amount = number if number.endswith("%") else int(number)
        unit = word or unit
    each = level == unit == "pixel" and isinstance(amount, int)
    budget: JSON = {"amount": amount, "unit": unit, "scope": "image" if each else "pool"}
    grammar.parse({"level": level, "heuristic": "Random", "budget": budget})
    return budget


def acquisition_of(
    level: str, budget: JSON, annotator: str, superpixels: bool, largest: int
) -> JSON:
    """The `acquisition` key.

    Args:
        level: 'image', 'region' or 'pixel'.
        budget: Of a round.
        annotator: 'oracle' (the masks answer) or 'web' (people do).
        superpixels: Whether scikit-image is installed.
        largest: Largest side of an image; huge images are cut into tiles.

    Returns:
        A checked dict.

    Raises:
        ConfigError: An unknown level or annotator.

    Example:
        >>> budget = budget_of("pixel", None)
        >>> acquisition_of("pixel", budget, "oracle", True, 640)["heuristic"]
        'auto'
    """
    level = choice("--level", level, tuple(LEVELS))
    annotator = choice("--annotator", annotator, ("oracle", "web"))
    key: JSON = {"level": level, "heuristic": AUTO}
    if level == "region":
        key["region"] = "slic" if superpixels else "grid"
    key |= {"rounds": 5, "budget": budget, "warm_start": dict(budget)}
    if annotator == "web":
        one_key = {"answer": "dominant"} if level == "region" else {}
        key["annotator"] = {"type": "web", **one_key}
    if largest > HUGE:
        key["tiles"] = TILE
    grammar.parse(key)
    return key


def propose(
    layout: Layout,
    sizes: Sizes,
    labels: Labels,
    model: str,
    level: str = "region",
    budget: str | None = None,
    annotator: str = "oracle",
    superpixels: bool = True,
) -> Plan:
    """Put everything together.

    Args:
        layout: What `look` has found.
        sizes: Of the images.
        labels: Of the masks.
        model: A name in `MODELS`.
        level: 'image', 'region' or 'pixel'.
        budget: As typed; None: the default.
        annotator: 'oracle' or 'web'.
        superpixels: Whether scikit-image is installed.

    Returns:
        The plan; images are held out for validation where there is no split for it.

    Raises:
        ConfigError: An unknown choice.
        DataError: There are too few images.

    Example:
        >>> from regional_al.scaffold import Split
        >>> split = Split(Path("d/images"), Path("d/masks"), ("a", "b", "c"))
        >>> layout = Layout(Path("d"), ".jpg", ".png", split, None)
        >>> sizes = Sizes((96, 128), 96, 128, mixed=False)
        >>> labels = Labels(("a", "b"), ((0, 0, 0), (9, 9, 9)))
        >>> propose(layout, sizes, labels, "effnet_lite0").lists
        {'train': ('a', 'c'), 'val': ('b',)}
    """
    choice("--model", model, tuple(MODELS))
    choice("--level", level, tuple(LEVELS))
    layout, lists, measured = _divided(layout, annotator)
    pool = len(lists.get("train", layout.train.names))
    return Plan(
        layout,
        sizes,
        labels,
        model,
        acquisition_of(
            level,
            budget_of(level, budget, pool, annotator == "web"),
            annotator,
            superpixels,
            sizes.largest,
        ),
        lists,
        measured,
    )


def held_out(names: Sequence[str], count: int) -> tuple[str, ...]:
    """An even share of images, the same each time.

    Args:
        names: Sorted.
        count: How many.

    Returns:
        Their names.

    Example:
        >>> held_out("abcdefgh", 2)
        ('c', 'g')
    """
    return tuple(names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count))


def _divided(layout: Layout, annotator: str) -> tuple[Layout, dict[str, tuple[str, ...]], bool]:
    """Pool and validation images: the layout with both, lists where folders do not say them, and
    whether there are masks to measure on."""
    train, val = layout.train, layout.val
    if annotator == "oracle" and not train.names:
        raise DataError(
            f"{train.images} has no masks that could answer: let people answer, --annotator web"
        )
    if annotator == "web" and train.bare:
        pool, spare = train.bare, train.names  # people label what has no mask
    else:
        pool, spare = (train.names, ()) if annotator == "oracle" else (train.names, train.names)
    measured = True
    if val is None:
        if annotator == "web" and train.bare and spare:
            chosen = spare
        else:
            if len(pool) < 2:
                raise DataError(
                    f"{train.images} has too few images: one to learn from and one to measure on "
                    "are needed"
                )
            chosen = held_out(pool, max(1, len(pool) // HELD_OUT))
            pool = tuple(name for name in pool if name not in set(chosen))
            measured = bool(train.names)
        val = replace(train, names=chosen, bare=())
    else:
        val = replace(val, bare=())
    new = {"train": replace(train, names=pool, bare=()), "val": val}
    lists = {
        name: split.names
        for name, split in new.items()
        if in_folder(split.images, layout.image_suffix) != set(split.names)
    }
    return replace(layout, train=new["train"], val=val), lists, measured


def in_folder(folder: Path, suffix: str) -> set[str]:
    """The images that a data set finds in a folder by their suffix.

    Args:
        folder: Searched with the folders below it.
        suffix: Of the images.

    Returns:
        Paths below the folder, without the suffix.

    Example:
        >>> in_folder(Path("no/such/folder"), ".jpg")
        set()
    """
    found = (path.relative_to(folder).as_posix() for path in folder.rglob(f"*{suffix}"))
    return {name.removesuffix(suffix) for name in found}
