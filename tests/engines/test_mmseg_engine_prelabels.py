"""Training on the labels of a machine beside those of people, in both generations of mmseg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmseg_tiny import Tiny, fit_once, make_engine, weights_hash

from regional_al import metrics
from regional_al.engines.mmseg.label_source import BY_MACHINE, BY_PEOPLE, source_map
from regional_al.engines.mmseg.loss_average import WEIGHED
from regional_al.errors import UnsupportedError, WorkDirError
from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.prelabels import Prelabels, TrainingLabels
from regional_al.types import UNLABELED, ImageAnswer

KEY = "acquisition.warm_start"


def engine_of(root: Path, weight: float = 1.0, **more: Any) -> Any:
    warm = {"prelabels": str(root / "machine"), "machine_weight": weight}
    return make_engine(root, {KEY: warm}, **more)


@pytest.fixture(scope="module")
def machine(root: Path, engine: Any) -> Path:
    """Masks of all images but one: the truth, but for 'right', which is called 'left' in a part."""
    for item in engine.pool[:-1]:
        mask = read_ids(item.annotation).copy()
        mask[:, 70:][mask[:, 70:] == 1] = 0
        write_png(root / "machine" / f"{item.key}.png", mask)
    return root / "machine"


@pytest.fixture(scope="module")
def both(root: Path, engine: Any, machine: Path) -> TrainingLabels:
    """People have answered a square of each of two images."""
    store, prelabels = LabelStore(root / "people"), Prelabels(root / "prelabels")
    for item in engine.pool[:-1]:
        prelabels.write(item.key, read_ids(machine / f"{item.key}.png"))
    for item in engine.pool[:2]:
        said = np.zeros(item.shape, bool)
        said[20:60, 60:100] = True
        store.write(ImageAnswer(item.key, read_ids(item.annotation), said), 0)
    found = TrainingLabels(root / "both")
    found.refresh(store, prelabels, [item.key for item in engine.pool])
    return found


@given(st.integers(0, 999), st.sampled_from(sorted(WEIGHED)), st.floats(0.01, 5))
def test_weights_make_weighted_means(seed: int, over: str, machine: float) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 3, (3, 4, 5)))
    labels[torch.from_numpy(rng.random((3, 4, 5)) < 0.4)] = 255
    values = torch.from_numpy(rng.random((3, 4, 5)))
    counts = torch.from_numpy(np.where(rng.random((3, 4, 5)) < 0.5, machine, 1.0))
    labelled = labels != 255
    images = [labelled & (torch.arange(3)[:, None, None] == i) for i in range(3)]
    units = torch.from_numpy(rng.integers(0, 4, (3, 4, 5)))
    groups = {
        "pixel": [labelled],
        "image": images,
        "unit": [image & (units == u) for image in images for u in range(4)],
        "class": [labels == c for c in range(3)],
    }[over]
    means = [float((values * counts)[g].sum() / counts[g].sum()) for g in groups if bool(g.any())]
    more = {"units": units} if over == "unit" else {}
    weights = WEIGHED[over](labels, relative=counts, **more).double()
    assert not weights[~labelled].any()
    assert float((values * weights).sum() / labelled.sum()) == pytest.approx(
        sum(means) / len(means), rel=1e-4
    )


def test_a_head_weighs_the_labels_of_a_machine(tiny: Tiny, root: Path, machine: Path) -> None:
    """Against the losses of either kind on their own; all of one kind: as without weights."""
    heads = [e.network(None).decode_head for e in (engine_of(root, 0.25), engine_of(root))]
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, (2, 1, 6, 5)))
    labels[0, 0, 0] = 255
    logits = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    whose = torch.from_numpy(rng.integers(1, 3, (2, 6, 5))).int()
    whose[labels[:, 0] == 255] = 0
    heads[0].sides = {"source": whose}
    found = float(tiny.head_loss(heads[0], logits, labels))
    expected, total = 0.0, 0.0
    for kind, weight in ((BY_MACHINE, 0.25), (BY_PEOPLE, 1.0)):
        own = labels.masked_fill((whose != kind)[:, None], 255)
        share = weight * float((own != 255).sum())
        expected += share * float(tiny.head_loss(heads[1], logits, own))
        total += share
    assert found == pytest.approx(expected / total, rel=1e-5)
    plain = float(tiny.head_loss(heads[1], logits, labels))
    assert abs(found - plain) > 1e-3
    for kind in (BY_MACHINE, BY_PEOPLE):
        heads[0].sides = {"source": torch.where(whose > 0, kind, 0)}
        assert float(tiny.head_loss(heads[0], logits, labels)) == pytest.approx(plain, rel=1e-5)
    heads[0].sides = {}
    assert float(tiny.head_loss(heads[0], logits, labels)) == pytest.approx(plain, rel=1e-5)


def test_samples_say_whose_their_labels_are(
    engine: Any, both: TrainingLabels, tmp_path: Path
) -> None:
    """Through a pipeline that resizes, crops and flips: a label and its source stay together."""
    side = source_map(both, engine.pool, engine.label_space.trainable)
    for index in range(len(engine.pool)):
        values, labels = side.read(index), both.read(engine.pool[index].key)
        if labels is None:
            assert values is None
            continue
        assert values is not None
        assert ((values > 0) == (labels != UNLABELED)).all()
    # people say class 2, here and there, the machine class 0, the rest is without a label
    item, rng = engine.pool[0], np.random.default_rng(0)
    store, prelabels = LabelStore(tmp_path / "people"), Prelabels(tmp_path / "machine")
    said = np.where(rng.random(item.shape) < 0.4, 0, UNLABELED).astype(np.uint8)
    prelabels.write(item.key, said)
    twos = np.full(item.shape, 2, np.uint8)
    store.write(ImageAnswer(item.key, twos, rng.random(item.shape) < 0.1), 0)
    both = TrainingLabels(tmp_path / "both")
    both.refresh(store, prelabels, [item.key])
    side, several = source_map(both, engine.pool, engine.label_space.trainable), set()
    for _ in range(6):
        sample = engine.read_sample(engine.dataset, 0, both.path(engine.pool[0].key), sides=(side,))
        if "data_samples" in sample:
            mask = np.asarray(sample["data_samples"].gt_sem_seg.data)
            whose = np.asarray(sample["data_samples"].gt_side_source.data)
        else:
            mask = np.asarray(sample["gt_semantic_seg"].data)
            whose = np.asarray(sample["gt_side_source"].data)
        assert ((whose == BY_MACHINE) == (mask == 0)).all()
        assert ((whose == BY_PEOPLE) == (mask == 2)).all()
        several |= {int(v) for v in np.unique(whose)}
    assert several == {0, BY_MACHINE, BY_PEOPLE}


def test_trainings_differ_by_the_weight(
    tiny: Tiny, root: Path, both: TrainingLabels, tmp_path: Path
) -> None:
    found = {}
    for weight in (1.0, 0.1):
        engine = engine_of(root, weight)
        if weight != 1:
            engine.preflight()
        found[weight] = weights_hash(fit_once(engine, both, tmp_path / str(weight)).checkpoint)
    assert found[1.0] != found[0.1]
    plain = make_engine(root)
    assert weights_hash(fit_once(plain, both, tmp_path / "plain").checkpoint) == found[1.0]


def test_what_cannot_weigh_labels_is_refused_by_name(root: Path, machine: Path) -> None:
    loss = {"_delete_": True, "type": "DiceLoss"}
    warm = {"prelabels": str(machine), "machine_weight": 0.5}
    with pytest.raises(UnsupportedError, match=r"machine_weight=0\.5 needs losses.*DiceLoss"):
        make_engine(root, {KEY: warm, "model.decode_head.loss_decode": loss})
    sampler = {"type": "OHEMPixelSampler", "min_kept": 10}
    with pytest.raises(UnsupportedError, match=r"machine_weight=0\.5 and model\.decode_head\.sa"):
        make_engine(root, {KEY: warm, "model.decode_head.sampler": sampler})
    make_engine(root, {KEY: {"prelabels": str(machine)}, "model.decode_head.loss_decode": loss})


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_run_that_corrects_the_machine(
    tiny: Tiny,
    root: Path,
    machine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two rounds; the labels become better, by what a count of the files says; a run that is killed
    between its answers and its training goes on to the same end; a changed mask is named."""
    asked = {
        "level": "region",
        "heuristic": {"type": "SIM", "class_weight": True},
        "region": {"type": "grid", "cell": 16},
        "budget": {"amount": 20, "unit": "region"},
        "annotator": {"type": "oracle", "answer": "correction"},
        "rounds": 2,
        "previews": 0,
        "warm_start": {"prelabels": str(machine), "machine_weight": 0.5},
    }

    def start(name: str) -> Any:
        engine = make_engine(root, {"acquisition": {"_delete_": True, **asked}, tiny.iterations: 3})
        runner.run(engine, asked, tmp_path / name, report=False)
        return engine

    engine, refresh, calls = start("whole"), TrainingLabels.refresh, iter(range(9))

    def dies(self: TrainingLabels, *args: Any) -> None:
        if next(calls) == 1:
            raise Killed
        refresh(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLabels, "refresh", dies)
        with pytest.raises(Killed):
            start("killed")
    start("killed")
    found, again = (results.load(tmp_path / name).records for name in ("whole", "killed"))
    assert [(r.costs, r.label_miou, r.miou) for r in found] == [
        (r.costs, r.label_miou, r.miou) for r in again
    ]
    assert found[0].costs.clicks == 0
    people, counted = LabelStore(tmp_path / "whole/labels"), np.zeros((3, 3), np.int64)
    for item in engine.pool:
        truth, said = read_ids(item.annotation), np.full(item.shape, UNLABELED, np.uint8)
        if (machine / f"{item.key}.png").exists():
            said = read_ids(machine / f"{item.key}.png")
        rounds, labels = people.annotated(item.key), people.read(item.key)
        if rounds is not None and labels is not None:
            said = np.where(rounds > 0, labels, said)
        known = (truth != UNLABELED) & (said != UNLABELED)
        np.add.at(counted, (truth[known], said[known]), 1)
    assert found[2].label_miou == pytest.approx(metrics.mean_iou(counted))
    qualities = [float(r.label_miou or 0) for r in found]
    assert qualities[0] < qualities[1] < qualities[2]
    path = machine / f"{engine.pool[0].key}.png"
    before = path.read_bytes()
    write_png(path, np.zeros(engine.pool[0].shape, np.uint8))
    try:
        with pytest.raises(WorkDirError, match=rf"{path} has changed since") as caught:
            start("whole")
    finally:
        path.write_bytes(before)
    assert "\n" not in str(caught.value)
