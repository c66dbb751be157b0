"""Suspect labels: by hand, by brute force, and planted in a whole run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given
from hypothesis import strategies as st

import regional_al
from regional_al import cli
from regional_al.annotators import build_annotator
from regional_al.engines.base import Prediction
from regional_al.errors import ConfigError, WorkDirError
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.review import find_suspects
from regional_al.review.page import around, pictures, render
from regional_al.review.suspects import Parts, likelier, parts_of, thresholds
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

ASKED = {
    "level": "region",
    "region": {"type": "grid", "cell": 12},
    "heuristic": "Random",
    "budget": "15%",
    "warm_start": "25%",
    "rounds": 1,
    "previews": 0,
    "seed": 3,
}


@given(st.integers(0, 10**6))
def test_parts_are_those_of_a_pixel_by_pixel_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, shape = 3, (4, 6)
    p = torch.from_numpy(rng.dirichlet(np.ones(classes), shape)).permute(2, 0, 1).float()
    labels = rng.integers(-1, classes, shape).astype(np.int32)
    items = rng.integers(0, 3, shape).astype(np.int32)
    parts = parts_of(p, labels, items)
    found = {(i, c): n for n, (i, c) in enumerate(zip(parts.item, parts.label, strict=True))}
    wanted: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y, x in np.ndindex(*shape):
        if items[y, x] > 0 and labels[y, x] >= 0:
            wanted.setdefault((int(items[y, x]), int(labels[y, x])), []).append((y, x))
    assert found.keys() == wanted.keys()
    for name, pixels in wanted.items():
        n = found[name]
        assert parts.pixels[n] == len(pixels)
        assert divmod(int(parts.first[n]), shape[1]) == min(pixels)
        mean = torch.stack([p[:, y, x].double() for y, x in pixels]).mean(0)
        assert parts.means[n].tolist() == pytest.approx(mean.tolist(), abs=1e-6)


def test_thresholds_and_verdicts_by_hand() -> None:
    """t_0 = (2 * .9 + 1 * .3) / 3 = .7, t_1 = .6; class 2 has no label, so it cannot be named."""
    means = np.array([[0.9, 0.1, 0.0], [0.3, 0.65, 0.05], [0.2, 0.6, 0.2], [0.05, 0.05, 0.9]])
    label, pixels = np.array([0, 0, 1, 0]), np.array([2, 1, 4, 0])
    parts = Parts(np.arange(1, 5), label, np.zeros(4, np.int64), pixels, means.astype(np.float32))
    least = thresholds([parts], 3)
    assert least.tolist() == pytest.approx([0.7, 0.6, np.inf])
    assert likelier(parts, least - 1e-6).tolist() == [0, 1, 1, -1]


def test_without_any_label_nothing_is_suspect() -> None:
    nothing = np.zeros(0, np.int64)
    parts = Parts(nothing, nothing, nothing, nothing, np.zeros((0, 3), np.float32))
    assert likelier(parts, thresholds([parts], 3)).tolist() == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suspects") / "streets"
    return streets.generate(root, train=12, val=2, size=(60, 84), seed=1)


def knowing(data: Path) -> Any:
    """An engine whose model is right about most pixels, whatever it was trained on."""
    engine = toy_engine(data, iterations=1)

    def predict(checkpoint: Path, indices: Sequence[int], request: Any) -> Iterator[Prediction]:
        assert checkpoint.is_file()
        for index in indices:
            truth = torch.from_numpy(read_ids(engine.pool[index].annotation or Path())).long()
            noise = torch.randn(11, *truth.shape, generator=torch.Generator().manual_seed(index))
            known = nnf.one_hot(truth.clamp(max=10), 11).permute(2, 0, 1)
            yield Prediction(index, 2.5 * known + noise)

    engine.predict = predict  # type: ignore[assignment,method-assign]
    return engine


@pytest.fixture(scope="module")
def erring(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which one class of five is taken for another."""
    work_dir = tmp_path_factory.mktemp("runs") / "erring"
    who = {"type": "simulated", "errors": {"wrong_class": 0.2}}
    engine = toy_engine(data, iterations=1)
    regional_al.run(engine, {**ASKED, "annotator": who}, work_dir, report=False)
    return work_dir


def test_planted_errors_come_first(data: Path, erring: Path) -> None:
    engine = knowing(data)
    found = find_suspects(erring, engine)
    truth = {item.key: read_ids(item.annotation or item.image) for item in engine.pool}
    planted = set()
    store, query = LabelStore(erring / "labels"), read_query(erring / "rounds/001/query")
    for key in query.image_keys():
        asked = np.where(store.annotated(key) == 2, query.asked(key), 0)
        labels = store.read(key)
        assert labels is not None
        for item, label in product(range(1, asked.max() + 1), range(11)):
            part = (asked == item) & (labels == label)
            if part.any() and (truth[key][part] != label).mean() > 0.5:
                planted.add((key, item, label))
    assert len(planted) > 12
    unseen = [(one.key, one.item, one.label) for one in found.found if one.unseen]
    first = unseen[: len(planted)]
    assert len(planted & set(first)) > 0.7 * len(planted)
    assert len(planted & set(unseen)) > 0.75 * len(planted)
    assert {one.round: one.unseen for one in found.found} == {0: False, 1: True}
    seen = [one.unseen for one in found.found]
    assert seen == sorted(seen, reverse=True)
    for kind in (True, False):
        scores = [one.score for one in found.found if one.unseen is kind]
        assert scores == sorted(scores, reverse=True)
    best = found.found[0]
    margin = best.predicted_probability - best.label_probability
    assert best.score == pytest.approx(margin * best.pixels**0.5)


