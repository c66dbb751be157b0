"""A labelled source beside the pool of a 0.x config: whose losses are added, what is drawn, what is
refused, and whole runs."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from paths import HELPERS

pytest.importorskip("mmseg")
from mmcv.parallel import collate
from mmseg0_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine, weights_hash
from refusals import refused

from regional_al.config import grammar as config
from regional_al.engines.base import has_source
from regional_al.engines.mmseg0 import source as source_module
from regional_al.engines.mmseg0.parallel import opened
from regional_al.engines.mmseg0.pool import read_sample
from regional_al.engines.mmseg0.predict import build_trainable
from regional_al.engines.mmseg0.source import ALONE, Batches, Domains, by_domain, with_source
from regional_al.errors import ConfigError, DataError, RegionalALError, UnsupportedError
from regional_al.loop import runner
from regional_al.store import results as records
from regional_al.store.images import write_png
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = pytest.mark.mmseg0
SOURCE = """
source_dataloader = dict(samples_per_gpu=2, dataset=dict(
    type='CustomDataset', data_root='ROOT/source', img_suffix='_img.png', seg_map_suffix='_gt.png',
    classes=('left', 'right', 'low'), palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]],
    img_dir='img/train', ann_dir='gt/train', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='Resize', img_scale=(96, 72), keep_ratio=False),
        dict(type='RandomFlip', prob=0.0), dict(type='Normalize', **norm_img),
        dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img', 'gt_semantic_seg'])]))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    make_data(folder / "source", train=3, val=0)
    TINY.write_config(folder, SOURCE)
    return folder


@pytest.fixture(scope="module")
def engine(root: Path) -> Any:
    return make_engine(root)


@pytest.fixture(scope="module")
def store(root: Path, engine: Any) -> LabelStore:
    store = LabelStore(root / "labels")
    label_some(store, engine, 2)
    return store


def model_of(engine: Any) -> Any:
    """The segmentor that trains on both domains, in training mode, without dropout."""
    torch.manual_seed(0)
    model = with_source(build_trainable(engine.cfg), engine._source.weight).train()
    for head in (model.decode_head, model.auxiliary_head):
        head.dropout = None
    return model


def batch_of(engine: Any, store: LabelStore, labelled: bool = True) -> dict[str, Any]:
    """Two sparse samples of the pool and two of the source, mixed up, collated and opened."""
    dataset = engine._pool.dataset
    np.random.seed(0)  # noqa: NPY002 - what mmcv's transforms draw from
    target = [read_sample(dataset, i, store.path(engine.pool[i].key)) for i in range(2)]
    source = [engine._source.images[i] for i in range(2)]
    if not labelled:
        for sample in target:
            sample["gt_semantic_seg"].data.fill_(255)
    samples = [(True, source[0]), (False, target[0]), (False, target[1]), (True, source[1])]
    found: dict[str, Any] = opened(by_domain(samples), torch.device("cpu"))
    return found


def by_hand(model: Any, batch: Any) -> tuple[float, int]:
    """Loss of one domain from its logits: the sum over labelled pixels / their number."""
    truth = batch["gt_semantic_seg"][:, 0]
    count = int((truth != 255).sum())
    total = 0.0
    maps = model.extract_feat(batch["img"])
    for head, weight in ((model.decode_head, 1.0), (model.auxiliary_head, 0.4)):
        logits = nnf.interpolate(head(maps), size=truth.shape[1:], mode="bilinear")
        total += weight * float(
            nnf.cross_entropy(logits, truth, ignore_index=255, reduction="sum").detach() / count
        )
    return total, count


def test_loss_is_the_sum_of_both_domains_own_averages(root: Path, store: LabelStore) -> None:
    engine: Any = make_engine(root, source_dataloader__loss_weight=0.25)
    model = model_of(engine)
    batch = batch_of(engine, store)
    assert batch["source"]["img"].shape == (2, 3, 72, 96)
    assert batch["img"].shape == (2, 3, 64, 64), "each domain has its own size"
    total, logged = model._parse_losses(model(**batch))
    (target, few), (source, many) = by_hand(model, batch), by_hand(model, batch["source"])
    assert float(total) == pytest.approx(target + 0.25 * source, rel=1e-5)
    assert logged["source.decode.loss_ce"] < source
    assert 0 < few < many / 5, "one average over both would drown the sparse labels"


