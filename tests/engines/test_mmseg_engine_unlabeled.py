"""Training on pixels without an answer with the MMSegmentation engines, on the tiny data set."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, fit_once, label_some, make_engine, weights_hash
from paths import HELPERS

from regional_al.engines.base import FitRequest
from regional_al.engines.mmseg.pool_stream import stream_of, unanswered
from regional_al.engines.mmseg.self_training import ENTRY, SelfTraining
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.images import write_png
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

ON = {"threshold": 0.4}
HOOKS = {"EMAHook": [{"type": "EMAHook"}]}
ACCUMULATE = {
    "mmseg1": {"optim_wrapper.accumulative_counts": 3},
    "mmseg0": {
        "optimizer_config.type": "GradientCumulativeOptimizerHook",
        "optimizer_config.cumulative_iters": 3,
    },
}


def engine_of(root: Path, unlabeled: Any = ON, **more: Any) -> Any:
    return make_engine(root, {"acquisition.unlabeled": unlabeled}, **more)


def entry_of(tiny: Tiny, checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights, what belongs to the teacher) of a checkpoint."""
    content = torch.load(checkpoint, weights_only=True)
    holder = content if tiny.name == "mmseg1" else content["meta"]
    return content["state_dict"], holder[ENTRY]


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_weight_zero_trains_as_without_the_key(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Labelled images, their order and augmentation are those of a training without the key, and
    the batches hold others, too."""
    off = fit_once(make_engine(root), store, tmp_path / "off")
    zero = fit_once(engine_of(root, {"weight": 0.0}), store, tmp_path / "zero")
    on = fit_once(engine_of(root), store, tmp_path / "on")
    assert weights_hash(zero.checkpoint) == weights_hash(off.checkpoint)
    assert weights_hash(on.checkpoint) != weights_hash(off.checkpoint)
    assert "unlabeled" not in off.extra
    for result in (zero, on):
        assert (result.label_share, result.iterations) == (off.label_share, off.iterations)
        assert {**off.extra, "unlabeled": result.extra["unlabeled"]} == result.extra
        assert 0.8 * 16 * 64 * 64 < result.extra["unlabeled"]["pixels"] < 16 * 64 * 64


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1), (1.0, 0)])
def test_all_or_none_confident(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path, threshold: float, share: int
) -> None:
    result = fit_once(engine_of(root, {"threshold": threshold}), store, tmp_path / "fit")
    found = result.extra["unlabeled"]
    assert sum(found["confident"]) == share * found["pixels"]
    assert len(found["confident"]) == 3
    weights, entry = entry_of(tiny, result.checkpoint)
    assert all(torch.isfinite(one).all() for one in weights.values())
    assert entry["updates"] == 8
    assert not same(weights, entry["teacher"])
    assert weights.keys() == entry["teacher"].keys()


def test_the_teacher_can_be_kept(tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path) -> None:
    """The same training; its weights and the teacher's have changed places. So in the second
    stretch of a continuous run, which goes on from the first."""
    found = {}
    for keep in ("student", "teacher"):
        engine = engine_of(root, {**ON, "keep": keep})
        first = fit_once(engine, store, tmp_path / keep / "first", until=5)
        last = fit_once(
            engine, store, tmp_path / keep / "last", until=-1, previous=first.checkpoint, seed=4
        )
        found[keep] = [entry_of(tiny, one.checkpoint) for one in (first, last)]
        assert found[keep][1][1]["updates"] == 8
        network = engine.network(last.checkpoint).state_dict()
        assert same(dict(network), found[keep][1][0])
    for (weights, entry), (others, other) in zip(found["student"], found["teacher"], strict=True):
        assert same(weights, other["student"])
        assert same(entry["teacher"], others)
        assert not same(weights, others)


def test_the_teacher_of_a_continuous_run_goes_on(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(root)
    first = fit_once(engine, store, tmp_path / "first", until=5)
    begun: list[Any] = []
    begin = SelfTraining.begin

    def watched(self: Any, student: Any, saved: Any = None) -> None:
        begin(self, student, saved)
        begun.append((self.updates, {k: v.clone() for k, v in self.teacher.state_dict().items()}))

    monkeypatch.setattr(SelfTraining, "begin", watched)
    fit_once(engine, store, tmp_path / "last", until=-1, previous=first.checkpoint)
    fit_once(engine, store, tmp_path / "anew", init="continue", previous=first.checkpoint)
    weights, entry = entry_of(tiny, first.checkpoint)
    assert [updates for updates, _ in begun] == [5, 0]
    assert same(begun[0][1], entry["teacher"])
    assert same(begun[1][1], weights), "a training of its own begins with its own start"


def test_gradients_are_accumulated(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """8 iterations, a step after 3, 6 and 8 of them."""
    engine = engine_of(root, **{k.replace(".", "__"): v for k, v in ACCUMULATE[tiny.name].items()})
    result = fit_once(engine, store, tmp_path / "fit")
    assert entry_of(tiny, result.checkpoint)[1]["updates"] == 3


def test_beside_an_ema_hook(tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = engine_of(root, custom_hooks=HOOKS["EMAHook"])
    result = fit_once(engine, store, tmp_path / "fit")
    content = torch.load(result.checkpoint, weights_only=True)
    assert tiny.has_average(content)
    assert not any("ema_" in name for name in entry_of(tiny, result.checkpoint)[1]["teacher"])
    with pytest.raises(UnsupportedError, match=r"keep='teacher' and EMAHook .* two averages"):
        engine_of(root, {"keep": "teacher"}, custom_hooks=HOOKS["EMAHook"])


def test_every_image_with_an_open_pixel_takes_part(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """Of five images: one labelled throughout (void, too), one in part, three not at all."""
    engine, store = engine_of(root), LabelStore(tmp_path / "labels")
    label_some(store, engine, 1, share=1.1)
    item = engine.pool[1]
    labels = np.full(item.shape, 255, np.uint8)
    answered = np.zeros(item.shape, bool)
    answered[:20] = True  # void
    answered[20:40], labels[20:40] = True, 1
    store.write(ImageAnswer(item.key, labels, answered), 0)
    stream = stream_of(*arguments(tiny, engine, store, tmp_path))
    assert stream is not None
    assert stream.dataset.indices.tolist() == [1, 2, 3, 4]
    result = fit_once(engine, store, tmp_path / "fit")
    assert result.extra["unlabeled"]["pixels"] > 0
    label_some(store, engine, 5, share=1.1)
    assert stream_of(*arguments(tiny, engine, store, tmp_path)) is None
    result = fit_once(engine, store, tmp_path / "all")
    assert result.extra["unlabeled"] == {"pixels": 0, "confident": [0, 0, 0]}
    assert entry_of(tiny, result.checkpoint)[1]["updates"] == 8


def arguments(tiny: Tiny, engine: Any, store: LabelStore, out: Path) -> tuple[Any, ...]:
    """Of `stream_of`."""
    request = FitRequest(round=0, seed=3, store=store, out_dir=out)
    return engine._pool, request, engine.read_sample, tiny.part("unlabeled").mark


def image_and_map(tiny: Tiny, sample: Any) -> tuple[np.ndarray, np.ndarray]:
    """First channel of the image in 0..255 [H, W], and the label map [H, W]."""
    if tiny.name == "mmseg1":
        return sample["inputs"][0].numpy(), sample["data_samples"].gt_sem_seg.data[0].numpy()
    norm = sample["img_metas"].data["img_norm_cfg"]
    image = sample["img"].data[0].numpy() * norm["std"][0] + norm["mean"][0]
    return image, sample["gt_semantic_seg"].data[0].numpy()


def test_maps_follow_the_image_through_the_pipeline(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """An image that is white where a pixel is open and grey where it is answered: cropped, padded
    (black) and flipped, it says the same as its map; padding is not open."""
    engine = engine_of(root)
    store, rng = LabelStore(tmp_path / "labels"), np.random.default_rng(0)
    item = engine.pool[0]
    answered = rng.random(item.shape) < 0.3
    labels = np.where(rng.random(item.shape) < 0.5, 255, 2).astype(np.uint8)
    store.write(ImageAnswer(item.key, labels, answered), 0)
    copied = tmp_path / "img"
    image = np.where(unanswered(store, item) == 0, 255, 100).astype(np.uint8)
    write_png(copied / "town" / "00_img.png", np.repeat(image[..., None], 3, axis=2))
    write_png(tmp_path / "gt" / "town" / "00_gt.png", np.zeros(item.shape, np.uint8))
    spec = tiny.train_spec(engine)
    moved = ("Resize", "Photo")
    spec["pipeline"] = [
        step for step in spec["pipeline"] if not any(name in step["type"] for name in moved)
    ]
    size = (140, 80) if tiny.name == "mmseg1" else (80, 140)
    pad = {"type": "Pad", "size": size}
    for place, step in enumerate(spec["pipeline"]):
        if "Crop" in step["type"]:
            step["crop_size"] = (70, 140)
            spec["pipeline"].insert(place + 1, pad)
            break
    spec["pipeline"] = [
        step for i, step in enumerate(spec["pipeline"]) if step == pad or step["type"] != "Pad"
    ]
    spec.update(data_root=str(tmp_path), **tiny.folders("img", "gt"))
    other: Any = make_engine(
        root,
        {"acquisition.unlabeled": ON, tiny.train_set: {**spec, "_delete_": True}},
    )
    assert [one.key for one in other.pool] == [item.key]
    stream = stream_of(*arguments(tiny, other, store, tmp_path))
    assert stream is not None
    flips = set()
    for draw in range(8):
        values, states = image_and_map(tiny, stream[draw])
        assert values.shape == states.shape == (80, 140)
        assert np.count_nonzero(values < 50) == 80 * 140 - 70 * 122
        assert np.array_equal(states != 255, values > 180)
        assert 0.6 < (states != 255).sum() / (70 * 122) < 0.8
        flips.add(values.tobytes())
    assert len(flips) > 1


def test_a_pixel_that_covers_an_answer_is_not_open(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """At half size, by brute force."""
    engine = engine_of(root)
    store, rng = LabelStore(tmp_path / "labels"), np.random.default_rng(0)
    item = engine.pool[0]
    answered = rng.random(item.shape) < 0.1
    labels = np.where(rng.random(item.shape) < 0.5, 255, 2).astype(np.uint8)
    store.write(ImageAnswer(item.key, labels, answered), 0)
    height, width = item.shape[0] // 2, item.shape[1] // 2
    scale = {"scale" if tiny.name == "mmseg1" else "img_scale": (width, height)}
    spec, steps = tiny.train_spec(engine), []
    for step in spec["pipeline"]:
        if "Resize" in step["type"]:
            steps.append({"type": "Resize", "keep_ratio": False, **scale})
        elif "Flip" in step["type"]:
            steps.append({**step, "prob": 0.0})
        elif not any(name in step["type"] for name in ("Crop", "Photo", "Pad")):
            steps.append(step)
    changes = {tiny.train_set: {**spec, "pipeline": steps, "_delete_": True}}
    other: Any = make_engine(root, {"acquisition.unlabeled": ON, **changes})
    stream = stream_of(*arguments(tiny, other, store, tmp_path))
    assert stream is not None
    place = stream.dataset.indices.tolist().index(0)
    _, states = image_and_map(tiny, stream.dataset[place])
    cells = answered.reshape(height, 2, width, 2).any(axis=(1, 3))
    assert np.array_equal(states == 255, cells)
    assert 0.3 < cells.mean() < 0.4


def one_channel(tiny: Tiny, root: Path, tmp_path: Path) -> Any:
    lines = tiny.one_channel + "\nacquisition['unlabeled'] = True\n"
    path = tmp_path / "tiny.py"
    path.write_text((tiny.config + lines).replace("ROOT", str(root)))
    return make_engine(tmp_path)


def test_heads_and_schedules_that_cannot(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"unlabeled .* model\.decode_head with one channel"):
        one_channel(tiny, root, tmp_path)
    with pytest.raises(UnsupportedError, match=r"model\.decode_head\.loss_decode has use_sigmoid"):
        engine_of(root, model__decode_head__loss_decode__use_sigmoid=True)
    with pytest.raises(UnsupportedError, match=r"acquisition\.unlabeled needs training in iter"):
        make_engine(root, {"acquisition.unlabeled": ON, **tiny.epochs(2)})
    with pytest.raises(UnsupportedError, match=r"unlabeled and source_dataloader cannot be comb"):
        engine_of(root, source_dataloader={"dataset": {"type": "CustomDataset"}})
    with pytest.raises(ConfigError, match=r"acquisition\.unlabeled\.views=0 must be"):
        engine_of(root, {"views": 0})


def test_a_head_without_one_map_of_logits_is_refused_before_anybody_is_asked(
    root: Path,
) -> None:
    """EncHead gives a list."""
    engine = engine_of(
        root,
        model__decode_head={
            "_delete_": True,
            "type": "EncHead",
            "in_channels": [32, 16, 8],
            "in_index": (0, 1, 2),
            "channels": 8,
            "num_codes": 4,
            "use_se_loss": True,
            "add_lateral": False,
            "num_classes": 3,
            "norm_cfg": {"type": "BN"},
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss"},
        },
    )
    with pytest.raises(UnsupportedError, match=r"EncHead.*gives a (list|tuple), not one map"):
        engine.preflight()


@pytest.mark.parametrize("keep", ["student", "teacher"])
def test_a_run_records_what_the_teacher_was_sure_of(
    tiny: Tiny, root: Path, tmp_path: Path, keep: str
) -> None:
    acquisition = {
        "level": "pixel",
        "heuristic": "Margin",
        "rounds": 1,
        "budget": 20,
        "previews": 0,
        "unlabeled": {**ON, "batch_size": 1, "keep": keep},
    }
    engine = make_engine(root, {"acquisition": {**acquisition, "_delete_": True}})
    work_dir = tmp_path / "run"
    runner.run(engine, acquisition, work_dir, report=False)
    records = results.load(work_dir).records
    assert len(records) == 2
    for record in records:
        assert record.unlabeled is not None
        assert 0.8 * 8 * 64 * 64 < record.unlabeled["pixels"] < 8 * 64 * 64
        assert 0 < sum(record.unlabeled["confident"]) <= record.unlabeled["pixels"]


@pytest.mark.slow
def test_two_processes_end_with_the_same_student_and_teacher(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Each shows its own images; batch norm has its own statistics on each, but the teacher does
    not."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = str(HELPERS / "mmseg_unlabeled_worker.py")
    done = subprocess.run(
        [sys.executable, *launch, worker, str(root), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    found = ast.literal_eval(ranks[0].splitlines()[-1])
    assert 0.8 * 32 * 64 * 64 < found["pixels"] < 32 * 64 * 64, "of both ranks"
