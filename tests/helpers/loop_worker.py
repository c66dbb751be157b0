"""A run of the toy engine in a process of its own: python loop_worker.py DATA WORK_DIR JSON.

Under torchrun's environment variables it joins the gloo group first. Used by the tests that kill
runs and by those that compare numbers of processes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as td

from regional_al.config import grammar as config
from regional_al.loop import runner
from regional_al.runtime import distributed as dist
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace


def main() -> None:
    torch.set_num_threads(1)
    data, work_dir, acquisition = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    if "RANK" in os.environ:
        td.init_process_group("gloo")
    space = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
    work_dir.mkdir(parents=True, exist_ok=True)
    runner.run(toy_engine(data, space), config.parse(acquisition), work_dir)
    dist.end_process(0)


if __name__ == "__main__":
    main()
