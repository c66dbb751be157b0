"""Large images cut into tiles (`acquisition.tiles`) behind the engines of both generations."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, fit_once, label_some, make_data, make_engine

from regional_al.errors import ConfigError
from regional_al.loop import runner
from regional_al.store.images import read_ids, read_rgb, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir
from regional_al.types import PredictRequest

TILES = {"size": 64, "context": 32}
REACH = {"tiles": TILES, "level": "region", "heuristic": "RIPU"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """The tiny data set, predicted at its own size."""
    folder = tmp_path_factory.mktemp("tiles")
    make_data(folder)
    tiny.write_config(folder, tiny.unscaled)
    return folder


@pytest.fixture(scope="module")
def whole(scene: Path) -> Any:
    return make_engine(scene)


@pytest.fixture(scope="module")
def tiled(scene: Path) -> Any:
    return make_engine(scene, {"acquisition": REACH})


@pytest.fixture(scope="module")
def checkpoint(scene: Path, whole: Any) -> Path:
    store = LabelStore(scene / "labels")
    label_some(store, whole, 4)
    found: Path = fit_once(whole, store, scene / "fit").checkpoint
    return found


def corner(key: str) -> tuple[str, int, int]:
    """Key of the image of a tile, and where the tile begins."""
    image, _, name = key.rpartition("/")
    row, col = name[1:].split("_c")
    return image, int(row), int(col)


def put_together(engine: Any, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps [..., h, w] of tiles, by key, as maps of whole images."""
    found: dict[str, np.ndarray] = {}
    for item in engine.pool:
        image, row, col = corner(item.key)
        part = maps[item.key]
        empty = np.zeros((*part.shape[:-2], 96, 128), part.dtype)
        found.setdefault(image, empty)[
            ..., row : row + part.shape[-2], col : col + part.shape[-1]
        ] = part
    return found


def test_a_pool_of_tiles_is_the_images(whole: Any, tiled: Any) -> None:
    """Keys, sizes, pixels and annotations."""
    assert len(tiled.pool) == 4 * len(whole.pool)
    pictures = put_together(
        tiled, {i.key: read_rgb(i.image).transpose(2, 0, 1) for i in tiled.pool}
    )
    masks = put_together(tiled, {i.key: read_ids(i.annotation) for i in tiled.pool})
    for item in tiled.pool:
        assert read_ids(item.annotation).shape == item.shape
        assert max(item.shape) <= 64
    for item in whole.pool:
        height, width = item.shape
        seen = pictures[item.key][:, :height, :width].transpose(1, 2, 0)
        assert (seen == read_rgb(item.image)).all()
        assert (masks[item.key][:height, :width] == read_ids(item.annotation)).all()


def test_predictions_of_tiles_are_those_of_the_image(
    whole: Any, tiled: Any, checkpoint: Path
) -> None:
    """With as much context as the network sees, up to rounding."""
    images = {p.index: p.logits for p in whole.predict(checkpoint, range(5), PredictRequest())}
    seen = list(tiled.predict(checkpoint, range(len(tiled.pool)), PredictRequest(features=True)))
    for prediction in seen:
        item = tiled.pool[prediction.index]
        assert tuple(prediction.logits.shape[1:]) == item.shape
        features = prediction.features
        assert features is not None
        assert (len(features.rows), len(features.cols)) == item.shape
    logits = put_together(tiled, {tiled.pool[p.index].key: p.logits.numpy() for p in seen})
    for index, item in enumerate(whole.pool):
        height, width = item.shape
        found = torch.from_numpy(logits[item.key][:, :height, :width])
        if (height, width) == (96, 128):  # others are padded: to another size than their tiles
            torch.testing.assert_close(found, images[index], rtol=1e-4, atol=1e-4)
        else:
            assert (found.argmax(0) == images[index].argmax(0)).float().mean() > 0.98


def test_without_context_borders_differ(scene: Path, whole: Any, checkpoint: Path) -> None:
    bare = make_engine(scene, {"acquisition": {**REACH, "tiles": {"size": 64, "context": 0}}})
    images = {p.index: p.logits for p in whole.predict(checkpoint, range(5), PredictRequest())}
    seen = bare.predict(checkpoint, range(len(bare.pool)), PredictRequest())
    logits = put_together(bare, {bare.pool[p.index].key: p.logits.numpy() for p in seen})
    differ = np.abs(logits[whole.pool[1].key] - images[1].numpy()).max(0)
    assert differ.max() > 0.01
    assert (differ[20:28, 20:40] < 1e-4).all()


def test_evaluation_of_tiles_is_that_of_the_images(
    whole: Any, tiled: Any, checkpoint: Path
) -> None:
    expected, found = whole.evaluate(checkpoint), tiled.evaluate(checkpoint)
    assert (found.sum(1) == expected.sum(1)).all()
    assert np.abs(found - expected).sum() < 0.02 * expected.sum()


def test_a_resizing_pipeline_is_refused_with_what_helps(
    tiny: Tiny, scene: Path, tmp_path: Path
) -> None:
    shutil.copytree(scene / "img", tmp_path / "img")
    shutil.copytree(scene / "gt", tmp_path / "gt")
    tiny.write_config(tmp_path)
    engine = make_engine(tmp_path, {"acquisition": REACH})
    with pytest.raises(ConfigError, match=r"acquisition\.tiles: the test pipeline resizes"):
        engine.preflight()
    make_engine(
        tmp_path, {"acquisition": {**REACH, "tiles": {"size": 64, "context": 0}}}
    ).preflight()


