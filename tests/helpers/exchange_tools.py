"""Labelling tools in miniature: they open an export, draw masks on top, and save it as their own.

Their encoders are written pixel by pixel from the descriptions of the formats, and share nothing
with `regional_al.exchange.codecs`.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

Drawn = list[tuple[str, np.ndarray]]
"""(label, bool [H, W]) from the bottom up."""
FORMATS = ("coco", "cvat", "label-studio", "labelme", "supervisely", "voc")


def runs(bits) -> list[int]:
    """Lengths of runs, zeros first."""
    found = [(bit, len(list(group))) for bit, group in groupby(bool(b) for b in bits)]
    return ([0] if found and found[0][0] else []) + [length for _, length in found]


def coco_counts(mask: np.ndarray) -> list[int]:
    return runs(mask[row][col] for col in range(mask.shape[1]) for row in range(mask.shape[0]))


def coco_string(counts: list[int]) -> str:
    """As `rleToString` in cocoapi's maskApi.c."""
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        while True:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
            if not more:
                break
    return text


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom, all inclusive."""
    rows, cols = np.nonzero(mask)
    return int(cols.min()), int(rows.min()), int(cols.max()), int(rows.max())


def brush_bytes(mask: np.ndarray, colour=(10, 200, 30)) -> list[int]:
    """rle-pack of the RGBA pixels, with literal pieces where values do not repeat."""
    values: list[int] = []
    for bit in mask.ravel():
        values += [*colour, 255] if bit else [0, 0, 0, 0]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    literals: list[int] = []

    def piece(flag: str, length: int) -> str:
        for index, size in enumerate((3, 4, 8, 16)):
            if length <= 1 << size:
                return f"{flag}{index:02b}{length - 1:0{size}b}"
        raise AssertionError

    def flush() -> str:
        out = ""
        for start in range(0, len(literals), 300):
            part = literals[start : start + 300]
            out += piece("0", len(part)) + "".join(f"{v:08b}" for v in part)
        literals.clear()
        return out

    for value, group in groupby(values):
        left = len(list(group))
        if left < 3:
            literals.extend([value] * left)
            continue
        bits += flush()
        while left:
            length = min(left, 1 << 16)
            bits += piece("1", length) + f"{value:08b}"
            left -= length
    bits += flush()
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def png(pixels: np.ndarray, mode: str | None = None, palette=None, **options) -> bytes:
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    if palette is not None:
        image.putpalette(palette)
    out = io.BytesIO()
    image.save(out, format="PNG", **options)
    return out.getvalue()


def unzip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def keys_of(files: dict[str, bytes]) -> dict[str, str]:
    """File name of each image in an export -> its key."""
    images = json.loads(files["manifest.json"])["images"]
    return {entry["file"]: entry["key"] for entry in images.values()}


def draw(to: str, exported: Path, out: Path, drawn: dict[str, Drawn], bare: bool = False) -> Path:
    """Open an export, draw on top of what is there, and save it as the tool does.

    Args:
        to: The format.
        exported: The zip.
        out: The zip that the tool writes.
        drawn: Key of an image -> masks.
        bare: Annotations alone, as from a tool that knows nothing of our other files.

    Returns:
        `out`.
    """
    files = unzip(exported)
    keys = keys_of(files)
    globals()[f"_draw_{to.replace('-', '_')}"](files, keys, drawn)
    if bare:
        keep = (".xml", ".json", "labelmap.txt")
        files = {
            name: data
            for name, data in files.items()
            if name.endswith(keep) or name.startswith("SegmentationClass/")
        }
        for name in ("manifest.json", "label_config.xml", "labels.json"):
            files.pop(name, None)
    return rezip(out, files)


def _draw_coco(files, keys, drawn) -> None:
    content = json.loads(files["annotations.json"])
    numbers = {c["name"]: c["id"] for c in content["categories"]}
    for image in content["images"]:
        for i, (label, mask) in enumerate(drawn.get(keys[image["file_name"]], [])):
            counts = coco_counts(mask)
            segmentation = {
                "size": list(mask.shape),
                "counts": counts if i % 2 else coco_string(counts),
            }
            content["annotations"].append(
                {
                    "id": 1000 + len(content["annotations"]),
                    "image_id": image["id"],
                    "category_id": numbers[label],
                    "segmentation": segmentation,
                }
            )
    files["annotations.json"] = json.dumps(content).encode()


def _draw_cvat(files, keys, drawn) -> None:
    root = ElementTree.fromstring(files["annotations.xml"])
    for image in root.iter("image"):
        for label, mask in drawn.get(keys[image.get("name")], []):
            if not mask.any():
                continue
            left, top, right, bottom = box_of(mask)
            inner = mask[top : bottom + 1, left : right + 1]
            ElementTree.SubElement(
                image,
                "mask",
                label=label,
                rle=", ".join(map(str, runs(inner.ravel()))),
                left=str(left),
                top=str(top),
                width=str(right - left + 1),
                height=str(bottom - top + 1),
                z_order="1",
            )
    files["annotations.xml"] = ElementTree.tostring(root, encoding="utf-8")


def _draw_label_studio(files, keys, drawn) -> None:
    tasks = json.loads(files["tasks.json"])
    for task in tasks:
        url = task["data"]["image"]
        file = next(name for name in keys if Path(name).stem[-12:] in url)
        task["data"]["image"] = f"/data/upload/1/9c01ae2f-{file}"
        prediction = task["predictions"][0]["result"]
        sizes = {"original_width": 0, "original_height": 0}
        result = [dict(one) for one in prediction]
        for label, mask in drawn.get(keys[file], []):
            sizes = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
            value = {"format": "rle", "rle": brush_bytes(mask), "brushlabels": [label]}
            frame = {"id": f"x{len(result)}", "type": "brushlabels", "origin": "manual"}
            names = {"from_name": "label", "to_name": "image", "image_rotation": 0}
            result.append({**frame, **names, **sizes, "value": value})
        task["annotations"] = [{"id": 5, "was_cancelled": False, "result": result}]
    files["tasks.json"] = json.dumps(tasks).encode()


def _draw_labelme(files, keys, drawn) -> None:
    for name in [n for n in files if n.endswith(".json") and n != "manifest.json"]:
        content = json.loads(files[name])
        for label, mask in drawn.get(keys[content["imagePath"]], []):
            if not mask.any():
                continue
            left, top, right, bottom = box_of(mask)
            inner = mask[top : bottom + 1, left : right + 1]
            content["shapes"].append(
                {
                    "label": label,
                    "points": [[left, top], [right, bottom]],
                    "shape_type": "mask",
                    "mask": base64.b64encode(png(inner, "1")).decode(),
                }
            )
        files[name] = json.dumps(content).encode()


def _draw_supervisely(files, keys, drawn) -> None:
    for name in [n for n in files if "/ann/" in n]:
        content = json.loads(files[name])
        for label, mask in drawn.get(keys[Path(name).name.removesuffix(".json")], []):
            if not mask.any():
                continue
            left, top, right, bottom = box_of(mask)
            inner = mask[top : bottom + 1, left : right + 1].astype(np.uint8)
            image = png(inner, palette=[0, 0, 0, 255, 255, 255], transparency=0)
            data = base64.b64encode(zlib.compress(image)).decode()
            bitmap = {"data": data, "origin": [left, top]}
            content["objects"].append(
                {"classTitle": label, "geometryType": "bitmap", "bitmap": bitmap}
            )
        files[name] = json.dumps(content).encode()


def _draw_voc(files, keys, drawn) -> None:
    """An editor of pixels, which saves RGB."""
    colours = {}
    for line in files["labelmap.txt"].decode().splitlines()[1:]:
        name, colour, _, _ = line.rsplit(":", 3)
        colours[name] = tuple(int(v) for v in colour.split(","))
    stems = {Path(file).stem: key for file, key in keys.items()}
    for name in [n for n in files if n.startswith("SegmentationClass/")]:
        pixels = np.array(Image.open(io.BytesIO(files[name])).convert("RGB"))
        for label, mask in drawn.get(stems[Path(name).stem], []):
            pixels[mask] = colours[label]
        files[name] = png(pixels)
