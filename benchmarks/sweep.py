"""One config of each family of the installed MMSegmentation 1.x, learning actively by config alone.

    make sweep                                       # resumes; about an hour on two idle cores
    .venv/bin/python benchmarks/sweep.py --only encnet,knet --again
    .venv/bin/python benchmarks/sweep.py --page      # docs/models.md from the results, nothing else

Each is mmseg's own file plus `acquisition=dict(level='region', heuristic='RIPU')`, run by
`regional-al train --smoke` on generated street scenes in the folders that mmseg's configs name: two
rounds of one iteration. A config that is refused is tried at image level as well. After each
family, benchmarks/results/models.json is written, and finished families are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from _common import RESULTS, write_result

from regional_al.cli import main as main_of_package
from regional_al.store.images import write_png
from regional_al.testing.streets import generate, make_scene

Row = dict[str, Any]
NAME = "models"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"
DATASETS = ("cityscapes", "ade20k", "coco-stuff164k", "nyu")
SMALL = (
    "r18",
    "hr18",
    "r50",
    "b0",
    "tiny",
    "-t_",
    "_t_",
    "-s_",
    "s12",
    "small",
    "slim",
    "base",
    "-b16",
)
"""Parts of names of configs, those of the smallest models first."""
BY_HAND = {
    "san": "Seen outside this sweep: with a file of that kind (random weights in its shapes) the "
    "image level finished two rounds of one iteration, in 27 minutes beside other work on two "
    "cores, with one template of text in place of 14 "
    "(`model.text_encoder.templates=['a photo of a {}.']`)",
    "dsdl": "with dsdl 0.1.10.11 and street scenes in DSDL form; the data sets themselves are "
    "those of OpenDataLab",
}
"""What else is known of a family, for the page."""
SECONDS = 400
OPTIONS = ("acquisition.rounds=1", "acquisition.iterations=1", "acquisition.previews=0")
LEVELS = ("region", "image")
NOISE = re.compile(r"\x1b\[[0-9;]*m")


def families() -> dict[str, Path]:
    """Name of a family -> its config with the smallest model, Cityscapes first."""
    import mmseg

    folder = Path(mmseg.__file__).parent / ".mim" / "configs"
    found = {}
    for family in sorted(folder.iterdir()):
        configs = sorted(family.glob("*.py")) if family.name != "_base_" else []
        if configs:
            found[family.name] = min(configs, key=lambda path: order(path.name))
    return found


def order(name: str) -> tuple[int, int, bool, int, str]:
    """The smaller, the better a config suits a sweep."""
    data = [one in name for one in (*DATASETS, "")].index(True)
    size = [one in name for one in (*SMALL, "")].index(True)
    return data, size, "769" in name, len(name), name


def make_data(root: Path) -> None:
    """Street scenes where mmseg's configs look for Cityscapes, ADE20K, COCO-Stuff and DSDL."""
    generate(root / "cityscapes", train=2, val=1, size=(128, 256), layout="cityscapes")
    for folder, splits, suffix in (
        ("ade/ADEChallengeData2016", ("training", "validation"), ""),
        ("coco_stuff164k", ("train2017", "val2017"), "_labelTrainIds"),
    ):
        for name, split, count in zip(splits, ("train", "val"), (2, 1), strict=True):
            for index in range(count):
                image, labels = make_scene(split, index, (128, 192))
                if not suffix:  # ADE20K: 0 is void, classes start at 1
                    labels = labels + 1  # 255 becomes 0
                place = root / folder
                write_png(place / "annotations" / name / f"{index:04d}{suffix}.png", labels)
                jpeg(place / "images" / name / f"{index:04d}.jpg", image)

    make_dsdl(root / "CityScapes")