@pytest.mark.parametrize(
    "acquisition",
    [
        {"region": {"type": "grid", "cell": 8}, "heuristic": "Entropy"},
        {"level": "pixel", "heuristic": "Margin", "budget": {"amount": "1%", "scope": "pool"}},
    ],
    ids=["grid", "pixels"],
)
def test_a_run_asks_the_same_with_and_without_tiles(
    acquisition: dict[str, Any], tiny: Tiny, tmp_path: Path
) -> None:
    """Same model, same labels: the same pixels are asked for, whether images are cut or not."""
    make_data(tmp_path, train=2, val=1)
    for path in sorted((tmp_path / "img/train").rglob("00_*")) + sorted(
        (tmp_path / "gt/train").rglob("00_*")
    ):
        path.unlink()  # the one whose size is no multiple
    tiny.write_config(tmp_path, tiny.unscaled)
    asked = {}
    for name, tiles in (("whole", None), ("tiled", TILES)):
        spec = {
            **acquisition,
            "tiles": tiles,
            "rounds": 1,
            "queries": [0],
            "warm_start": None,
            "previews": 0,
        }
        engine = make_engine(tmp_path, {"acquisition": spec, tiny.iterations: 1})
        runner.run(engine, spec, tmp_path / name, report=False)
        query = read_query(WorkDir(tmp_path / name).query(1))
        if tiles is None:
            asked[name] = {key: query.asked(key) > 0 for key in query.image_keys()}
            continue
        maps = {i.key: np.zeros(i.shape, bool) for i in engine.pool}
        maps.update({key: query.asked(key) > 0 for key in query.image_keys()})
        asked[name] = put_together(engine, maps)
        labels = LabelStore(WorkDir(tmp_path / name).labels)
        for item in engine.pool:
            given = labels.read(item.key)
            if maps[item.key].any():
                assert given is not None
                truth = read_ids(item.annotation)
                assert (given[maps[item.key]] == truth[maps[item.key]]).all()
    assert asked["whole"].keys() == asked["tiled"].keys()
    for key, expected in asked["whole"].items():
        assert expected.any()
        assert (asked["tiled"][key] == expected).mean() > 0.998


def test_joined_data_sets_are_cut(tiny: Tiny, scene: Path, tmp_path: Path) -> None:
    plain: Any = make_engine(scene)
    shutil.copytree(scene, tmp_path / "other")
    first = tiny.train_spec(plain)
    specs = [first, {**first, "data_root": str(tmp_path / "other"), **other_folder(tiny, tmp_path)}]
    engine: Any = make_engine(scene, {**tiny.joined(specs), "acquisition": REACH})
    assert len(engine.pool) == len(engine.dataset) == 40
    seen = next(iter(engine.predict(None, [39], PredictRequest())))
    assert tuple(seen.logits.shape[1:]) == engine.pool[39].shape


def other_folder(tiny: Tiny, folder: Path) -> dict[str, Any]:
    """Folders of a second data set, whose images have other keys."""
    (folder / "other/img/more").mkdir()
    shutil.move(folder / "other/img/train", folder / "other/img/more/again")
    (folder / "other/gt/more").mkdir()
    shutil.move(folder / "other/gt/train", folder / "other/gt/more/again")
    return tiny.folders("img/more", "gt/more")


def test_people_answer_by_tile_and_the_cache_may_go(tiny: Tiny, tmp_path: Path) -> None:
    """Asked, answered and stored by tile; a run resumes after its tiles have been deleted."""
    make_data(tmp_path, train=2, val=1)
    tiny.write_config(tmp_path, tiny.unscaled)
    spec = {
        "level": "region",
        "region": {"type": "grid", "cell": 16},
        "heuristic": "Random",
        "tiles": TILES,
        "rounds": 0,
        "warm_start": {"amount": 5, "unit": "region"},
        "annotator": "folder",
        "previews": 0,
    }

    def go() -> Any:
        engine = make_engine(tmp_path, {"acquisition": spec, tiny.iterations: 1})
        return engine, runner.run(engine, spec, tmp_path / "work", report=False)

    engine, loop = go()
    assert loop.status == "waiting"
    files = WorkDir(tmp_path / "work")
    query = read_query(files.query(0))
    truth = {item.key: read_ids(item.annotation) for item in engine.pool}
    for key in query.image_keys():
        assert (files.query(0) / "asked" / f"{key}.png").is_file()
        said = np.where(query.asked(key) > 0, np.minimum(truth[key], 254), 255).astype(np.uint8)
        write_png(files.answers(0) / f"{key}.png", said)
    shutil.rmtree(files.cache)
    engine, loop = go()
    assert loop.status == "finished"
    labels = LabelStore(files.labels)
    assert set(labels.keys()) == set(query.image_keys())
    for key in query.image_keys():
        given, asked = labels.read(key), query.asked(key) > 0
        assert given is not None
        assert (given[asked] == truth[key][asked]).all()
        assert (given[~asked] == 255).all()
