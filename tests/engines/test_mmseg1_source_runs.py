"""Whole runs with a source: kill and resume, two processes against one, source-free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import HELPERS, ROOT

pytest.importorskip("mmseg")
from mmseg1_tiny import TINY
from mmseg_tiny import fit_once, make_data, make_engine
from test_mmseg1_source import SOURCE

from regional_al import engines
from regional_al.config import grammar as config
from regional_al.loop import runner
from regional_al.store import results as records
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.testing import streets
from regional_al.types import ImageAnswer

pytestmark = [pytest.mark.mmseg1]
WORKER = HELPERS / "mmseg_source_worker.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder, train=4, val=1)
    make_data(folder / "source", train=3, val=0)
    TINY.write_config(folder, SOURCE.replace("ROOT", str(folder)))
    return folder


ASKED = {
    "level": "region",
    "heuristic": "RIPU",
    "region": "window",
    "warm_start": None,
    "seed": 3,
    "budget": {"amount": 6, "unit": "region", "scope": "image"},
    "previews": 0,
}


def start(root: Path, work_dir: Path, acquisition: dict[str, Any], **options: Any) -> Any:
    work_dir.mkdir(parents=True, exist_ok=True)
    engine = make_engine(root, train_cfg__max_iters=4, **options)
    return runner.run(engine, config.parse({**ASKED, **acquisition}), work_dir, report=False)


def picks(work_dir: Path) -> dict[str, bytes]:
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    assert files
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


def iterations(work_dir: Path) -> list[int]:
    return [record.iterations for record in records.load(work_dir).records]


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the package may catch it."""


@pytest.mark.slow
@pytest.mark.parametrize(("queries", "trained"), [([2, 3], [2, 1, 1]), (None, [4, 4, 4])])
def test_killed_anywhere_it_goes_on_with_the_same_picks(
    queries: Any, trained: list[int], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round 0 trains on the source alone; its model picks round 1."""
    asked = {"queries": queries} if queries else {"rounds": 2, "round_init": "continue"}
    start(root, tmp_path / "whole", asked)
    assert iterations(tmp_path / "whole") == trained
    first = records.load(tmp_path / "whole").records[0]
    assert (first.costs.pixels, first.label_share) == (0, None)
    mark = Ledger.mark
    for stage in ("fit", "evaluate"):
        for round_ in (0, 1):

            def kill(
                self: Any, at: int, name: str, *rest: Any, stage: str = stage, round_: int = round_
            ) -> None:
                if (at, name) == (round_, stage):
                    raise Killed  # its work is done, but nobody was told
                mark(self, at, name, *rest)

            work_dir = tmp_path / f"{stage}-{round_}"
            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "mark", kill)
                with pytest.raises(Killed):
                    start(root, work_dir, asked)
            start(root, work_dir, asked)
            assert picks(work_dir) == picks(tmp_path / "whole")
            assert iterations(work_dir) == trained


def test_source_free_starts_from_the_checkpoint_alone(root: Path, tmp_path: Path) -> None:
    """The checkpoint picks before anything is trained, and training starts from its weights."""
    start(root, tmp_path / "source", {"rounds": 0})
    checkpoint = tmp_path / "source/rounds/000/fit/checkpoint.pth"
    asked = {"queries": [0, 2], "round_init": "pretrained"}
    free = {"source_dataloader": None, "load_from": str(checkpoint)}
    start(root, tmp_path / "free", asked, **free)
    assert iterations(tmp_path / "free") == [0, 2, 2]
    first = records.load(tmp_path / "free").records[0]
    assert first.miou == records.load(tmp_path / "source").records[0].miou
    frozen = {"optim_wrapper__optimizer__lr": 0.0, "param_scheduler": []}
    start(root, tmp_path / "frozen", asked, **free, **frozen)
    there = weights(tmp_path / "frozen/rounds/002/fit/checkpoint.pth")
    name = "backbone.encoder.0.0.convs.0.conv.weight"
    assert torch.equal(there[name], weights(checkpoint)[name])
    # With both, the checkpoint still picks first: there is nothing to train up to iteration 0.
    start(root, tmp_path / "both", asked, load_from=str(checkpoint))
    assert not (tmp_path / "both/rounds/000/fit").exists()
    both, alone = picks(tmp_path / "both"), picks(tmp_path / "free")
    assert {k: v for k, v in both.items() if "/001/" in k} == {
        k: v for k, v in alone.items() if "/001/" in k
    }


NO_NORM = """
model['backbone']['norm_cfg'] = None
model['decode_head'].update(norm_cfg=None, dropout_ratio=0.0)
model['auxiliary_head'].update(norm_cfg=None, dropout_ratio=0.0)
same = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='Resize', scale=(96, 72)), dict(type='PackSegInputs')]
train_dataloader['dataset']['pipeline'] = same
train_cfg['max_iters'] = 2
param_scheduler = []
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_processes_train_as_one_with_both_halves(
    checkpointing: bool, root: Path, tmp_path: Path
) -> None:
    """Without batch norm and with as many labels in every image, the gradients are the same: two
    ranks with 1 + 1 images, or one with 2 + 2."""
    store = LabelStore(tmp_path / "labels")
    for item in make_engine(root).pool:
        truth = read_ids(item.annotation)
        truth[:] = truth % 3  # no void, so that ranks have equally many labels
        store.write(ImageAnswer(item.key, truth, truth < 255), 0)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    text = (root / "tiny.py").read_text() + NO_NORM
    text += f"model['backbone']['with_cp'] = {checkpointing}\n"
    config_path = tmp_path / "two.py"
    config_path.write_text(
        text + "train_dataloader['batch_size'] = source_dataloader['batch_size'] = 1\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(WORKER),
            str(config_path),
            str(store.root),
            str(tmp_path / "two"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "two/hash-0").read_text() == (tmp_path / "two/hash-1").read_text()
    one_path = tmp_path / "tiny.py"
    one_path.write_text(text)
    engine: Any = make_engine(tmp_path)
    images = [engine._source.images[i]["data_samples"].gt_sem_seg.data for i in range(3)]
    assert len({int((labels == 255).sum()) for labels in images}) == 1
    one = weights(fit_once(engine, store, tmp_path / "one").checkpoint)
    two = weights(tmp_path / "two/checkpoint.pth")
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-4, atol=1e-6), name


