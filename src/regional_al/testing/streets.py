"""A synthetic data set of street scenes with label masks, generated in seconds from a seed.

    python -m regional_al.testing.streets OUT --seed 0 --train 48 --val 16

The eleven classes are those of driving data sets; pole, traffic sign, person and bicycle are rare
and thin. Needs numpy and Pillow. The same parameters and Pillow version give the same bytes. Two
styles form a pair of domains: `style='game'` as source and `style='day'` as target.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..engines.mmseg.datasets import STREETS_CLASSES, STREETS_PALETTE
from ..errors import ConfigError, DataError, EnvironmentProblem, RegionalALError
from ..registry import nearest
from ..runtime.progress import progress
from ..store.images import replacing, write_png
from ..store.reading import read_json
from ..types import JSON, U8

__all__ = ["CLASSES", "PALETTE", "RARE", "STYLE_NAMES", "generate", "main", "make_scene"]

CLASSES = STREETS_CLASSES
PALETTE = STREETS_PALETTE
RARE = ("pole", "traffic sign", "person", "bicycle")
"""Classes with less than 2 % of the labelled pixels each."""
CITYSCAPES_TRAIN_IDS = (0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 18)
"""Train id of each class in the 19-class scheme of Cityscapes, for layout='cityscapes'."""
STYLE_NAMES = ("day", "dusk", "game")
LAYOUTS = ("plain", "cityscapes")
MANIFEST = "streets.json"

_VERSION = 1  # increment when the images change
_CITIES = {"train": ("northham", "southham"), "val": ("midham",)}


def generate(
    root: Path | str,
    train: int = 48,
    val: int = 16,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    style: str = "day",
    void: bool = True,
    mixed_sizes: bool = False,
    layout: str = "plain",
) -> Path:
    """Write the data set to `root` unless it is already there.

    A second call with the same parameters returns immediately; it completes an interrupted one.

    Args:
        root: output folder; must be empty, missing, or contain this data set.
        train: number of training images.
        val: number of validation images.
        size: (H, W) in pixels, each 32 or more.
        seed: non-negative seed.
        style: 'day', 'dusk' or 'game'.
        void: use 255 on some object borders, containers and the bonnet of the camera car.
        mixed_sizes: let image sizes vary by about 30 %.
        layout: 'plain' writes images/{train,val}/*.jpg and annotations/{train,val}/*.png with ids
            0..10; 'cityscapes' writes leftImg8bit/<split>/<city>/*_leftImg8bit.png and
            gtFine/<split>/<city>/*_gtFine_labelTrainIds.png with Cityscapes train ids.

    Returns:
        `root` as a Path.

    Raises:
        ConfigError: for an invalid parameter.
        DataError: if `root` contains anything else.
        EnvironmentProblem: if Pillow is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.testing.streets import generate
        >>> with TemporaryDirectory() as folder:
        ...     root = generate(f'{folder}/streets', train=2, val=1, size=(32, 48))
        ...     sorted(p.name for p in (root / 'images' / 'train').iterdir())
        ['train_0000.jpg', 'train_0001.jpg']
    """
    root = Path(root)
    parameters = _checked(train, val, size, seed, style, void, mixed_sizes, layout)
    if _is_complete(root, parameters):
        return root
    _write_manifest(root, parameters, complete=False)
    work = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    for split, index in progress(work, f"Streets ({style})"):
        picture, labels = make_scene(
            split, index, (size[0], size[1]), seed, style, void, mixed_sizes
        )
        _write_pair(root, layout, split, index, picture, labels)
    _write_manifest(root, parameters, complete=True)
    return root


def make_scene(
    split: str,
    index: int,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    style: str = "day",
    void: bool = True,
    mixed_sizes: bool = False,
) -> tuple[U8, U8]:
    """Generate one scene in memory.

    Args:
        split: 'train' or 'val'.
        index: index of the image in the split.
        size: (H, W) in pixels, each 32 or more.
        seed: non-negative seed.
        style: 'day', 'dusk' or 'game'.
        void: use 255 on some object borders, containers and the bonnet of the camera car.
        mixed_sizes: let the size vary by about 30 %.

    Returns:
        RGB image, uint8 [H, W, 3], and class ids, uint8 [H, W], 0..10 or 255 (void).

    Raises:
        EnvironmentProblem: if Pillow is not installed.

    Example:
        >>> from regional_al.testing.streets import make_scene
        >>> image, labels = make_scene('train', 0, size=(32, 48))
        >>> image.shape, labels.shape
        ((32, 48, 3), (32, 48))
    """
    try:
        from ._render import STYLES, render
    except ImportError:
        raise EnvironmentProblem("the street data set needs Pillow: pip install pillow") from None
    rng = np.random.default_rng([seed, STYLE_NAMES.index(style), split == "val", index])
    height, width = size
    if mixed_sizes:
        scale, stretch = rng.uniform(0.7, 1.3), rng.uniform(0.75, 1.2)
        height, width = max(32, round(height * scale)), max(32, round(width * scale * stretch))
    return render(height, width, rng, STYLES[style], void)


def _checked(
    train: int,
    val: int,
    size: tuple[int, int],
    seed: int,
    style: str,
    void: bool,
    mixed_sizes: bool,
    layout: str,
) -> JSON:
    """The parameters as stored in the manifest. Raises ConfigError for an invalid one."""
    if style not in STYLE_NAMES:
        raise ConfigError(f"unknown street style {style!r}.{nearest(style, STYLE_NAMES)}")
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown street layout {layout!r}.{nearest(layout, LAYOUTS)}")
    if train < 0 or val < 0 or seed < 0:
        raise ConfigError(f"streets: {train=}, {val=} and {seed=} must not be negative")
    if len(size) != 2 or min(size) < 32:
        raise ConfigError(f"streets: size={tuple(size)} must be (height, width), each 32 or more")
    return {
        "generator": _VERSION,
        "train": train,
        "val": val,
        "size": [int(s) for s in size],
        "seed": seed,
        "style": style,
        "void": bool(void),
        "mixed_sizes": bool(mixed_sizes),
        "layout": layout,
        "classes": list(CLASSES),
    }


def _is_complete(root: Path, parameters: JSON) -> bool:
    """Whether `root` contains this data set, complete. Raises DataError if it contains another."""
    if not (root / MANIFEST).exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root} is not empty and has no {MANIFEST}; choose another folder")
        return False
    try:
        found = read_json(root / MANIFEST)
    except DataError as error:
        raise DataError(f"{error}; delete {root}") from None
    if not isinstance(found, dict):
        raise DataError(f"{root / MANIFEST} does not describe a data set; delete {root}")
    other = [key for key, value in parameters.items() if found.get(key) != value]
    if other:
        key = other[0]
        raise DataError(
            f"{root} was generated with {key}={found.get(key)!r}, not {parameters[key]!r}; "
            "choose another folder or delete it"
        )
    return bool(found.get("complete"))


def _write_manifest(root: Path, parameters: JSON, complete: bool) -> None:
    with replacing(root / MANIFEST) as temporary:
        temporary.write_text(json.dumps({**parameters, "complete": complete}, indent=1) + "\n")


def _write_pair(root: Path, layout: str, split: str, index: int, picture: U8, labels: U8) -> None:
    if layout == "cityscapes":
        city = _CITIES[split][index % len(_CITIES[split])]
        frame = f"{city}_{index:06d}_000019"
        table = np.full(256, 255, dtype=np.uint8)
        table[: len(CLASSES)] = CITYSCAPES_TRAIN_IDS
        write_png(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", picture)
        write_png(
            root / "gtFine" / split / city / f"{frame}_gtFine_labelTrainIds.png", table[labels]
        )
        return
    from PIL import Image

    with replacing(root / "images" / split / f"{split}_{index:04d}.jpg") as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=92)
    write_png(root / "annotations" / split / f"{split}_{index:04d}.png", labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and print the folder of the data set.

    Args:
        arguments: command-line arguments; None reads `sys.argv`.

    Returns:
        Exit code: 0, or 2 after an error message.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.testing.streets import main
        >>> with TemporaryDirectory() as folder:
        ...     code = main([folder, '--train', '1', '--val', '0'])  # doctest: +ELLIPSIS
        /...
        >>> code
        0
    """
    parser = argparse.ArgumentParser(
        prog="python -m regional_al.testing.streets",
        description="Generate a small street data set.",
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--train", type=int, default=48, metavar="N")
    parser.add_argument("--val", type=int, default=16, metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", default="day", help=", ".join(STYLE_NAMES))
    parser.add_argument("--layout", default="plain", help=", ".join(LAYOUTS))
    parser.add_argument("--no-void", action="store_true", help="label every pixel")
    parser.add_argument("--mixed-sizes", action="store_true")
    a = parser.parse_args(arguments)
    try:
        generate(
            a.out,
            a.train,
            a.val,
            tuple(a.size),
            a.seed,
            a.style,
            not a.no_void,
            a.mixed_sizes,
            a.layout,
        )
    except RegionalALError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(a.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
