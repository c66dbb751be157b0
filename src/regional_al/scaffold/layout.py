"""Which files of a folder are images, which are their masks, and how they are split.

Only names are looked at. Recognised are `images/` beside `masks/`, `labels/` or `annotations/`,
with `train/` and `val/` above or below them, and one flat folder with `a.jpg` and `a_mask.png`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "img_dir", "pictures")
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "gt", "gtfine"),
    *("ground_truth", "groundtruth", "segmentation", "segmentationclass", "seg", "targets"),
)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val"}
SPLITS |= {"validation": "val", "test": "test", "testing": "test"}
ENDINGS = (
    *("_mask", "-mask", "_masks", "_label", "-label", "_labels", "_seg", "_gt", "_segmentation"),
    *("_labelids", "_labeltrainids", "_annotation"),
)
WANTED = "images/ and masks/ with files of the same names, or a.jpg beside a_mask.png"


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Args:
        images: Folder of the images.
        masks: Folder of the masks; None: there are none.
        names: Images with a mask: path below `images`, without the image suffix, sorted.
        bare: Images without a mask, likewise.

    Example:
        >>> Split(Path("images"), Path("masks"), names=("a", "b"), bare=("c",)).bare
        ('c',)
    """

    images: Path
    masks: Path | None
    names: tuple[str, ...]
    bare: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What is in a folder.

    Args:
        root: The folder.
        image_suffix: What follows the name of an image, e.g. `'.jpg'`, `'_leftImg8bit.png'`.
        mask_suffix: What follows the name of its mask; '' without masks.
        train: Images to learn from.
        val: Images to measure on; None: no split of this kind.
        notes: What was left out or decided, for people.

    Example:
        >>> split = Split(Path("d/images"), None, names=(), bare=("a",))
        >>> Layout(Path("d"), ".jpg", "", split, None).image(split, "a").as_posix()
        'd/images/a.jpg'
    """

    root: Path
    image_suffix: str
    mask_suffix: str
    train: Split
    val: Split | None
    notes: tuple[str, ...] = ()

    def image(self, split: Split, name: str) -> Path:
        """The image file of a name."""
        return split.images / (name + self.image_suffix)

    def mask(self, split: Split, name: str) -> Path:
        """The mask file of a name. Raises DataError where the split has no masks."""
        if split.masks is None:
            raise DataError(f"{split.images} has no masks")
        return split.masks / (name + self.mask_suffix)

    def all_images(self) -> list[Path]:
        """Every image of the layout."""
        return [self.image(s, name) for s in self.splits() for name in (*s.names, *s.bare)]

    def all_masks(self) -> list[Path]:
        """Every mask of the layout."""
        return [self.mask(split, name) for split in self.splits() for name in split.names]

    def splits(self) -> list[Split]:
        """Training and, where there is one, validation split."""
        return [self.train] if self.val is None else [self.train, self.val]

    def with_masks(self, folder: Mapping[Path, Path], suffix: str) -> Layout:
        """The layout with masks in other folders, old -> new, and with another suffix."""
        new = [s if s.masks is None else replace(s, masks=folder[s.masks]) for s in self.splits()]
        val = new[1] if self.val is not None else None
        return replace(self, train=new[0], val=val, mask_suffix=suffix)


@dataclass(frozen=True)
class _File:
    """path: below its base; folder, name: before and after the folders that tell role and split;
    suffix of an image file."""

    base: Path
    folder: str
    name: str
    suffix: str
    split: str
    role: str

    @property
    def place(self) -> Path:
        return self.base / self.folder if self.folder else self.base


def look(root: Path, masks: Path | None = None) -> Layout:
    """Find images and masks by their names.

    Args:
        root: Folder of the images, or of images and masks.
        masks: Folder of the masks, if it is not found by its name.

    Returns:
        What was found; file contents are not read.

    Raises:
        DataError: A folder is missing or has no image, or masks do not belong to the images.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("a.jpg", "a_mask.png", "b.jpg"):
        ...         (Path(folder) / name).touch()
        ...     layout = look(Path(folder))
        >>> layout.train.names, layout.train.bare, layout.mask_suffix
        (('a',), ('b',), '_mask.png')
    """
    root = _folder(root)
    given = None if masks is None else _folder(masks)
    found = [
        _file(root, path) for path in _walk(root) if given is None or given not in path.parents
    ]
    if given is not None:
        in_given = [replace(_file(given, path), role="mask") for path in _walk(given)]
        images = [f for f in found if f.role != "mask"]
        notes = _unused([f for f in found if f.role == "mask"])
    else:
        in_given = [f for f in found if f.role == "mask"]
        named = [f for f in found if f.role == "image"]
        images = named or [f for f in found if f.role == ""]
        notes = _unused([f for f in found if f.role == ""] if named else [])
        if not in_given:
            in_given, images = _flat(images)
    if not images:
        raise DataError(f"{root} contains no images ({', '.join(IMAGE_SUFFIXES)}): give {WANTED}")
    if given is not None and not in_given:
        raise DataError(f"--masks {given} contains no images ({', '.join(IMAGE_SUFFIXES)})")
    return _paired(root, images, in_given, notes)


def _paired(
    root: Path, images: Sequence[_File], masks: Sequence[_File], notes: list[str]
) -> Layout:
    suffix = Counter(f.suffix for f in images).most_common(1)[0][0]
    other = [f for f in images if f.suffix != suffix]
    if other:
        notes.append(
            f"{len(other)} images do not end in {suffix}, as most do, and are left out, such as "
            f"{other[0].place / (other[0].name + other[0].suffix)}"
        )
    images = [f for f in images if f.suffix == suffix]
    mask_suffix = Counter(f.suffix for f in masks).most_common(1)[0][0] if masks else ""
    masks = [f for f in masks if f.suffix == mask_suffix]
    cut, mask_cut = _endings(images, masks)
    by_split = {
        split: [f for f in images if f.split == split] for split in ("train", "val", "test")
    }
    if not by_split["train"]:
        by_split["train"] = [f for f in images if f.split == ""]
    elif any(f.split == "" for f in images):
        notes.append("images outside train/ and val/ are left out")
    if not by_split["train"]:
        raise DataError(f"{root} has no images to learn from: name their folder train/, not test/")
    splits = {
        split: _split(files, masks, split, cut, mask_cut)
        for split, files in by_split.items()
        if files
    }
    val = splits.get("val")
    if val is None and "test" in splits and splits["test"].names:
        val = splits["test"]
        notes.append("there is no val/: every round is measured on test/")
    if val is not None and not val.names:
        notes.append(f"{val.images} has no masks, so nothing can be measured on it: left out")
        val = None
    train = splits["train"]
    if masks and not train.names and val is None:
        one, image = masks[0], images[0]
        raise DataError(
            f"no mask belongs to an image: {one.place / (one.name + one.suffix)} has no image, and "
            f"{image.place / (image.name + image.suffix)} no mask: give {WANTED}"
        )
    return Layout(root, cut + suffix, mask_cut + mask_suffix, train, val, tuple(notes))


def _split(
    images: Iterable[_File], masks: Sequence[_File], split: str, cut: str, mask_cut: str
) -> Split:
    """One split: the masks of the same split belong to it, or those of no split at all."""
    images = list(images)
    names = {f.name.removesuffix(cut) for f in images if f.name.endswith(cut)}
    own = [f for f in masks if f.split == images[0].split] or [f for f in masks if f.split == ""]
    there = {f.name.removesuffix(mask_cut) for f in own if f.name.endswith(mask_cut)}
    place = _one_place(images)
    if not own or not names & there:
        return Split(place, None, (), tuple(sorted(names)))
    return Split(place, _one_place(own), tuple(sorted(names & there)), tuple(sorted(names - there)))


def _one_place(files: Sequence[_File]) -> Path:
    places = sorted({f.place for f in files})
    if len(places) > 1:
        raise DataError(
            f"images or masks of one kind are in several folders, {places[0]} and {places[1]}: "
            "put them into one (folders below images/ may be nested)"
        )
    return places[0]


def _endings(images: Sequence[_File], masks: Sequence[_File]) -> tuple[str, str]:
    """The endings of names, before the suffix, that make most masks belong to an image."""
    if not masks:
        return "", ""
    stems, others = [f.name for f in images], [f.name for f in masks]
    known = [e for e in {_tail(name) for name in others} if e.lower() in ENDINGS]
    pairs = [("", ""), *(("", e) for e in sorted(known)), ("", _common(others))]
    pairs += [(_common(stems), ""), (_common(stems), _common(others))]

    def matches(pair: tuple[str, str]) -> int:
        mine = {s.removesuffix(pair[0]) for s in stems if s.endswith(pair[0])}
        return len(mine & {s.removesuffix(pair[1]) for s in others if s.endswith(pair[1])})

    return max(pairs, key=matches)


def _tail(name: str) -> str:
    """The known ending of a name, as it is written; '' for none."""
    lower = name.lower()
    return next((name[-len(e) :] for e in ENDINGS if lower.endswith(e) and len(name) > len(e)), "")


def _common(names: Sequence[str]) -> str:
    """The longest ending from a separator on that all names share; '' for a single name."""
    if len(names) < 2:
        return ""
    first, last = min(name[::-1] for name in names), max(name[::-1] for name in names)
    many = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    shared = first[:many][::-1]
    starts = [i for i, letter in enumerate(shared) if letter in "_-."]
    return shared[starts[0] :] if starts else ""


def _flat(files: Sequence[_File]) -> tuple[list[_File], list[_File]]:
    """(masks, images) of files in one folder: a mask has the name of an image and an ending."""
    names = {(f.place, f.name) for f in files}
    masks = [
        f for f in files if _tail(f.name) and (f.place, f.name.removesuffix(_tail(f.name))) in names
    ]
    chosen = set(map(id, masks))
    return masks, [f for f in files if id(f) not in chosen]


def _file(base: Path, path: Path) -> _File:
    parts = path.relative_to(base).parts
    last, role, split = 0, "", ""
    for place, part in enumerate(parts[:-1], start=1):
        word = part.lower()
        if word in SPLITS and not split:
            last, split = place, SPLITS[word]
        elif word in IMAGES and not role:
            last, role = place, "image"
        elif word in MASKS and not role:
            last, role = place, "mask"
    suffix = path.suffix
    name = "/".join(parts[last:]).removesuffix(suffix)
    return _File(base, "/".join(parts[:last]), name, suffix, split, role)


def _unused(files: Sequence[_File]) -> list[str]:
    if not files:
        return []
    one = files[0]
    return [f"{len(files)} files are left out, such as {one.place / (one.name + one.suffix)}"]


def _folder(path: Path) -> Path:
    try:
        there = path.is_dir()
    except (OSError, ValueError):
        there = False
    if not there:
        there = os.path.lexists(os.fspath(path).partition("\0")[0])
        what = "is not a folder" if there else "does not exist"
        raise DataError(f"{os.fspath(path)!r} {what}: give the folder of your images")
    return path.absolute()


def _walk(root: Path) -> list[Path]:
    """The image files below a folder, sorted; hidden ones, links to folders and the index masks
    that `convert` has written beside other masks are left out."""
    found = []
    for place, folders, files in os.walk(root):
        made = {f"{name}_ids" for name in folders}
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in made)
        found += [
            Path(place, name)
            for name in files
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)