def make_dsdl(root: Path) -> None:
    """Street scenes in the form of a data set of OpenDataLab (DSDL): YAML files that name classes
    and lists of samples; ids of masks are 0 = void, then the classes."""
    from mmseg.datasets import CityscapesDataset

    described = root / "dsdl/dsdl_SemSeg_full"
    classes = CityscapesDataset.METAINFO["classes"]  # the config names all of them
    names = "".join(f"        - {name.replace(' ', '_')}\n" for name in classes)
    parts = {
        "defs/classes": f"Streets:\n    $def: class_domain\n    classes:\n{names}",
        "defs/sample": "SegmentationSample:\n    $def: struct\n    $params: ['cdom']\n"
        "    $fields:\n        image: Image\n        semantic_map: LabelMap[dom=$cdom]\n",
    }
    for split, count in (("train", 2), ("val", 1)):
        parts[f"set-{split}/{split}"] = (
            "$import:\n    - ../defs/classes\n    - ../defs/sample\n"
            f"meta:\n    dataset_name: CityScapes\n    sub_dataset_name: {split}\n"
            "data:\n    sample-type: SegmentationSample[cdom=Streets]\n"
            f"    sample-path: {split}.json\n"
        )
        samples = []
        for index in range(count):
            image, labels = make_scene(split, index, (128, 256))
            files = [f"{kind}/{split}_{index}.png" for kind in ("image", "mask")]
            for file, pixels in zip(files, (image, labels + 1), strict=True):  # 255 becomes 0
                write_png(root / "raw/CityScapes" / file, pixels)
            samples.append(dict(zip(("image", "semantic_map"), files, strict=True)))
        listed = described / f"set-{split}/{split}.json"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(json.dumps({"samples": samples}), encoding="utf-8")
    for name, text in parts.items():
        path = described / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'$dsdl-version: "0.5.0"\n{text}', encoding="utf-8")


def jpeg(path: Path, image: Any) -> None:
    """Write a JPEG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=92)


def attempt(family: str, config: Path, level: str, folder: Path) -> Row:
    """One run: how it ended, how long it took, and what it said."""
    path = folder / f"{family}_{level}.py"
    path.write_text(
        f"_base_ = {str(config)!r}\nacquisition = dict(level={level!r}, heuristic='RIPU')\n"
        if level == "region"
        else f"_base_ = {str(config)!r}\nacquisition = dict(level='image', heuristic='Entropy')\n"
    )
    with tempfile.TemporaryDirectory() as work:
        command = ["train", str(path), "--smoke", "--no-report"]
        command += ["--work-dir", work, "--cfg-options", *OPTIONS]
        command += ["acquisition.budget=5%"] if level == "region" else []  # of two images
        start = time.monotonic()
        code, output = run(command, folder)
        seconds = time.monotonic() - start
    lines = [NOISE.sub("", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    replaced = [line for line in lines if line.startswith("replaced, so that unlabelled")]
    row: Row = {"level": level, "code": code, "seconds": round(seconds, 1)}
    row["replaced"] = replaced[0].partition(": ")[2] if replaced else ""
    row["why"] = "" if code == 0 else reason(code, lines)
    return row


def run(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """(exit code, output) of `regional-al` with these arguments, ended after a time: in a fork of
    this process, which has imported what every run needs."""
    with tempfile.TemporaryFile("w+") as output:
        process = os.fork()
        if process == 0:
            os.setsid()
            os.chdir(folder)
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
            code = 1
            try:
                code = main_of_package(list(command))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status, end = None, time.monotonic() + SECONDS
        while status is None and time.monotonic() < end:
            done, found = os.waitpid(process, os.WNOHANG)
            status = os.waitstatus_to_exitcode(found) if done else None
            time.sleep(0.1)
        if status is None:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            status = 124
        output.seek(0)
        return status, output.read()


def reason(code: int, lines: Sequence[str]) -> str:
    """Why a run ended: its error line."""
    if code == 124:
        return f"not done after {SECONDS} seconds"
    if code == -signal.SIGKILL:
        return "killed: out of memory"
    errors = [line for line in lines if line.lower().startswith("error:")]
    found = errors[-1].partition(":")[2].strip() if errors else (lines or ["no output"])[-1]
    found = re.sub(r"^/\S*\.py: ", "", found)
    if any(line.startswith("Traceback") for line in lines):
        found = f"crash: {found}"
    return found[:400]


def main() -> None:
    """Run what has not been run, write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="families, separated by commas")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--page", action="store_true", help="write docs/models.md alone")
    parser.add_argument("--minutes", type=float, default=1e9, help="start none after so many")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(json.loads((RESULTS / f"{NAME}.json").read_text())), encoding="utf-8")
        return
    rows = {row["family"]: row for row in stored()}
    wanted = [name for name in options.only.split(",") if name]
    begun = time.monotonic()
    os.environ.update(PYTHONWARNINGS="ignore", COLUMNS="1000")
    from regional_al.engines.mmseg1.ops import stand_in

    stand_in()
    import regional_al.engines.mmseg1.engine
    import regional_al.loop.runner  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "data")
        configs = families()
        for family in wanted or configs:
            config = configs[family]
            if family in rows and not options.again:
                continue
            if time.monotonic() - begun > 60 * options.minutes:
                break
            row: Row = {"family": family, "config": f"{family}/{config.name}", "tries": []}
            for level in LEVELS:
                row["tries"].append(attempt(family, config, level, Path(folder)))
                print(family, row["tries"][-1], flush=True)
                if row["tries"][-1]["code"] in (0, 124):
                    break
            rows[family] = row
            write_result(
                NAME,
                [rows[name] for name in sorted(rows)],
                mmsegmentation=metadata.version("onedl-mmsegmentation"),
                families=sorted(configs),
            )


