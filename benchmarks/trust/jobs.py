"""Runs in processes that can be killed: how they are started, and how two ends are compared.

Processes are forked from a server that has imported the framework once, so that a start costs
milliseconds. What runs in them is what a user starts: `regional_al.run` or `regional-al train`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "tests/helpers"
if str(HELPERS) not in sys.path:
    sys.path.append(str(HELPERS))
ENGINES = ("torch", "mmseg1", "mmseg0")
STAGES = ("query", "answers", "fit", "evaluate")
STATE = "resume.pth"
LIMIT_S = 300.0
_PRELOAD = {
    "torch": ["regional_al.engines.torch", "regional_al.testing.toy"],
    "mmseg1": ["mmseg.apis", "regional_al.engines.mmseg1.engine"],
    "mmseg0": ["mmseg.apis", "regional_al.engines.mmseg0.engine"],
}
# A network whose iterations take less time than the start of a process.
_MODEL = """
backbone = dict(
    _delete_=True, type="UNet", in_channels=3, base_channels=8, num_stages=3, strides=(1, 1, 1),
    enc_num_convs=(1, 1, 1), dec_num_convs=(1, 1), downsamples=(True, True),
    enc_dilations=(1, 1, 1), dec_dilations=(1, 1), norm_cfg=dict(type="SyncBN", requires_grad=True))
decode_head = dict(
    _delete_=True, type="FCNHead", in_channels=8, in_index=2, channels=8, num_convs=1,
    concat_input=False, dropout_ratio=0.1, num_classes=11, align_corners=False,
    norm_cfg=dict(type="SyncBN", requires_grad=True),
    loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0))
model = dict(backbone=backbone, decode_head=decode_head)
"""
_CONFIGS = {
    "mmseg1": f"""
_base_ = {str(ROOT / "configs/streets/region_ripu_slic.py")!r}
{_MODEL}
train_cfg = dict(max_iters=8, val_interval=8)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=8, by_epoch=False)]
train_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2))
acquisition = dict(rounds=2, previews=0, region=dict(type="slic", n_segments=40))
""",
    "mmseg0": f"""
_base_ = {str(ROOT / "configs/mmseg0/streets_region_ripu.py")!r}
{_MODEL}
runner = dict(max_iters=8)
data = dict(samples_per_gpu=2)
checkpoint_config = dict(_delete_=True, by_epoch=False, interval=2)
acquisition = dict(rounds=2, previews=0, region=dict(type="slic", n_segments=40))
""",
}


@dataclass(frozen=True)
class Setup:
    """What is run.

    Args:
        engine: One of `ENGINES`.
        data: Street scenes.
        acquisition: For the engine `torch`; the others have it in their config.
        iterations: Length of a training of the engine `torch`.
    """

    engine: str
    data: Path
    acquisition: dict[str, Any] = field(default_factory=dict)
    iterations: int = 20

    def write_config(self) -> None:
        """Write the config of an MMSegmentation engine beside the data."""
        if self.engine != "torch":
            self.config.write_text(_CONFIGS[self.engine])

    @property
    def config(self) -> Path:
        return self.data.parent / f"{self.engine}.py"


def _enter(setup: Setup, work_dir: Path, log: Path, rank: int, ranks: int, port: int) -> None:
    """The body of a process: one rank of a run, its output in a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ["STREETS_ROOT"] = str(setup.data)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(1)
    if ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    from regional_al.cli import main
    from regional_al.cli.outcome import fail
    from regional_al.errors import RegionalALError
    from regional_al.runtime import distributed as dist

    if setup.engine != "torch":
        folder = ["--work-dir", str(work_dir)]
        code = main(["train", str(setup.config), *folder, "--resume", "--no-report"])
        dist.end_process(code)
        sys.exit(code)
    from regional_al.loop import runner
    from regional_al.testing.toy import toy_engine

    dist.join_process_group()
    engine = toy_engine(setup.data, iterations=setup.iterations)
    engine.save_interval = 5
    try:
        runner.run(engine, setup.acquisition, work_dir, report=False)
        code = 0
    except RegionalALError as error:
        code = fail(str(error), error.exit_code)
    dist.end_process(code)
    sys.exit(code)


