"""`--launcher slurm`: the ranks of a run from the variables that `srun` gives to each task."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..checks import whole_number
from ..errors import ConfigError

NEEDED = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
FIRST_PORT, PORTS = 15000, 15000
"""Below those that systems give to outgoing connections."""
_NODES = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of torchrun for one task of a Slurm job step.

    Args:
        environment: Variables of the task. MASTER_ADDR, and MASTER_PORT or PORT, are kept where
            they are set.

    Returns:
        RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The port
        follows from the job and its step, so that two jobs on one machine do not meet.

    Raises:
        ConfigError: The process was not started by `srun`, or a variable makes no sense.

    Example:
        >>> job = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
        >>> job |= {"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
        >>> job |= {"SLURM_STEP_NODELIST": "gpu[07,09]", "SLURM_JOB_ID": "1234"}
        >>> found = ranks(job)
        >>> found["RANK"], found["LOCAL_WORLD_SIZE"], found["MASTER_ADDR"], found["MASTER_PORT"]
        ('3', '2', 'gpu07', '16234')
    """
    absent = [name for name in NEEDED if name not in environment]
    if absent:
        raise ConfigError(
            f"--launcher slurm needs srun's {absent[0]}, which is not set: start with "
            "`bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG`"
        )
    rank, world, local = (
        whole_number(name, environment[name], int(name == "SLURM_NTASKS")) for name in NEEDED
    )
    if rank >= world:
        raise ConfigError(f"SLURM_PROCID={rank} must be below SLURM_NTASKS={world}")
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    address = environment.get("MASTER_ADDR") or first_node(nodes)
    if not address:
        raise ConfigError("--launcher slurm needs SLURM_JOB_NODELIST, or MASTER_ADDR")
    # With one visible device for each task (--gpus-per-task), it is device 0 of every task.
    alone = environment.get("CUDA_VISIBLE_DEVICES", "").count(",") == 0
    device = 0 if alone and environment.get("CUDA_VISIBLE_DEVICES") else local
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(device),
        "LOCAL_WORLD_SIZE": str(tasks_here(environment, local + 1)),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(_port(environment)),
    }


def first_node(nodes: str) -> str:
    """The first host of a node list.

    Args:
        nodes: As Slurm writes it.

    Returns:
        Its name; '' for an empty list.

    Example:
        >>> first_node("n[01-04,07],gpu3"), first_node("rack[2,4]n[1-3]-ib"), first_node("a,b")
        ('n01', 'rack2n1-ib', 'a')
    """
    found = _NODES.match(nodes.strip())
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found[0]) if found else ""


def tasks_here(environment: Mapping[str, str], least: int = 1) -> int:
    """How many tasks of the step run on this node.

    Args:
        environment: Variables of the task.
        least: If that is not known.

    Returns:
        A number of at least 1.

    Example:
        >>> tasks_here({"SLURM_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"})
        3
    """
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE")
    node = environment.get("SLURM_NODEID", "0")
    groups = _TASKS.findall(text or "")
    counts = [int(many) for many, times in groups for _ in range(int(times or 1))]
    place = int(node) if node.isascii() and node.isdigit() else 0
    return max(least, counts[place] if place < len(counts) else least)


def _port(environment: Mapping[str, str]) -> int:
    for name in ("MASTER_PORT", "PORT"):
        if environment.get(name):
            port = whole_number(name, environment[name])
            if port > 65535:
                raise ConfigError(f"{name}={port} must be a port from 1 to 65535")
            return port
    numbers = [environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    known = [int(number) for number in numbers if number.isascii() and number.isdigit()]
    return FIRST_PORT + sum(known) % PORTS