def test_a_target_without_labels_adds_nothing_and_stays_finite(
    engine: Any, store: LabelStore
) -> None:
    model = model_of(engine)
    batch = batch_of(engine, store, labelled=False)
    total, _ = model._parse_losses(model(**batch))
    source, _ = by_hand(model, batch["source"])
    assert float(total) == pytest.approx(source, rel=1e-5)
    total.backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_a_batch_of_the_source_alone(engine: Any) -> None:
    samples = [engine._source.images[i] for i in range(2)]
    batch = by_domain([(True, one) for one in samples])
    assert batch[ALONE] is True
    model = model_of(engine)
    losses = model(**opened(batch, torch.device("cpu")))
    assert all(name.startswith("source.") for name in losses)
    plain = opened(collate(samples, samples_per_gpu=2), torch.device("cpu"))
    total, _ = model._parse_losses(losses)
    assert float(total) == pytest.approx(by_hand(model, plain)[0], rel=1e-5)


def test_weights_have_the_names_of_the_plain_model(engine: Any) -> None:
    model = model_of(engine)
    assert model.state_dict().keys() == build_trainable(engine.cfg).state_dict().keys()
    assert type(model).__name__ == "EncoderDecoder"


@pytest.mark.parametrize(("target", "source"), [(3, 2), (1, 4), (0, 2)])
def test_every_batch_holds_so_many_of_each_on_every_rank(
    target: int, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks together see each sample of both domains once, in the order of the draws."""
    seen: dict[bool, list[list[int]]] = {False: [], True: []}
    first = target * 2 * 5
    for rank in range(2):
        monkeypatch.setattr(source_module.dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(source_module.dist, "world_size", lambda: 2)
        batches = list(Batches((target, source), 5))
        assert len(batches) == len(Batches((target, source), 5)) == 5
        for batch in batches:
            assert sum(index < first for index in batch) == target
            assert len(batch) == target + source
        seen[False].append([i for batch in batches for i in batch if i < first])
        seen[True].append([i - first for batch in batches for i in batch if i >= first])
    for domain, count in ((False, target), (True, source)):
        both = [i for pair in zip(*seen[domain], strict=True) for i in pair]
        assert both == list(range(count * 2 * 5))
    both_sets: Any = Domains(list(range(first)) if target else None, list("ab"))
    assert both_sets[first] == (True, "a")
    assert len(both_sets) == first + 2


def test_without_labels_the_source_is_trained_on_alone(
    engine: Any, root: Path, tmp_path: Path
) -> None:
    assert has_source(engine)
    result = fit_once(engine, LabelStore(tmp_path / "none"), tmp_path / "a")
    assert result.iterations == 8
    assert math.isnan(result.label_share)
    (prediction,) = engine.predict(result.checkpoint, [0], PredictRequest())
    assert prediction.logits.shape == (3, *engine.pool[0].shape)


def test_training_on_both_counts_the_labels_of_the_pool_alone(
    engine: Any, store: LabelStore, tmp_path: Path
) -> None:
    result = fit_once(engine, store, tmp_path / "a")
    assert result.extra["samples"] == 8 * 2
    assert 0.1 < result.label_share < 1.5
    again = fit_once(engine, store, tmp_path / "b")
    assert weights_hash(result.checkpoint) == weights_hash(again.checkpoint)
    content = torch.load(result.checkpoint, weights_only=True)
    assert set(content) == TINY.checkpoint_keys


def test_the_source_changes_the_weights_by_its_weight(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Without batch norm's statistics, a vanishing weight is no source at all."""
    found = {}
    for name, options in {
        "none": {"source_dataloader": None},
        "tiny": {"source_dataloader__loss_weight": 1e-12},
        "one": {},
    }.items():
        engine = make_engine(
            root, runner__max_iters=1, model__decode_head__dropout_ratio=0.0, **options
        )
        result = fit_once(engine, store, tmp_path / name)
        state = torch.load(result.checkpoint, weights_only=True)["state_dict"]
        found[name] = state["decode_head.conv_seg.weight"]
    assert torch.allclose(found["none"], found["tiny"], atol=1e-6)
    assert not torch.allclose(found["none"], found["one"], atol=1e-4)


def test_one_source_image_and_workers(root: Path, store: LabelStore, tmp_path: Path) -> None:
    single = tmp_path / "source"
    for part, suffix in (("img", "img"), ("gt", "gt")):
        name = f"{part}/train/town/00_{suffix}.png"
        (single / name).parent.mkdir(parents=True)
        shutil.copy(root / "source" / name, single / name)
    engine: Any = make_engine(
        root,
        source_dataloader__dataset__data_root=str(single),
        source_dataloader__workers_per_gpu=1,
        runner__max_iters=2,
    )
    assert len(engine._source.images) == 1
    engine.preflight()
    assert fit_once(engine, store, tmp_path / "a").iterations == 2


@pytest.mark.parametrize(
    ("kind", "match", "options"),
    [
        (ConfigError, r"no key 'batch_size'.*samples_per_gpu", {"batch_size": 2}),
        (ConfigError, r"source_dataloader.samples_per_gpu=0", {"samples_per_gpu": 0}),
        (ConfigError, r"loss_weight=0 must be", {"loss_weight": 0}),
        (
            ConfigError,
            r"source_dataloader.dataset has 2 classes, data.train 3: give it classes=\.\.\.",
            {"dataset__classes": ("left", "right"), "dataset__palette": [[9, 0, 0], [0, 9, 0]]},
        ),
        (
            ConfigError,
            r"another order \('low' where 'left'",
            {"dataset__classes": ("low", "right", "left")},
        ),
        (
            DataError,
            r"source_dataloader.dataset: .*nowhere does not exist",
            {"dataset__img_dir": "nowhere"},
        ),
        (ConfigError, "source_dataloader.dataset: .*NoDataset", {"dataset__type": "NoDataset"}),
        (ConfigError, "source_dataloader.dataset is missing", {"dataset": None}),
        (
            ConfigError,
            r"source_dataloader.dataset.pipeline has no LoadAnnotations",
            {"dataset__pipeline": [{"type": "LoadImageFromFile"}]},
        ),
    ],
)
def test_mistakes_are_named_when_the_engine_is_built(
    kind: type[RegionalALError], match: str, options: dict[str, Any], root: Path
) -> None:
    keys = {f"source_dataloader__{key}": value for key, value in options.items()}
    refused(kind, match, lambda: make_engine(root, **keys))


@pytest.mark.parametrize(
    "options", [TINY.epochs(2), {"workflow": [("train", 1), ("val", 1)]}], ids=["epochs", "phases"]
)
def test_epochs_and_phases_are_refused(options: dict[str, Any], root: Path) -> None:
    refused(
        UnsupportedError,
        "source_dataloader needs training in iterations",
        lambda: make_engine(root, options),
    )


def test_unlabelled_pixels_beside_a_source_are_refused(root: Path) -> None:
    refused(
        UnsupportedError,
        r"acquisition\.unlabeled and source_dataloader cannot be combined",
        lambda: make_engine(root, {"acquisition.unlabeled": {"threshold": 0.9}}),
    )


def test_source_masks_are_checked_before_training(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(root / "source", tmp_path / "source")
    engine: Any = make_engine(root, source_dataloader__dataset__data_root=str(tmp_path / "source"))
    mask = tmp_path / "source/gt/train/town/02_gt.png"
    write_png(mask, np.full((90, 122), 7, np.uint8))
    refused(DataError, r"02_gt\.png holds id 7, which is no class", engine.preflight)
    write_png(mask, np.zeros((45, 61), np.uint8))
    engine.preflight()
    assert "02_gt.png is 45x61, its image 90x122" in caplog.text
    mask.unlink()
    refused(DataError, r"02_gt\.png", engine.preflight)


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        (slice(0, 4), "gives no labels: it needs LoadAnnotations, DefaultFormatBundle"),
        (slice(0, 0), "input image size .90, 122. should be divisible"),
    ],
)
def test_a_batch_of_the_source_is_tried_before_training(
    steps: slice, match: str, root: Path, engine: Any
) -> None:
    own = list(engine.cfg.source_dataloader.dataset.pipeline)
    pipeline = [*own[:2], *own[3:]] if steps.stop == 0 else own[steps]
    broken = make_engine(root, source_dataloader__dataset__pipeline=pipeline)
    refused((ConfigError, DataError), match, broken.preflight)  # type: ignore[arg-type]


