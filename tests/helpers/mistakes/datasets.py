"""Mistakes in the images, masks, region maps and checkpoints that a run is started with."""

from __future__ import annotations

from typing import Any

from mistakes.commands import CONFIG, STREETS
from mistakes.table import Case

IMAGE = "data/images/train/train_0001.jpg"
MASK = "data/annotations/train/train_0001.png"
VAL_IMAGE = "data/images/val/val_0000.jpg"
VAL_MASK = "data/annotations/val/val_0000.png"
SHAPE = (32, 40)
NAMED = r"train_0001\.(jpg|png)"

POOL: list[tuple[str, tuple[Any, ...], str]] = [
    ("image empty", ("empty", IMAGE), NAMED),
    ("image cut in its header", ("cut", IMAGE, 30), NAMED),
    ("image a text", ("text", IMAGE, "not an image\n"), NAMED),
    ("image a folder", ("folder", IMAGE), NAMED),
    (
        "image of another kind",
        ("bytes", IMAGE, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n"),
        NAMED,
    ),
    ("image that claims 3600 megapixels", ("bomb", IMAGE), r"train_0001\.jpg.*pixels"),
    ("image a pickle", ("pickle", IMAGE), NAMED),
    ("image a link to nothing", ("link", "data/images/train/train_0009.jpg", "gone"), "train_0009"),
    (
        "image a link to itself",
        ("link", "data/images/train/train_0009.jpg", "train_0009.jpg"),
        "train_0009",
    ),
    ("image of another size", ("jpeg", IMAGE, (16, 40, 3)), r"train_0001.*16x40"),
    ("mask missing", ("remove", MASK), "train_0001.*annotation does not exist"),
    ("mask empty", ("empty", MASK), r"train_0001\.png"),
    ("mask cut", ("cut", MASK, -40), r"train_0001\.png"),
    ("mask cut in its header", ("cut", MASK, 20), r"train_0001\.png"),
    ("mask with a flipped byte", ("flip", MASK, 60), r"train_0001\.png"),
    ("mask a text", ("text", MASK, "0 0 0\n"), r"train_0001\.png"),
    ("mask a folder", ("folder", MASK), r"train_0001"),
    ("mask a JPEG", ("jpeg", MASK, SHAPE), r"train_0001\.png"),
    ("mask of another size", ("mask", MASK, (8, 8)), r"train_0001\.png is 8x8"),
    ("mask transposed", ("mask", MASK, SHAPE[::-1]), r"train_0001\.png is 40x32"),
    ("mask in colours", ("mask", MASK, (*SHAPE, 3)), r"train_0001\.png"),
    ("mask with alpha", ("mask", MASK, (*SHAPE, 4)), r"train_0001\.png"),
    ("mask of 16 bits", ("mask", MASK, SHAPE, 300, "uint16"), r"train_0001\.png"),
    (
        "mask with an id out of range",
        ("pixel", MASK, 77),
        r"train_0001\.png contains id 77 \(row 3",
    ),
    ("mask of another id", ("mask", MASK, SHAPE, 200), r"train_0001\.png contains id 200"),
    ("mask that claims 3600 megapixels", ("bomb", MASK), r"train_0001\.png.*pixels"),
    ("mask a pickle", ("pickle", MASK), r"train_0001\.png"),
    ("no images", ("folder", "data/images/train"), "no images|holds no image"),
    ("validation mask missing", ("remove", VAL_MASK), "val_0000.*(no annotation|does not exist)"),
    (
        "two images of one name",
        ("copy", "data/images/train/train_0001.png", "train_0000.jpg"),
        "train_0001",
    ),
    (
        "name that is not UTF-8",
        ("bytes name", IMAGE, b"caf\xe9.jpg"),
        "caf.*not valid UTF-8: rename",
    ),
]

VALIDATION: list[tuple[str, tuple[Any, ...], str]] = [
    ("validation image cut", ("cut", VAL_IMAGE, 40), "val_0000"),
    ("validation mask cut", ("cut", VAL_MASK, -40), r"val_0000\.png"),
    ("validation mask of another size", ("mask", VAL_MASK, (8, 8)), r"val_0000\.png"),
    ("validation id out of range", ("pixel", VAL_MASK, 200), r"val_0000\.png.*200"),
]

MAP = "maps/train_0001.png"
NPY = "maps/train_0001.npy"
MAPS: list[tuple[str, tuple[Any, ...], str]] = [
    ("missing", ("remove", MAP), r"train_0001\.png does not exist"),
    ("empty", ("empty", MAP), r"train_0001\.png"),
    ("cut", ("cut", MAP, 50), r"train_0001\.png"),
    ("of another size", ("mask", MAP, (8, 8)), r"train_0001\.png"),
    ("with alpha", ("mask", MAP, (*SHAPE, 4)), r"train_0001\.png"),
    ("a folder", ("folder", MAP), r"train_0001\.png"),
    ("that claims 3600 megapixels", ("bomb", MAP), r"train_0001\.png.*pixels"),
]
MAPS_NPY: list[tuple[str, tuple[Any, ...], str]] = [
    ("missing", ("remove", NPY), r"train_0001\.npy does not exist"),
    ("empty", ("empty", NPY), r"train_0001\.npy cannot be read"),
    ("cut", ("cut", NPY, -40), r"train_0001\.npy.*ends early"),
    (
        "of fractions",
        ("npy", NPY, [[0.5] * SHAPE[1]] * SHAPE[0], "float32"),
        r"train_0001\.npy holds float32",
    ),
    ("of objects", ("npy", NPY, [[None] * SHAPE[1]] * SHAPE[0], "O"), r"train_0001\.npy.*objects"),
    ("negative", ("npy", NPY, [[-1]], "int64"), r"train_0001\.npy"),
    ("of another size", ("npy", NPY, [[0]], "int64"), r"train_0001\.npy"),
    ("of one dimension", ("npy", NPY, [0, 1], "int64"), r"train_0001\.npy"),
    (
        "that claims a terabyte",
        ("claims", NPY, "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        r"train_0001\.npy is a map of 1000000x1000000",
    ),
    ("a pickle", ("pickle", NPY), r"train_0001\.npy"),
    ("ids of very large numbers", ("npy", NPY, [[2**62]], "int64"), r"train_0001\.npy"),
]

CHECKPOINTS: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", "a.pth"), r"a\.pth"),
    ("a text", ("text", "a.pth", "weights\n"), r"a\.pth"),
    ("a pickle", ("pickle", "a.pth"), r"a\.pth"),
    ("a whole module", ("model", "a.pth"), r"a\.pth.*weights_only"),
    ("a folder", ("folder", "a.pth"), r"a\.pth"),
    ("a list", ("torch", "a.pth", [1, 2]), r"a\.pth"),
    ("of another model", ("torch", "a.pth", {"state_dict": {"w": 3}}), r"a\.pth"),
]
ENSEMBLE = {"heuristic": {"type": "BALD", "checkpoints": ["a.pth", "a.pth"]}}

_ANOTHER_SUFFIX = ("image a folder", "two images of one name")
"""Not in the data set of the config, which lists files that end in .jpg."""

CASES: list[Case] = [
    *(Case(f"data {name}", "toy", {}, match, spoil=(damage,)) for name, damage, match in POOL),
    *(
        Case(f"data {name}", "toy", {}, match, spoil=(damage,))
        for name, damage, match in VALIDATION
    ),
    *(
        Case(
            f"region map {name}",
            "toy",
            {"region": {"type": "precomputed", "folder": "maps"}},
            match,
            start="maps",
            spoil=(damage,),
        )
        for name, damage, match in MAPS
    ),
    *(
        Case(
            f"region map NPY {name}",
            "toy",
            {"region": {"type": "precomputed", "folder": "maps", "suffix": ".npy"}},
            match,
            start="maps",
            spoil=(damage,),
        )
        for name, damage, match in MAPS_NPY
    ),
    *(
        Case(f"checkpoint {name}", "toy", ENSEMBLE, match, spoil=(damage,))
        for name, damage, match in CHECKPOINTS
    ),
    *(
        Case(
            f"train {name}",
            "train",
            [],
            match,
            spoil=(CONFIG, damage),
            environment=STREETS,
            marks=("mmseg1", "slow"),
        )
        for name, damage, match in [*POOL, *VALIDATION]
        if "link" not in name and name not in _ANOTHER_SUFFIX
    ),
]
