"""One rank of a training on two domains: `torchrun mmseg_source_worker.py CONFIG LABELS OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from mmseg_tiny import fit_once, weights_hash

from regional_al import engines
from regional_al.runtime import distributed as dist
from regional_al.store.labels import LabelStore

config, labels, out = map(Path, sys.argv[1:])
engine = engines.load(config, {}, out).build()
engine.preflight()
result = fit_once(engine, LabelStore(labels), out)
(out / f"hash-{dist.rank()}").write_text(weights_hash(result.checkpoint))
dist.barrier()
dist.end_process(0)
