"""Stands for srun: starts the tasks of a job step on this machine, as if on several nodes.

python fake_srun.py --ntasks=4 --ntasks-per-node=2 [other options] COMMAND ...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    options = {}
    words = sys.argv[1:]
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0).partition("=")
        options[name] = value
    if log := os.environ.get("FAKE_SRUN_LOG"):
        Path(log).write_text(json.dumps([options, words]))
    tasks, each = int(options["--ntasks"]), int(options["--ntasks-per-node"])
    nodes = -(-tasks // each)
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # so that tests at the same time have ports of their own
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": f"{each}(x{nodes})",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_CPUS_PER_TASK": options["--cpus-per-task"],
    }
    started = []
    for rank in range(tasks):
        own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank % each, "SLURM_NODEID": rank // each}
        variables = {name: str(value) for name, value in own.items()}
        started.append(subprocess.Popen(words, env={**os.environ, **job, **variables}))
    return max(process.wait() for process in started)


if __name__ == "__main__":
    sys.exit(main())
