"""One rank of a training on open pixels: `torchrun mmseg_unlabeled_worker.py ROOT OUT`.
Writes a hash of the student and of the teacher, as this rank has them in the end."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from mmseg_tiny import fit_once, make_engine

from regional_al.engines.mmseg.self_training import SelfTraining
from regional_al.runtime import distributed as dist
from regional_al.store.labels import LabelStore

root, out = Path(sys.argv[1]), Path(sys.argv[2])
seen: list[Any] = []
update = SelfTraining.update


def watched(self: Any, student: Any) -> None:
    update(self, student)
    seen[:] = [student, self.teacher]


SelfTraining.update = watched  # type: ignore[method-assign]


def digest(tensors: Any) -> str:
    """Of finite tensors."""
    found = hashlib.sha256()
    for one in tensors:
        assert torch.isfinite(one).all()
        found.update(one.detach().numpy().tobytes())
    return found.hexdigest()


torch.set_num_threads(1)
engine = make_engine(root, {"acquisition.unlabeled": {"threshold": 0.4}})
engine.preflight()
result = fit_once(engine, LabelStore(root / "labels"), out)
student, teacher = seen
lines = [
    digest(student.parameters()),
    digest([*teacher.parameters(), *teacher.buffers()]),
    str(result.extra["unlabeled"]),
]
(out / f"rank-{dist.rank()}").write_text("\n".join(lines))
dist.barrier()
dist.end_process(0)
