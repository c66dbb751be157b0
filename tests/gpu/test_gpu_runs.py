"""On a GPU: every heuristic picks what it picks on the CPU, a run learns, and a killed one goes on.

`bash benchmarks/gpu.sh` runs these; without a CUDA device they skip.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from generation import mmseg_generation
from paths import ROOT

pytest.importorskip("PIL", reason="pillow is missing")
pytestmark = pytest.mark.gpu

from heuristic_contract import HERE, SPACE, VARIANTS, Scene  # noqa: E402

from regional_al import run  # noqa: E402
from regional_al.acquisition import scorer  # noqa: E402
from regional_al.engines.base import Prediction  # noqa: E402
from regional_al.runtime.progress import Stopwatch  # noqa: E402
from regional_al.testing import streets  # noqa: E402
from regional_al.testing.toy import toy_engine  # noqa: E402
from regional_al.types import FeatureMap, PredictRequest  # noqa: E402

# Where all arithmetic is the library's own kernels, so that not a bit may differ; the others use
# torch's softmax, norms or matrix products, whose last bits depend on the device.
EXACT = {"Random", "Entropy", "Margin", "LeastConfidence", "BvSB", "RIPU", "PixelPick"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    pytest.importorskip("skimage", reason="scikit-image is missing")
    return Scene(tmp_path_factory.mktemp("gpu"))


def on_gpu(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """The same numbers, in GPU memory."""
    for p in predictions:
        features = p.features
        if isinstance(features, FeatureMap):
            features = dataclasses.replace(features, values=features.values.cuda())
        elif features is not None:
            features = features.cuda()
        more = None if p.more is None else (logits.cuda() for logits in p.more)
        yield Prediction(p.index, p.logits.cuda(), more, features)


@pytest.mark.parametrize(("variant", "place"), HERE)
def test_the_picks_are_those_of_the_cpu(
    variant: str, place: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for where in ("cpu", "gpu"):
        acquirer = scene.acquirer(variant, place, tmp_path / where)
        acquirer.prepare()
        if where == "gpu":
            predict = acquirer.engine.predict
            monkeypatch.setattr(
                acquirer.engine, "predict", lambda *a, p=predict: on_gpu(p(*a)), raising=False
            )
        query = acquirer.query(1, scene.checkpoints[0], Stopwatch(), warm=False)
        assert query is not None
        found.append(query.picks)
    cpu, gpu = found
    if VARIANTS[variant][0]["type"] in EXACT and variant != "RIPU-published":
        assert cpu.tobytes() == gpu.tobytes()
    else:  # near ties may fall otherwise, with as good a score
        assert cpu["pixels"].sum() == gpu["pixels"].sum()
        scores = np.sort(cpu["score"]), np.sort(gpu["score"])
        np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-5)


def test_predictions_on_the_gpu_are_scored_beside_the_next_one(scene: Scene) -> None:
    engine = scene.engine()
    engine.device = "cuda"
    (prediction,) = engine.predict(scene.checkpoints[0], [0], PredictRequest())
    assert prediction.logits.is_cuda
    assert scorer.apart(prediction)


def test_a_run_on_the_gpu_learns(tmp_path: Path) -> None:
    data = streets.generate(tmp_path / "data", train=12, val=4, size=(64, 96), seed=1)
    engine = toy_engine(data, SPACE, iterations=60)
    engine.device = "cuda"
    config = {"heuristic": "RIPU", "region": {"type": "grid", "cell": 8}, "rounds": 2}
    run(engine, config, tmp_path / "run")
    rounds = json.loads((tmp_path / "run/results.json").read_text())["records"]
    assert [r["round"] for r in rounds] == [0, 1, 2]
    assert rounds[-1]["pixels"] > rounds[0]["pixels"]
    assert rounds[-1]["mIoU"] > 0.1


@pytest.mark.skipif(mmseg_generation() != "mmseg1", reason="MMSegmentation 1.x is not installed")
def test_one_process_with_nccl_and_amp_is_killed_and_goes_on(tmp_path: Path) -> None:
    """`dist_train.sh` on one GPU with mixed precision; SIGKILL after the first query."""
    streets.generate(tmp_path / "data", train=16, val=4, seed=1)
    work_dir = tmp_path / "run"
    command = [
        "bash",
        str(ROOT / "tools/dist_train.sh"),
        str(ROOT / "configs/streets/region_ripu_window.py"),
        "1",
        "--work-dir",
        str(work_dir),
        "--amp",
        "--cfg-options",
        "acquisition.rounds=1",
    ]
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "STREETS_ROOT": str(tmp_path / "data"),
    }
    log = (tmp_path / "log").open("w+")
    first = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    picks = work_dir / "rounds/001/query/picks.npy"
    for _ in range(1500):
        if picks.exists() or first.poll() is not None:
            break
        time.sleep(0.2)
    assert picks.exists(), log.seek(0) or log.read()[-3000:]
    before = picks.read_bytes()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert second.returncode == 0, second.stderr[-3000:]
    assert picks.read_bytes() == before
    rounds = json.loads((work_dir / "results.json").read_text())["records"]
    assert [r["round"] for r in rounds] == [0, 1]


def test_the_process_group_is_nccl_on_one_gpu(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(
        "import torch, torch.distributed as td\n"
        "from regional_al.runtime import distributed as dist\n"
        "assert dist.join_process_group() and td.get_backend() == 'nccl'\n"
        "total = torch.ones(3, device='cuda')\n"
        "td.all_reduce(total)\n"
        "assert total.tolist() == [1.0] * 3\n"
        "dist.end_process(0)\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    done = subprocess.run(
        [sys.executable, *launch, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
