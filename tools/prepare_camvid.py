"""Write a smaller copy of CamVid: python tools/prepare_camvid.py [SRC] [DST] [--size 180 240]

SRC: images/{train,val}/*.jpg and annotations/{train,val}/*.png (default: $CAMVID_ROOT, else
../shared/data/camvid). DST gets PNG images (area average) and masks (nearest neighbour, so ids
stay ids). The pool is then scored, asked about and evaluated at that size. Files that are there
already are kept; each is written whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from PIL import Image

SPLITS = ("train", "val")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 2 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("CAMVID_ROOT", "../shared/data/camvid")
    parser.add_argument("src", nargs="?", type=Path, default=Path(default))
    parser.add_argument("dst", nargs="?", type=Path, default=Path("data/camvid_180x240"))
    parser.add_argument("--size", nargs=2, type=int, default=(180, 240), metavar=("H", "W"))
    args = parser.parse_args(argv)
    try:
        count = prepare(args.src, args.dst, (args.size[0], args.size[1]))
    except (OSError, ValueError) as error:
        print(f"prepare_camvid: {error}", file=sys.stderr)
        return 2
    print(f"{args.dst}: {count} images with masks at {args.size[0]}x{args.size[1]}")
    return 0


def prepare(src: Path, dst: Path, size: tuple[int, int]) -> int:
    """Number of images copied. Raises OSError/ValueError that names the file."""
    count = 0
    for split in SPLITS:
        images = sorted((src / "images" / split).glob("*.jpg"))
        if not images:
            raise ValueError(f"no *.jpg in {src / 'images' / split}: give the CamVid folder as SRC")
        for image in images:
            name = f"{image.stem}.png"
            mask = src / "annotations" / split / name
            shrink(image, dst / "images" / split / name, size, Image.Resampling.BOX)
            shrink(mask, dst / "annotations" / split / name, size, Image.Resampling.NEAREST)
            count += 1
    return count


def shrink(source: Path, target: Path, size: tuple[int, int], how: Image.Resampling) -> None:
    """Resize one file to (h, w); a target of that size is kept, one of another size refused."""
    if target.exists():
        with Image.open(target) as there:
            if there.size == (size[1], size[0]):
                return
        raise ValueError(f"{target} has another size: remove it or choose another DST")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    with Image.open(source) as image:
        image.resize((size[1], size[0]), how).save(temporary, format="PNG")
    os.replace(temporary, target)


if __name__ == "__main__":
    sys.exit(main())