ASKED = {
    "level": "region",
    "heuristic": "RIPU",
    "region": "window",
    "warm_start": None,
    "seed": 3,
    "budget": {"amount": 6, "unit": "region", "scope": "image"},
    "previews": 0,
    "queries": [2, 3],
}


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the package may catch it."""


def test_a_run_begins_on_the_source_and_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a source there is nothing to train on before the first query; killed in the second
    training, it ends as the run that was not."""

    def start(work_dir: Path, **options: Any) -> Any:
        work_dir.mkdir(parents=True, exist_ok=True)
        engine = make_engine(root, runner__max_iters=4, **options)
        return runner.run(engine, config.parse(ASKED), work_dir, report=False)

    refused(
        ConfigError,
        "nothing to train on until .* a source_dataloader",
        lambda: start(tmp_path / "none", source_dataloader=None),
    )
    start(tmp_path / "a")
    assert [one.iterations for one in records.load(tmp_path / "a").records] == [2, 1, 1]
    kind: Any = type(make_engine(root))
    original, calls = kind.train, 0

    def dying(self: Any, request: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return original(self, request)

    monkeypatch.setattr(kind, "train", dying)
    with pytest.raises(Killed):
        start(tmp_path / "b")
    monkeypatch.setattr(kind, "train", original)
    engine = make_engine(root, runner__max_iters=4)
    runner.run(engine, config.parse(ASKED), tmp_path / "b", report=False)
    last = "rounds/002/fit/checkpoint.pth"
    assert weights_hash(tmp_path / "a" / last) == weights_hash(tmp_path / "b" / last)


@pytest.mark.slow
def test_two_processes_train_one_model_on_half_batches(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Both ranks end with the same weights; as one process with twice the batch, but for batch
    norm and dropout, which are switched off."""
    worker = HELPERS / "mmseg_source_worker.py"
    more = (
        "\nfor part in ('backbone', 'decode_head', 'auxiliary_head'):\n"
        "    model[part]['norm_cfg'] = dict(type='GN', num_groups=2, requires_grad=True)\n"
        "model['decode_head']['dropout_ratio'] = model['auxiliary_head']['dropout_ratio'] = 0.0\n"
        "runner = dict(type='IterBasedRunner', max_iters=2)\n"
        "data['samples_per_gpu'] = source_dataloader['samples_per_gpu'] = 1\n"
    )
    path = TINY.write_config(tmp_path, (SOURCE + more).replace("ROOT", str(root)))
    path.write_text(path.read_text().replace(str(tmp_path), str(root)))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(path), str(store.root), str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, *words, str(worker), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    hashes = {(tmp_path / f"out/hash-{rank}").read_text() for rank in range(2)}
    assert len(hashes) == 1


def test_an_ignored_id_is_void_in_the_source(root: Path) -> None:
    ignored = {f"model.{head}.ignore_index": 0 for head in ("decode_head", "auxiliary_head")}
    engine: Any = make_engine(root, ignored)
    values = engine._source.images[0]["gt_semantic_seg"].data
    assert set(values.flatten().tolist()) == {1, 2, 255}
    engine.preflight()
