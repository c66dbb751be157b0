"""`regional-al demo [FOLDER]`: street scenes from a seed, rounds of region RIPU, report.html."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from .. import shipped
from ..checks import whole_number
from ..errors import EnvironmentProblem
from ..store.ledger import Ledger
from . import train

DATA, RUN = "streets", "run"
SLIC, WINDOW = "streets/region_ripu_slic.py", "streets/region_ripu_window.py"
OLD = "mmseg0/streets_region_ripu.py"


def run(args: argparse.Namespace) -> int:
    """Make the data and run, or resume, the demo in `args.folder`. Returns the exit code."""
    processes = whole_number("--gpus", args.gpus)
    train.set_threads(processes)  # before torch is imported
    from ..engines.loading import generation
    from ..testing import streets

    config = shipped.config(choose(generation(), importlib.util.find_spec("skimage") is not None))
    folder = args.folder.absolute()
    data, work_dir = folder / DATA, folder / RUN
    print(f"{config.stem}: street scenes in {data}, the run in {work_dir}", flush=True)
    streets.generate(data)
    os.environ["STREETS_ROOT"] = str(data)  # where the config looks for them
    more = ["--work-dir", str(work_dir), *(["--resume"] if Ledger.exists(work_dir) else [])]
    code = _start(config, processes, more)
    if code == 0:
        print(f"config: {config}\nnext: regional-al init FOLDER makes one for your own images")
    return code


def choose(generation: str | None, superpixels: bool) -> str:
    """The config of the demo.

    Args:
        generation: Engine whose packages are installed, None: none.
        superpixels: Whether scikit-image, which makes SLIC superpixels, is installed.

    Returns:
        Its path below `configs/`.

    Raises:
        EnvironmentProblem: No MMSegmentation is installed.

    Example:
        >>> choose("mmseg1", superpixels=True)
        'streets/region_ripu_slic.py'
    """
    if generation is None:
        raise EnvironmentProblem(
            "the demo needs MMSegmentation, which is not installed: "
            "pip install 'regional-al[mmseg1,fast]'"
        )
    if generation == "mmseg0":
        return OLD
    if not superpixels:
        print(
            "scikit-image is not installed: windows instead of superpixels "
            "(pip install scikit-image)"
        )
        return WINDOW
    return SLIC


def _start(config: Path, processes: int, more: list[str]) -> int:
    if processes > 1:
        from . import launch

        return launch.run(config, str(processes), more)
    from . import build_parser

    return train.run(build_parser().parse_args(["train", str(config), *more]))
