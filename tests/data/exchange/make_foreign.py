"""Write foreign.json: masks, and what the labelling tools' own code makes of them.

Run it with `make foreign-exchange`, which installs the versions that the file names. Label Studio's
SDK is loaded from its one file: the package imports seventy others that the codec does not need.
"""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
from cvat_sdk.masks import encode_mask
from pycocotools import mask as cocomask

OUT = Path(__file__).with_name("foreign.json")


def brush() -> ModuleType:
    """`label_studio_sdk.converter.brush`, without its package."""
    package = importlib.util.find_spec("label_studio_sdk")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("label_studio_brush", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    found = {
        "empty": np.zeros((3, 5), bool),
        "full": np.ones((6, 4), bool),
        "pixel": np.zeros((7, 9), bool),
        "windows": np.zeros((17, 23), bool),
        "ring": np.zeros((20, 20), bool),
        "noise": rng.random((13, 31)) < 0.4,
        "long runs": np.zeros((70, 300), bool),
        "line": np.ones((1, 1), bool),
    }
    found["pixel"][4, 6] = True
    for row, col in ((0, 0), (5, 7), (14, 20)):
        found["windows"][row : row + 3, col : col + 3] = True
    found["ring"][2:18, 3:17] = True
    found["ring"][6:12, 7:13] = False
    found["long runs"][-1] = True
    return found


def main() -> None:
    encode_rle, to_rgba = brush().encode_rle, lambda mask: np.repeat(mask.ravel() * 255, 4)
    entries = {}
    for name, mask in masks().items():
        rle = cocomask.encode(np.asfortranarray(mask.astype(np.uint8)))
        rgba = to_rgba(mask).reshape(-1, 4)
        tinted = rgba.copy()
        tinted[mask.ravel(), :3] = (10, 200, 30)  # the front end keeps the colour of the brush
        entries[name] = {
            "shape": mask.shape,
            "bits": np.packbits(mask).tobytes().hex(),
            "coco": rle["counts"].decode("ascii"),
            "cvat": encode_mask(mask),
            "cvat loose": encode_mask(mask, bbox=[0, 0, mask.shape[1], mask.shape[0]]),
            "label-studio": [int(b) for b in encode_rle(rgba.ravel())],
            "label-studio tinted": [int(b) for b in encode_rle(tinted.ravel())],
        }
    names = ("pycocotools", "cvat_sdk", "label_studio_sdk")
    content = {"versions": {name: version(name) for name in names}, "masks": entries}
    lines = json.dumps(content, separators=(",", ":")).replace('},"', '},\n"')
    OUT.write_text(lines + "\n")


if __name__ == "__main__":
    main()
