"""One rank of a run of the tiny config: `torchrun mmseg_worker.py ROOT OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mmseg_tiny import fit_once, weights_hash

from regional_al import engines
from regional_al.runtime import distributed as dist
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

root, out = Path(sys.argv[1]), Path(sys.argv[2])
engine = engines.load(root / "tiny.py", {}, root / "work").build()
engine.preflight()
store = LabelStore(root / "labels")
first = fit_once(engine, store, out / "first", until=2)
result = fit_once(engine, store, out / "second", until=-1, previous=first.checkpoint, seed=4)
confusion = engine.evaluate(result.checkpoint)
mine = range(dist.rank(), len(engine.pool), dist.world_size())
for prediction in engine.predict(result.checkpoint, mine, PredictRequest()):
    np.save(out / f"logits-{prediction.index}.npy", prediction.logits.numpy())
if dist.is_main():
    np.save(out / "confusion.npy", confusion)
    share = [result.label_share, result.extra["samples"]]
    np.save(out / "share.npy", np.array(share))
(out / f"hash-{dist.rank()}").write_text(weights_hash(result.checkpoint))
dist.barrier()
dist.end_process(0)