def test_a_judge_of_a_round_has_not_seen_it(data: Path, erring: Path, tmp_path: Path) -> None:
    """Without the first checkpoint the model that knows the labels of round 1 judges them."""
    run = Path(shutil.copytree(erring, tmp_path / "run"))
    (run / "rounds/000/fit/checkpoint.pth").unlink()
    found = find_suspects(run, knowing(data))
    assert not any(one.unseen for one in found.found)
    assert found.seen == found.judged > 0
    (run / "rounds/001/fit/checkpoint.pth").unlink()
    with pytest.raises(WorkDirError, match="has no model that could judge"):
        find_suspects(run, knowing(data))


def test_other_images_are_refused(erring: Path, tmp_path: Path) -> None:
    other = streets.generate(tmp_path / "other", train=1, val=1, size=(60, 84))
    with pytest.raises(ConfigError, match=r"does not have the image 'train_00\d\d'"):
        find_suspects(erring, toy_engine(other))


def test_the_page_shows_the_part_and_counts_the_rest(data: Path, erring: Path) -> None:
    engine = knowing(data)
    found = find_suspects(erring, engine)
    page = render(erring, engine, found, 2)
    assert page.count("<img") == 4
    assert f"{len(found.found) - 2} more are in the table" in page
    assert found.found[0].key in page
    empty = type(found)((), found.judged, found.pixels, 0)
    assert "No answer is suspect" in render(erring, engine, empty, 2)


def test_what_is_shown_lies_inside_the_image() -> None:
    for y, x in ((0, 0), (59, 83), (30, 40)):
        part = np.zeros((60, 200), bool)
        part[y, x] = True
        rows, cols = around(part)
        assert part[rows, cols].sum() == 1
        assert 0 <= rows.start < rows.stop <= 60
        assert 0 <= cols.start < cols.stop <= 200
        plain, marked = pictures(np.zeros((60, 200, 3), np.uint8), part)
        assert plain["width"] == marked["width"]
        assert max(plain["width"], plain["height"]) == 220


def test_a_run_that_waits_can_be_looked_at(data: Path, tmp_path: Path) -> None:
    """Answers of the round that is asked are not there yet; those before are judged."""
    engine = toy_engine(data, iterations=1)
    asked = {**ASKED, "rounds": 2}
    config = regional_al.Acquisition.parse(asked)
    annotator = build_annotator(config.annotator, engine.pool, engine.label_space, 0)
    loop = ActiveLearningLoop(engine, config, annotator, tmp_path / "run")
    assert loop.step()
    assert loop.step()
    loop.records.close()
    assert find_suspects(tmp_path / "run", engine).judged > 0


ENGINE = """
from pathlib import Path
from regional_al.engines.base import ENGINES, EngineLoader
from regional_al.testing.toy import toy_engine

@ENGINES.register("toy_of_suspects")
class Loader(EngineLoader):
    def build(self, cfg):
        return toy_engine(Path(cfg["data_root"]), iterations=2)
"""


def test_the_command_finds_the_config_writes_table_and_page(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_of_suspects.py").write_text(ENGINE)
    config, run = tmp_path / "config.json", tmp_path / "run"
    what = {"engine": "toy_of_suspects", "data_root": str(data), "acquisition": ASKED,
            "custom_imports": {"imports": ["toy_of_suspects"]}}  # fmt: skip
    config.write_text(json.dumps(what))
    assert cli.main(["train", str(config), "--work-dir", str(run), "--no-report"]) == 0
    capsys.readouterr()
    assert cli.main(["suspects", str(run), "--top", "1"]) == 0
    said = capsys.readouterr().out
    with (run / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert f"{len(rows):,} of " in said
    assert {row["unseen"] for row in rows} <= {"0", "1"}
    assert all(row["label"] in streets.CLASSES for row in rows)
    assert (run / "suspects.html").read_text().count("<img") == 2 * min(1, len(rows))
    assert cli.main(["check", str(run)]) == 0
    out = tmp_path / "elsewhere.csv"
    assert cli.main(["suspects", str(run), "--config", str(config), "--out", str(out)]) == 0
    assert out.read_text() == (run / "suspects.csv").read_text()
    assert out.with_suffix(".html").is_file()
    config.unlink()
    for arguments, message in (
        ([str(run)], f"error: {config}, the config of {run}, is gone: restore it, or add --config"),
        ([str(tmp_path)], "error: "),
        ([str(run), "--top", "-1"], "error: --top=-1 must be"),
        ([str(run), "--out", str(run)], "error: "),
    ):
        capsys.readouterr()
        assert cli.main(["suspects", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(message)
        assert said.count("\n") == 1
