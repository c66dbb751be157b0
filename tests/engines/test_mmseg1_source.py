"""A labelled source beside the pool: whose losses are added, what is drawn, what is refused."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from paths import ROOT
from torch.utils.data import BatchSampler

pytest.importorskip("mmseg")
import mmengine.dataset.sampler as mmengine_sampler
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
from mmseg1_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine, weights_hash
from refusals import refused

from regional_al.config import grammar as config
from regional_al.engines.base import has_source
from regional_al.engines.mmseg1.config import read as read_config
from regional_al.engines.mmseg1.pool import read_sample
from regional_al.engines.mmseg1.predict import build_model
from regional_al.engines.mmseg1.source import KEYS, Domains, DomainSampler
from regional_al.errors import ConfigError, DataError, RegionalALError, UnsupportedError
from regional_al.loop import runner
from regional_al.store.images import write_png
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = pytest.mark.mmseg1
SOURCE = """
source_dataloader = dict(batch_size=2, dataset=dict(
    type='BaseSegDataset', data_root='ROOT/source', img_suffix='_img.png',
    seg_map_suffix='_gt.png', serialize_data=False,
    metainfo=dict(classes=('left', 'right', 'low'), palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]]),
    data_prefix=dict(img_path='img/train', seg_map_path='gt/train'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='Resize', scale=(96, 72)), dict(type='PackSegInputs')]))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    make_data(folder / "source", train=3, val=0)
    TINY.write_config(folder, SOURCE.replace("ROOT", str(folder)))
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
    cfg = copy.deepcopy(engine.cfg)
    engine._source.rewrite(cfg)
    model = MODELS.build(cfg.model).train()
    for head in (model.decode_head, model.auxiliary_head):
        head.dropout.p = 0.0
    return model


def batch_of(engine: Any, store: LabelStore, labelled: bool = True) -> dict[str, list[Any]]:
    """Two sparse samples of the pool and two of the source, mixed up."""
    dataset = engine._pool.dataset
    np.random.seed(0)  # noqa: NPY002 - what mmcv's transforms draw from
    target = [read_sample(dataset, i, store.path(engine.pool[i].key)) for i in range(2)]
    source = [engine._source.images[i] for i in range(2)]
    if not labelled:
        for sample in target:
            sample["data_samples"].gt_sem_seg.data.fill_(255)
    samples = [source[0], target[0], target[1], source[1]]
    return {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}


def by_hand(model: Any, inputs: torch.Tensor, samples: list[Any]) -> tuple[float, int]:
    """Loss of one domain from its logits: the sum over labelled pixels / their number."""
    truth = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    count = int((truth != 255).sum())
    total = 0.0
    maps = model.extract_feat(inputs)
    for head, weight in ((model.decode_head, 1.0), (model.auxiliary_head, 0.4)):
        logits = nnf.interpolate(head(maps), size=truth.shape[1:], mode="bilinear")
        total += weight * float(
            nnf.cross_entropy(logits, truth, ignore_index=255, reduction="sum").detach() / count
        )
    return total, count


