"""Training on regions of which only the classes are known, in both generations of mmseg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmseg_tiny import Tiny, fit_once, make_engine, weights_hash

from regional_al.annotators.oracle import class_sets
from regional_al.engines.mmseg.memory import batch_bytes
from regional_al.engines.mmseg.region_classes import MERGED, PROTOTYPE
from regional_al.engines.mmseg.side_training import blank_maps
from regional_al.errors import UnsupportedError
from regional_al.loop import runner
from regional_al.partitions import grid
from regional_al.store import results
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.points import TRAIN, PointLog
from regional_al.store.query import read_query
from regional_al.types import ImageAnswer

ANNOTATOR = {"type": "oracle", "answer": "multiclass"}
LOGGED = [f"decode.{MERGED}", f"decode.{PROTOTYPE}"]


def engine_of(root: Path, regions: Any = None, **more: Any) -> Any:
    changes = {"acquisition.annotator": ANNOTATOR, "acquisition.region_classes": regions}
    return make_engine(root, changes, **more)


@pytest.fixture(scope="module")
def answered(root: Path, engine: Any) -> LabelStore:
    """Every cell of three images, of 24 pixels; of a fourth those with several classes alone."""
    store = LabelStore(root / "answered")
    for place, item in enumerate(engine.pool[:4]):
        truth = read_ids(item.annotation)
        asked = grid(item.shape, 24).astype(np.int32) + 1
        labels, sets, _ = class_sets(asked, truth, engine.label_space)
        assert sets is not None
        given = sets.regions > 0 if place == 3 else asked > 0
        store.write(ImageAnswer(item.key, labels, given, sets=sets), 0)
    return store


def test_a_training(tiny: Tiny, root: Path, answered: LabelStore, tmp_path: Path) -> None:
    """Its losses are logged; it differs from one without, which does not see the fourth image."""
    on, off = engine_of(root), engine_of(root, False)
    on.preflight()
    assert (on.trains_on_sets, off.trains_on_sets) == (True, False)
    found = {name: fit_once(e, answered, tmp_path / name) for name, e in (("on", on), ("off", off))}
    lines = tiny.logged(tmp_path / "on")
    values = np.array([[line[name] for name in LOGGED] for line in lines])
    assert np.isfinite(values).all()
    assert (values[:, 0] > 0).all()
    assert (values[:, 1] > 0).any()
    for line in lines:
        parts = [v for k, v in line.items() if "." in k and "loss" in k]
        assert line["loss"] == pytest.approx(sum(parts), abs=2e-3)
    assert not any(name in line for line in tiny.logged(tmp_path / "off") for name in LOGGED)
    plain = fit_once(make_engine(root), answered, tmp_path / "plain")
    hashes = {name: weights_hash(one.checkpoint) for name, one in found.items()}
    assert hashes["off"] == weights_hash(plain.checkpoint)
    assert hashes["on"] != hashes["off"]


def test_images_with_sets_alone_are_trained_on(
    tiny: Tiny, root: Path, answered: LabelStore, tmp_path: Path
) -> None:
    engine, store = engine_of(root), LabelStore(tmp_path / "labels")
    item = engine.pool[3]
    sets, given = answered.class_sets(item.key), answered.annotated(item.key)
    assert sets is not None
    assert given is not None
    blank = np.full(item.shape, 255, np.uint8)
    store.write(ImageAnswer(item.key, blank, given > 0, sets=sets), 0)
    result = fit_once(engine, store, tmp_path / "fit")
    assert result.extra["samples_without_labels"] == result.extra["samples"] == 16
    values = [line[LOGGED[0]] for line in tiny.logged(tmp_path / "fit")]
    assert min(values) > 0, "crops hold regions, not labels"


@pytest.mark.parametrize("beside", ["unlabeled", "class", "epochs"])
def test_beside_others(
    tiny: Tiny, root: Path, answered: LabelStore, tmp_path: Path, beside: str
) -> None:
    """Batches with images of the pool, weights of pixels, and epochs."""
    changes: dict[str, Any] = {
        "unlabeled": {"acquisition__unlabeled": {"threshold": 0.4}},
        "class": {"acquisition__loss_average": "class"},
        "epochs": {k.replace(".", "__"): v for k, v in tiny.epochs(2).items()},
    }[beside]
    engine = engine_of(root, **changes)
    fit_once(engine, answered, tmp_path / "fit")
    lines = tiny.logged(tmp_path / "fit")
    assert min(line[LOGGED[0]] for line in lines) > 0
    assert ("unlabeled.loss_ce" in lines[0]) == (beside == "unlabeled")


@pytest.mark.slow
def test_a_run(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """Two rounds: clicks are classes, sets are kept, and nothing is asked twice."""
    acquisition = {
        "level": "region",
        "region": {"type": "grid", "cell": 24},
        "heuristic": "Margin",
        "rounds": 1,
        "budget": {"amount": 8, "unit": "region"},
        "warm_start": {"amount": 12, "unit": "region"},
        "previews": 0,
        "annotator": ANNOTATOR,
    }
    engine: Any = make_engine(root, {"acquisition": {**acquisition, "_delete_": True}})
    work_dir = tmp_path / "run"
    runner.run(engine, acquisition, work_dir, report=False)
    records, store = results.load(work_dir).records, LabelStore(work_dir / "labels")
    assert len(records) == 2
    assert store.class_set_keys()
    spent = 0
    for number, record in enumerate(records):
        query = read_query(work_dir / "rounds" / f"{number:03d}" / "query")
        clicks = 0
        for key in query.keys.values():
            item = next(item for item in engine.pool if item.key == key)
            assert item.annotation is not None
            asked = query.asked(key)
            labels, sets, own = class_sets(asked, read_ids(item.annotation), engine.label_space)
            clicks += own
            assert ((store.annotated(key) == number + 1) == (asked > 0)).all()
            kept = store.class_sets(key)
            if sets is not None:
                assert kept is not None
                assert (kept.regions[sets.regions > 0] > 0).all()
            stored = store.read(key)
            assert stored is not None
            assert (stored[asked > 0] == labels[asked > 0]).all()
        spent += clicks
        assert record.costs.clicks == spent
        with PointLog.open(work_dir, readonly=True) as log:
            points = [point.scalars for point in log.of_round(TRAIN, number)]
        found = [
            v for one in points for name, v in one.items() if name.endswith((MERGED, PROTOTYPE))
        ]
        assert len(found) == 2 * len(points) > 0
        assert sum(found) > 0.1
    assert (records[1].costs.clicks or 0) > (records[0].costs.clicks or 0)


def test_what_cannot_be_trained_so(root: Path, tiny: Tiny) -> None:
    with pytest.raises(UnsupportedError, match=r"region_classes takes the softmax.*use_sigmoid=Tr"):
        engine_of(root, model__decode_head__loss_decode__use_sigmoid=True)
    engine_of(root, False, model__decode_head__loss_decode__use_sigmoid=True)
    head = {"_delete_": True, "type": "Mask2FormerHead", "num_classes": 3, "loss_mask": {}}
    with pytest.raises(
        UnsupportedError,
        match=r"acquisition\.region_classes needs logits.*Mask2FormerHead.*region_classes=False",
    ):
        engine_of(root, model__decode_head=head)


def test_side_maps_count_in_shared_memory(root: Path, tiny: Tiny) -> None:
    """4 bytes a pixel."""
    engine: Any = engine_of(root)
    samples = tiny.part("preflight").invented_samples
    without, with_ = (
        batch_bytes(samples(engine._pool, 0.0, maps), 3) for maps in ((), blank_maps(engine.cfg))
    )
    assert with_ - without == 3 * 4 * 64 * 64
    assert blank_maps(engine_of(root, False).cfg) == ()


def test_transforms_that_do_not_move_regions_are_refused(root: Path, tiny: Tiny) -> None:
    engine: Any = engine_of(root)
    key = tiny.part("pool").MASK

    class Turned:
        def __call__(self, data: Any) -> Any:
            return {**data, key: np.ascontiguousarray(data[key][::-1])}

    engine.dataset.pipeline.transforms.insert(2, Turned())
    with pytest.raises(UnsupportedError, match=f"Turned in the training pipeline changes {key}"):
        engine.preflight()