SMALL = """
_base_ = 'BASE'
model = dict(
    pretrained=None, data_preprocessor=dict(size=(64, 128)),
    backbone=dict(depth=18, base_channels=8),
    decode_head=dict(in_channels=64, channels=8, c1_in_channels=8, c1_channels=4),
    auxiliary_head=dict(in_channels=32, channels=8))
names = dict(img_suffix='_leftImg8bit.png', seg_map_suffix='_gtFine_labelTrainIds.png')
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='ROOT/city', pipeline=[
        *load, dict(type='LabelledRandomCrop', crop_size=(64, 128)), dict(type='PackSegInputs')],
    **names))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='ROOT/city', pipeline=[*load, dict(type='PackSegInputs')], **names))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=6)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, begin=0, end=6, by_epoch=False)]
acquisition = dict(budget=dict(amount=2, unit='region', scope='image'), queries=QUERIES)
"""
SMALL_SOURCE = """
source_dataloader = dict(num_workers=0, dataset=dict(
    data_root='ROOT/game', data_prefix=dict(
        img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    pipeline=[*load, dict(type='Resize', scale=(160, 90)),
              dict(type='RandomCrop', crop_size=(64, 128)), dict(type='PackSegInputs')], **names))
"""


@pytest.mark.slow
def test_published_schedule_and_source_free_scaled_down(tmp_path: Path) -> None:
    """The GTAV -> Cityscapes configs with a small network, small scenes and 6 iterations."""
    folder = ROOT / "configs/cityscapes"
    streets.generate(tmp_path / "city", train=2, val=1, size=(96, 160), layout="cityscapes")
    streets.generate(
        tmp_path / "game", train=3, val=0, size=(96, 160), style="game", layout="cityscapes"
    )

    def go(name: str, queries: list[int], more: str) -> Path:
        path = tmp_path / f"{name}.py"
        text = SMALL.replace("BASE", str(folder / f"deeplabv3plus_r101_{name}.py")) + more
        path.write_text(text.replace("ROOT", str(tmp_path)).replace("QUERIES", str(queries)))
        work_dir = tmp_path / f"run_{name}"
        loaded = engines.load(path, {}, work_dir)
        work_dir.mkdir()
        runner.run(loaded.build(), config.parse(loaded.acquisition), work_dir, report=False)
        return work_dir

    both = go("gtav_ripu", [2, 3, 4], SMALL_SOURCE)
    assert iterations(both) == [2, 1, 1, 2]
    assert [r.costs.regions for r in records.load(both).records] == [0, 4, 8, 12]
    checkpoint = both / "rounds/000/fit/checkpoint.pth"
    free = go("gtav_ripu_source_free", [0, 2], f"load_from = {str(checkpoint)!r}\n")
    assert iterations(free) == [0, 2, 4]