def stored() -> list[Row]:
    """Rows of the results file; none where there is no file."""
    path = RESULTS / f"{NAME}.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.is_file() else []
    return rows


HEAD = """# Models

One config of each family of MMSegmentation {version}, as mmseg writes it, plus

```python
acquisition = dict(level='region', heuristic='RIPU')
```

run with `--smoke` on the CPU: two rounds of one iteration, on generated scenes. Of {total} families
{tried} have been tried: **{region} run at region level**, {image} more at image level. `make sweep`
tries those that are missing and writes this page. *Seconds* are those of a whole smoke run on a
busy machine, one or two threads, imports not included. Losses and heads marked *replaced* are those
of [sparse labels](sparse_labels.md). mmcv had no compiled operators. convnext and
poolformer need mmpretrain, maskformer and mask2former mmdet, dsdl the package dsdl (0.1.10.11 was
tried): without them they are refused by one line that names the package.

| family | config | level | seconds | |
|---|---|---|---|---|
"""


def page(found: Mapping[str, Any]) -> str:
    """docs/models.md."""
    rows = found["rows"]
    best = [last(row) for row in rows]
    lines = []
    for row, end in zip(rows, best, strict=True):
        level = end["level"] if end["code"] == 0 else "none"
        told = row["tries"][0]["why"]
        if not told and end["replaced"]:
            told = f"*replaced*: {end['replaced']}"
        if end["why"] not in ("", told):
            told += f". At image level: {end['why']}"
        told = ". ".join(part for part in (told, BY_HAND.get(row["family"])) if part)
        told = told.replace("|", "\\|").replace("<", "&lt;")
        name = row["config"].partition("/")[2].removesuffix(".py")
        lines.append(f"| {row['family']} | `{name}` | {level} | {end['seconds']:.0f} | {told} |")
    text = HEAD.format(
        version=found["mmsegmentation"],
        total=len(found["families"]),
        tried=len(rows),
        region=sum(end["code"] == 0 and end["level"] == "region" for end in best),
        image=sum(end["code"] == 0 and end["level"] == "image" for end in best),
    )
    rest = [name for name in found["families"] if name not in {row["family"] for row in rows}]
    end = f"\nNot tried yet: {', '.join(rest)}.\n" if rest else ""
    return text + "\n".join(lines) + "\n" + end


def last(row: Mapping[str, Any]) -> Row:
    """The last try of a family."""
    found: Row = row["tries"][-1]
    return found


if __name__ == "__main__":
    main()
