"""A run of the toy engine in a process of its own:
python loop_worker.py DATA WORK_DIR JSON [--alone] [--kill-at-fit N [--kill-rank R]].

Under torchrun's environment variables it joins the gloo group first. Used by the tests that kill
runs and by those that compare numbers of processes. A JSON list makes run after run in WORK_DIR/0,
WORK_DIR/1 and so on. `--alone` runs the exported
loop instead of `regional_al.run`; `--kill-at-fit N` is killed by SIGKILL when its N-th training
begins: with `--kill-rank R` rank R alone, for which the others then wait as a collective of NCCL
does, for hours, SIGTERM or not. A user's error ends the process with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as td

import regional_al
from regional_al.annotators import OracleAnnotator
from regional_al.engines.torch import TorchEngine
from regional_al.errors import RegionalALError
from regional_al.loop import runner
from regional_al.runtime import distributed as dist
from regional_al.runtime import signals
from regional_al.testing.toy import toy_engine


def kill_at_fit(number: int, victim: int | None) -> None:
    fit, calls = TorchEngine.fit, 0

    def dying(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            if victim in (None, dist.rank()):
                os.kill(os.getpid(), signal.SIGKILL)
            with signals.noted():
                time.sleep(600)
        return fit(*args)

    TorchEngine.fit = dying  # type: ignore[method-assign]


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("acquisition", type=json.loads)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--kill-at-fit", type=int)
    parser.add_argument("--kill-rank", type=int)
    args = parser.parse_args()
    if "RANK" in os.environ:
        td.init_process_group("gloo")
    if args.kill_at_fit:
        kill_at_fit(args.kill_at_fit, args.kill_rank)
    runs = {args.work_dir: args.acquisition}
    if isinstance(args.acquisition, list):
        runs = {args.work_dir / str(place): one for place, one in enumerate(args.acquisition)}
    try:
        for work_dir, acquisition in runs.items():
            engine = toy_engine(args.data)
            if args.alone:
                oracle = OracleAnnotator(engine.pool, engine.label_space)
                regional_al.ActiveLearningLoop(engine, acquisition, oracle, work_dir).run()
            else:
                runner.run(engine, acquisition, work_dir, report=False)
    except RegionalALError as error:
        print(error, file=sys.stderr, flush=True)
        dist.end_process(2)
        sys.exit(2)
    dist.end_process(0)


if __name__ == "__main__":
    main()
