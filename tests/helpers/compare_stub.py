"""Stands in for `regional-al train` of one run: python compare_stub.py WORK_DIR FOLDER.

FOLDER/behave.json says by run (`RIPU/seed0`) what it does: 'ok' (default), 'fail', 'crash',
'kill', 'wait', 'slow' or 'sleep'; FOLDER/results.json is what it leaves. With `compare` first it is
the command line itself, with this stub in place of training.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def train(work_dir: Path, folder: Path) -> int:
    from regional_al.cli.train import follow_parent

    follow_parent()
    name = "/".join(work_dir.parts[-2:])
    with (folder / "started").open("a") as file:
        file.write(f"{name} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    how = json.loads((folder / "behave.json").read_text()).get(name, "ok")
    print("a line of progress", flush=True)
    if how == "fail":
        print("error: no space left on device\nbye", flush=True)
        return 2
    if how == "crash":
        raise ValueError("a bug")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("sleep", "slow"):
        time.sleep(120 if how == "sleep" else 0.5)
    results = json.loads((folder / "results.json").read_text())
    results["acquisition"]["seed"] = int(name[-1])
    if how == "wait":
        results["stopped"], results["records"] = None, results["records"][:1]
    temporary = work_dir / "results.tmp"
    temporary.write_text(json.dumps(results))
    shutil.move(temporary, work_dir / "results.json")
    return 0


def compare(folder: Path, arguments: list[str]) -> int:
    from regional_al import cli
    from regional_al.compare import plan, runner

    base = {"level": "region", "region": {"type": "grid", "cell": 8}, "rounds": 2}
    plan.load_recipe = lambda config, options, amp=False: plan.Recipe(config, base, "abc")
    runner.train_command = lambda run, processes, options, amp: [
        sys.executable,
        __file__,
        str(run.work_dir),
        str(folder),
    ]
    return cli.main(
        ["compare", str(folder / "config.py"), "--out", str(folder / "out"), *arguments]
    )


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        sys.exit(compare(Path(sys.argv[2]), sys.argv[3:]))
    sys.exit(train(Path(sys.argv[1]), Path(sys.argv[2])))