def test_loss_is_the_sum_of_both_domains_own_averages(root: Path, store: LabelStore) -> None:
    engine: Any = make_engine(root, source_dataloader__loss_weight=0.25)
    model = model_of(engine)
    data = model.data_preprocessor(batch_of(engine, store), True)
    assert data["inputs"]["source"].shape == (2, 3, 72, 96)
    assert data["inputs"]["target"].shape == (2, 3, 64, 64), "each domain has its own size"
    losses = model(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    parts = {
        domain: by_hand(model, data["inputs"][domain], data["data_samples"][domain])
        for domain in ("source", "target")
    }
    (source, many), (target, few) = parts["source"], parts["target"]
    assert float(total) == pytest.approx(target + 0.25 * source, rel=1e-5)
    assert float(logged["source.decode.loss_ce"]) < source
    assert 0 < few < many / 5, "one average over both would drown the sparse labels"
    mixed = (few * target + many * source) / (few + many)
    assert not math.isclose(float(total), mixed, rel_tol=1e-2)


def test_a_target_without_labels_adds_nothing_and_stays_finite(
    engine: Any, store: LabelStore
) -> None:
    model = model_of(engine)
    data = model.data_preprocessor(batch_of(engine, store, labelled=False), True)
    losses = model(**data, mode="loss")
    total, _ = model.parse_losses(losses)
    source, _ = by_hand(model, data["inputs"]["source"], data["data_samples"]["source"])
    assert float(total) == pytest.approx(source, rel=1e-5)
    total.backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_weights_have_the_names_of_the_plain_model(engine: Any, store: LabelStore) -> None:
    model = model_of(engine)
    assert model.state_dict().keys() == build_model(engine.cfg).state_dict().keys()
    assert type(model).__name__ == "EncoderDecoder"
    one = {key: values[1:2] for key, values in batch_of(engine, store).items()}
    data = model.data_preprocessor(one, False)
    assert model.eval()(**data, mode="tensor").shape[:2] == (1, 3), "only training is split"


class Images:
    """A data set of so many images."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


INFINITE = {"type": "InfiniteSampler", "shuffle": True}


def draws(
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    world: int,
    target: int,
    source: int,
    counts: tuple[int, int],
    batches: int,
    samplers: Any = (INFINITE, INFINITE),
) -> list[tuple[list[int], list[int]]]:
    """(indices into the target, into the source) of a rank's first batches."""
    monkeypatch.setattr(mmengine_sampler, "get_dist_info", lambda: (rank, world))
    both: Any = Domains(Images(target), Images(source))  # type: ignore[arg-type]
    sampler = DomainSampler(both, counts, samplers, seed=7)
    found = []
    for batch in BatchSampler(sampler, sum(counts), drop_last=False):
        if len(found) == batches:
            break
        found.append(([i for i in batch if i < target], [i - target for i in batch if i >= target]))
    return found


@pytest.mark.parametrize(
    ("target", "source", "counts"),
    [(12, 20, (3, 2)), (1, 7, (2, 2)), (5, 1, (1, 4)), (12, 12, (3, 3))],
)
def test_every_batch_holds_so_many_of_each_on_every_rank(
    target: int, source: int, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = [draws(monkeypatch, r, 2, target, source, counts, 40) for r in range(2)]
    for found in ranks:
        assert [(len(t), len(s)) for t, s in found] == [counts] * 40
        for place, size in ((0, target), (1, source)):
            seen = {index for batch in found for index in batch[place]}
            assert seen <= set(range(size))
    for place, size in ((0, target), (1, source)):
        streams = [[i for batch in found for i in batch[place]] for found in ranks]
        if size > 1:
            assert streams[0] != streams[1]
        both = [i for pair in zip(*streams, strict=True) for i in pair]
        assert sorted(both[:size]) == list(range(size)), "together they see every image once"
    if target == source:
        one = [i for t, _ in ranks[0] for i in t]
        assert one != [i for _, s in ranks[0] for i in s], "pairs must change"


def test_a_finite_sampler_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    finite = {"type": "DefaultSampler", "shuffle": True}
    found = draws(monkeypatch, 0, 1, 4, 3, (1, 2), 6, (INFINITE, finite))
    drawn = [i for _, s in found for i in s]
    epochs = [drawn[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "another order each time"


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
    assert set(content) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}


def test_the_source_changes_the_weights_by_its_weight(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Without batch norm's statistics, a vanishing weight is no source at all."""
    hashes = {}
    for name, options in {
        "none": {"source_dataloader": None},
        "tiny": {"source_dataloader__loss_weight": 1e-12},
        "one": {},
    }.items():
        engine = make_engine(
            root,
            train_cfg__max_iters=1,
            param_scheduler=[],
            model__decode_head__dropout_ratio=0.0,
            **options,
        )
        result = fit_once(engine, store, tmp_path / name)
        state = torch.load(result.checkpoint, weights_only=True)["state_dict"]
        hashes[name] = state["decode_head.conv_seg.weight"]
    assert torch.allclose(hashes["none"], hashes["tiny"], atol=1e-6)
    assert not torch.allclose(hashes["none"], hashes["one"], atol=1e-4)


def test_one_source_image(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine: Any = make_engine(root, source_dataloader__dataset__indices=1, train_cfg__max_iters=2)
    assert len(engine._source.images) == 1
    engine.preflight()
    assert fit_once(engine, store, tmp_path / "a").iterations == 2


def test_workers_load_both_domains(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine: Any = make_engine(root, source_dataloader__num_workers=1, train_cfg__max_iters=2)
    loader = engine._source.loader({**engine.cfg.train_dataloader, "dataset": engine._pool.dataset})
    assert (loader["num_workers"], loader["batch_size"]) == (1, 4)
    assert fit_once(engine, store, tmp_path / "a").iterations == 2


@pytest.mark.parametrize(
    ("kind", "match", "options"),
    [
        (ConfigError, r"no key 'batchsize'.*batch_size", {"batchsize": 2}),
        (ConfigError, r"source_dataloader.batch_size=0", {"batch_size": 0}),
        (ConfigError, r"loss_weight=0 must be", {"loss_weight": 0}),
        (ConfigError, r"loss_weight='1' must be", {"loss_weight": "1"}),
        (
            ConfigError,
            r"source_dataloader.dataset has 2 classes, train.* 3",
            {
                "dataset__metainfo__classes": ("left", "right"),
                "dataset__metainfo__palette": [[9, 0, 0], [0, 9, 0]],
            },
        ),
        (
            ConfigError,
            r"another order \('low' where 'left'",
            {"dataset__metainfo__classes": ("low", "right", "left")},
        ),
        (
            DataError,
            r"source_dataloader.dataset: .*nowhere.*does not exist",
            {"dataset__data_prefix__img_path": "nowhere"},
        ),
        (ConfigError, "source_dataloader.dataset: .*NoDataset", {"dataset__type": "NoDataset"}),
        (
            ConfigError,
            r"no classes: add metainfo.* to source_dataloader.dataset",
            {"dataset__metainfo": {"_delete_": True}},
        ),
        (ConfigError, "source_dataloader.dataset is missing", {"dataset": None}),
    ],
)
def test_mistakes_are_named_when_the_engine_is_built(
    kind: type[RegionalALError], match: str, options: dict[str, Any], root: Path
) -> None:
    keys = {f"source_dataloader__{key}": value for key, value in options.items()}
    refused(kind, match, lambda: make_engine(root, **keys))


def test_epochs_are_refused(root: Path) -> None:
    epochs = {"_delete_": True, "by_epoch": True, "max_epochs": 2}
    refused(
        UnsupportedError,
        "source_dataloader needs training in iterations",
        lambda: make_engine(root, train_cfg=epochs),
    )


def test_other_names_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_engine(root, source_dataloader__dataset__metainfo__classes=("left", "bike", "low"))
    assert "class 'bike' is trained as 'right'" in caplog.text


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
    write_png(mask, np.zeros((45, 61), np.uint8))  # GTAV holds such pairs
    engine.preflight()
    assert "02_gt.png is 45x61, its image 90x122" in caplog.text
    assert engine._source.images[2]["data_samples"].gt_sem_seg.shape == (72, 96)
    engine._source.images.dataset.pipeline.transforms.pop(2)
    refused(
        DataError,
        r"02_img\.png and its mask have different sizes",
        lambda: engine._source.images[2],
    )
    mask.unlink()
    refused(DataError, r"02_gt\.png", engine.preflight)


@pytest.mark.parametrize(
    ("pipeline", "match"),
    [
        ([{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}], "gives no labels"),
        (
            [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations"},
                {"type": "Resize", "scale": (90, 70)},
                {"type": "PackSegInputs"},
            ],
            "training batch of source_dataloader fails",
        ),
    ],
)
def test_a_batch_of_the_source_is_tried_before_training(
    pipeline: list[Any], match: str, root: Path
) -> None:
    engine = make_engine(root, source_dataloader__dataset__pipeline=pipeline)
    refused(ConfigError, match, engine.preflight)


def test_a_run_may_start_without_labels_if_it_has_a_source(root: Path, tmp_path: Path) -> None:
    plain = {
        "level": "region",
        "region": "window",
        "warm_start": None,
        "queries": [2, 4],
        "budget": {"amount": 3, "unit": "region", "scope": "image"},
    }
    acquisition = config.parse(plain)
    without = make_engine(root, source_dataloader=None)
    assert not has_source(without)
    refused(
        ConfigError,
        "nothing to train on until .* a source_dataloader",
        lambda: runner.run(without, acquisition, tmp_path / "a", report=False),
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs/_base_/datasets").glob("*_source.py")))
def test_sources_of_our_configs_are_whole(path: Path) -> None:
    cfg = read_config(path, {})
    for step in cfg.source_dataloader.dataset.pipeline:
        assert TRANSFORMS.get(step["type"]) is not None
    assert set(cfg.source_dataloader) <= set(KEYS)
    users = [
        read_config(leaf, {})
        for leaf in (ROOT / "configs").glob("*/*.py")
        if leaf.parent.name != "_base_" and path.name in leaf.read_text()
    ]
    assert users
    for user in users:
        classes = [
            len(DATASETS.get(loader.dataset.type).METAINFO["classes"])
            for loader in (user.source_dataloader, user.train_dataloader)
        ]
        assert classes[0] == classes[1]


def test_an_ignored_id_is_void_in_the_source(root: Path) -> None:
    ignored = {f"model.{head}.ignore_index": 0 for head in ("decode_head", "auxiliary_head")}
    engine: Any = make_engine(root, ignored)
    values = engine._source.images[0]["data_samples"].gt_sem_seg.data
    assert set(values.flatten().tolist()) == {1, 2, 255}
    engine.preflight()