class Launcher:
    """Starts runs of one engine.

    Args:
        engine: One of `ENGINES`; it is imported once, in the server.
    """

    def __init__(self, engine: str) -> None:
        paths = [str(Path(__file__).parent), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # read by the server
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["warm", *_PRELOAD[engine]])

    def start(self, setup: Setup, work_dir: Path, ranks: int = 1, log: Path | None = None) -> Job:
        """Start, or resume, a run; its output is added to `log`."""
        log = log or work_dir.with_suffix(".log")
        port = _free_port()
        processes = [
            self._context.Process(
                target=_enter, args=(setup, work_dir, log, rank, ranks, port), daemon=True
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        return Job(processes, log)

    def run(self, setup: Setup, work_dir: Path, ranks: int = 1, log: Path | None = None) -> Job:
        """Start a run and wait until it has ended."""
        job = self.start(setup, work_dir, ranks, log)
        job.wait()
        return job


@dataclass
class Job:
    """The processes of a run."""

    processes: list[Any]
    log: Path

    def wait(self, limit: float = LIMIT_S) -> int:
        """Exit code of rank 0, or -1 if the run had to be ended after `limit` seconds."""
        deadline = time.monotonic() + limit
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        if self.alive():
            self.kill(random.Random(0))
            return -1
        return int(self.processes[0].exitcode)

    def alive(self) -> bool:
        return any(process.exitcode is None for process in self.processes)

    def kill(self, rng: random.Random) -> bool:
        """SIGKILL to one rank, then within 50 ms to the others. Returns whether it hit one."""
        order = rng.sample(self.processes, len(self.processes))
        hit = order[0].exitcode is None
        for number, process in enumerate(order):
            if number:
                time.sleep(rng.uniform(0, 0.05))
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL)
        for process in order:
            process.join()
        return hit

    def said(self) -> str:
        """Everything that the runs of this work dir have printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ending(work_dir: Path, weights: bool = True) -> dict[str, str]:
    """What two runs that ended alike have in common: name -> hash.

    Queries, labels and sidecars byte by byte; every tensor of every checkpoint; what the ledger
    and results.json say, without times and durations.

    Args:
        work_dir: Of a run.
        weights: Whether checkpoints and scores are compared, not only picks and labels.
    """
    found: dict[str, str] = {}
    for pattern in ("rounds/*/query/**/*", "labels/**/*.png"):
        for path in work_dir.glob(pattern):
            if path.is_file():
                found[str(path.relative_to(work_dir))] = _hash(path.read_bytes())
    ledger = sqlite3.connect(f"file:{work_dir / 'ledger.sqlite'}?mode=ro", uri=True)
    for table in ("answers", "labels"):
        rows = _columns(ledger, table)
        found[table] = _hash(repr(rows).encode())
    for round_, stage, text in ledger.execute("SELECT round, stage, payload FROM stages"):
        payload = {key: value for key, value in json.loads(text).items() if key != "seconds"}
        if weights or stage not in ("fit", "evaluate"):
            found[f"{stage} of round {round_}"] = json.dumps(payload, sort_keys=True)
    ledger.close()
    if not weights:
        return found
    import torch
    from checkpoints import leaves

    for path in work_dir.glob("rounds/*/fit/checkpoint.pth"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("model", "state_dict", "optimizer", "param_schedulers"):
            for name, value in leaves(content.get(key), key):
                found[f"{path.parent.parent.name} {name}"] = _hash(value)
    for record in json.loads((work_dir / "results.json").read_text())["records"]:
        kept = {key: value for key, value in record.items() if "second" not in key}
        found[f"record {record['round']}"] = json.dumps(kept, sort_keys=True)
    return found


def seconds_of(work_dir: Path, stage: str) -> float:
    """How long a stage of a finished run took on average."""
    ledger = sqlite3.connect(f"file:{work_dir / 'ledger.sqlite'}?mode=ro", uri=True)
    ((found,),) = ledger.execute("SELECT AVG(seconds) FROM stages WHERE stage = ?", (stage,))
    ledger.close()
    return float(found)


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of what is not the same in two endings."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _columns(ledger: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """The rows of a table by name of the column, without times and what depends on the disk."""
    found = ledger.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found]
    rows.sort(key=lambda row: [str(row.get(name)) for name in ("kind", "round", "key")])
    return [{name: row[name] for name in sorted(row) if name not in _INCIDENTAL} for row in rows]


_INCIDENTAL = frozenset({"seconds", "time", "finished", "size", "mtime", "inode", "file"})
"""Columns of the ledger that differ between two runs that ended alike."""


def stopped_in(work_dir: Path) -> str:
    """The stage that a killed run was in; 'start' before its ledger, 'end' after its last round."""
    path = work_dir / "ledger.sqlite"
    if not path.exists():
        return "start"
    with tempfile.TemporaryDirectory() as name:  # SQLite rolls back what the kill left: in a copy
        for file in work_dir.glob("ledger.sqlite*"):
            shutil.copy(file, name)
        ledger = sqlite3.connect(Path(name) / path.name)
        ((count,),) = ledger.execute("SELECT COUNT(*) FROM stages").fetchall()
        ((text,),) = ledger.execute("SELECT value FROM meta WHERE key = 'acquisition'").fetchall()
        ledger.close()
    if count >= len(STAGES) * (json.loads(text)["rounds"] + 1):
        return "end"
    return STAGES[count % len(STAGES)]


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
