"""The loop end to end on the toy engine: resume, processes, ground truth, exhaustion, waiting."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from warm_ranks import launch

from regional_al.config import grammar as config
from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store import results as records
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
SETTINGS: dict[str, dict[str, Any]] = {
    "slic": {"level": "region", "region": {"type": "slic", "n_segments": 30}},
    "window": {"level": "region", "region": "window"},
    "grid-click": {
        "level": "region",
        "region": {"type": "grid", "cell": 8},
        "heuristic": "Entropy",
        "annotator": {"type": "oracle", "answer": "dominant"},
        "budget": {"amount": 20, "unit": "click"},
    },
    "pixel-margin": {"level": "pixel", "heuristic": "Margin"},
    "pixel-ripu": {"level": "pixel", "heuristic": {"type": "RIPU", "radius": 4}},
    "image": {
        "level": "image",
        "heuristic": "LeastConfidence",
        "budget": {"amount": 2, "unit": "image"},
    },
    "random": {"level": "region", "heuristic": "Random", "region": {"type": "grid", "cell": 5}},
}


def settings(name: str, **more: Any) -> dict[str, Any]:
    return {"heuristic": "RIPU", "rounds": 2, "seed": 5, **SETTINGS[name], **more}


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is drawn once, in the last test; it has tests of its own."""
    monkeypatch.setattr(runner, "finish", lambda *_: None)


def start(data: Path, work_dir: Path, acquisition: dict[str, Any]) -> ActiveLearningLoop:
    work_dir.mkdir(parents=True, exist_ok=True)
    return runner.run(toy_engine(data, SPACE), config.parse(acquisition), work_dir)


def picks(work_dir: Path) -> dict[str, bytes]:
    """All that a run asked, byte for byte."""
    folders = sorted(work_dir.glob("rounds/*/query"))
    assert folders
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()]
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


@pytest.mark.parametrize("name", SETTINGS)
def test_rounds_spend_within_budget_and_label_only_what_was_asked(
    name: str, data: Path, tmp_path: Path
) -> None:
    acquisition = config.parse(settings(name))
    loop = start(data, tmp_path, settings(name))
    assert loop.status == "finished"
    results = records.load(tmp_path)
    assert [r.round for r in results.records] == [0, 1, 2]
    store = LabelStore(tmp_path / "labels")
    budget = {0: acquisition.warm_start.budget, 1: acquisition.budget, 2: acquisition.budget}
    for record in results.records:
        limit = loop.acquirer.limit(budget[record.round])
        query = read_query(tmp_path / f"rounds/{record.round:03d}/query")
        assert 0 < budget[record.round].cost_of(query.picks).sum() <= limit
        assert record.asked.pixels == query.picks["pixels"].sum()
        assert record.asked.regions == len(query.picks)
        for key in query.image_keys():
            asked = query.asked(key) > 0
            assert np.array_equal(store.annotated(key) == record.round + 1, asked)
        assert record.miou is not None
        assert 0 <= record.miou <= 1
    if name != "grid-click":  # full answers are the truth itself
        for item in loop.engine.pool:
            said = store.annotated(item.key)
            if said is not None:
                truth = read_ids(item.annotation)
                assert np.array_equal(store.read(item.key)[said > 0], truth[said > 0])


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the package may catch it."""


KILLS = [
    ("regional_al.acquisition.acquirer", "write_query", 2, "before"),
    ("regional_al.acquisition.acquirer", "write_query", 2, "after"),
    ("regional_al.store.labels.LabelStore", "write", 4, "before"),
    ("regional_al.store.labels.LabelStore", "write", 4, "after"),
    ("regional_al.store.ledger.Ledger", "mark", 6, "before"),
    ("regional_al.store.ledger.Ledger", "mark", 6, "after"),
    ("regional_al.engines.torch.TorchEngine", "fit", 2, "before"),
    ("regional_al.engines.torch.TorchEngine", "fit", 2, "after"),
    ("regional_al.engines.torch.TorchEngine", "evaluate", 1, "before"),
    ("regional_al.store.results", "append_record", 2, "before"),
]


@pytest.mark.parametrize(("where", "what", "nth", "when"), KILLS)
def test_killed_and_resumed_ends_with_the_same_picks_and_records(
    where: str,
    what: str,
    nth: int,
    when: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start(data, whole, settings("slic"))
    import importlib

    try:
        owner: Any = importlib.import_module(where)
    except ModuleNotFoundError:
        module, name = where.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), name)
    true, calls = getattr(owner, what), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            raise Killed
        result = true(*args, **kwargs)
        if calls == nth:
            raise Killed
        return result

    monkeypatch.setattr(owner, what, dying)
    with pytest.raises(Killed):
        start(data, broken, settings("slic"))
    monkeypatch.setattr(owner, what, true)
    start(data, broken, settings("slic"))
    assert picks(broken) == picks(whole)

    def facts(work_dir: Path) -> list[Any]:
        return [(r.round, r.costs, r.asked, r.miou) for r in records.load(work_dir).records]

    assert facts(broken) == facts(whole)
    for key in LabelStore(whole / "labels").keys():  # noqa: SIM118
        name = f"labels/{key}.png"
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


@pytest.mark.parametrize("name", ["slic", "window", "pixel-margin", "image"])
def test_corrupting_unqueried_ground_truth_changes_no_pick(
    name: str, data: Path, tmp_path: Path
) -> None:
    start(data, tmp_path / "honest", settings(name))
    other = tmp_path / "data"
    shutil.copytree(data, other)
    store = LabelStore(tmp_path / "honest" / "labels")
    changed = 0
    for path in (other / "annotations" / "train").iterdir():
        truth, said = read_ids(path), store.annotated(path.stem)
        unseen = np.ones(truth.shape, bool) if said is None else said == 0
        truth[unseen] = (truth[unseen].astype(int) + 1) % SPACE.num_classes
        changed += int(unseen.sum())
        write_png(path, truth)
    assert changed > 1000
    start(other, tmp_path / "corrupt", settings(name))
    assert picks(tmp_path / "corrupt") == picks(tmp_path / "honest")


@pytest.mark.slow
def test_same_picks_on_1_2_and_4_processes(data: Path, tmp_path: Path) -> None:
    runs = [settings(name) for name in ("slic", "window", "pixel-margin")]
    machine = {
        "heuristic": {"type": "SIM", "class_weight": True},
        "warm_start": {"prelabels": str(data / "annotations/train")},
        "annotator": {"type": "oracle", "answer": "correction"},
    }
    runs.append(settings("random", **machine))
    for processes in (1, 2, 4):  # 7 images: divided by none of them
        launch(processes, data, tmp_path / str(processes), runs)
    for run in ("0", "1", "2", "3"):
        one, two, four = (picks(tmp_path / str(processes) / run) for processes in (1, 2, 4))
        assert one == two == four


@pytest.mark.slow
def test_two_processes_end_together_when_nothing_can_be_selected(
    data: Path, tmp_path: Path
) -> None:
    """Only rank 0 holds the costs of all ranks; both must learn why the run ends."""
    many = settings("image", rounds=9, budget={"amount": 3, "unit": "image"})
    launch(2, data, tmp_path / "exhausted", many)
    assert "no unlabelled unit is left" in str(records.load(tmp_path / "exhausted").stopped)
    small = settings("slic", budget={"amount": 2, "unit": "pixel"})
    launch(2, data, tmp_path / "small", small, ends=2)


def test_exhausted_pool_ends_the_run_well(data: Path, tmp_path: Path) -> None:
    many = settings("image", rounds=9, budget={"amount": 3, "unit": "image"})
    loop = start(data, tmp_path, many)
    assert loop.status == "finished"
    assert "no unlabelled unit is left" in loop.reason
    asked = [r.asked.images for r in records.load(tmp_path).records]
    assert asked == [3, 3, 1]  # 7 images; the last round is smaller


def test_a_finished_run_can_be_prolonged(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "short", settings("slic", rounds=1))
    start(data, tmp_path / "short", settings("slic", rounds=2))
    start(data, tmp_path / "long", settings("slic", rounds=2))
    assert picks(tmp_path / "short") == picks(tmp_path / "long")


def test_waits_for_answers_from_a_folder_and_goes_on(data: Path, tmp_path: Path) -> None:
    """Answers come late and in two parts, from images without any annotation file."""
    bare = tmp_path / "bare"
    shutil.copytree(data, bare)
    shutil.rmtree(bare / "annotations" / "train")
    by_hand = settings("slic", rounds=1, annotator={"type": "folder"})
    truth = {item.key: item for item in toy_engine(data, SPACE).pool}
    work_dir = tmp_path / "run"
    for round_ in (0, 1):
        loop = start(bare, work_dir, by_hand)
        assert loop.status == "waiting"
        query = read_query(work_dir / f"rounds/{round_:03d}/query")
        answers = work_dir / f"rounds/{round_:03d}/answers"
        keys = query.image_keys()
        for part in (keys[:1], keys[1:]):
            for key in part:
                raw = read_ids(truth[key].annotation)
                said = np.where(query.asked(key) > 0, np.where(raw == 255, 254, raw), 255)
                write_png(answers / f"{key}.png", said.astype(np.uint8))
            if part is not keys[1:] and len(keys) > 1 and round_ == 0 and part == keys[:1]:
                loop = start(bare, work_dir, by_hand)
                assert loop.status == "waiting"
                assert f"{len(keys) - 1} of {len(keys)}" in loop.reason
    loop = start(bare, work_dir, by_hand)
    assert loop.status == "finished"
    start(data, tmp_path / "oracle", settings("slic", rounds=1))
    assert picks(work_dir) == picks(tmp_path / "oracle")


def test_stops_at_a_target(data: Path, tmp_path: Path) -> None:
    loop = start(data, tmp_path, settings("slic", rounds=4, stop={"target_miou": 0.0}))
    assert (loop.status, loop.round) == ("finished", 0)
    assert "target" in loop.reason


def test_queries_in_one_continuous_run(data: Path, tmp_path: Path) -> None:
    """Three queries at iterations 2, 4, 5 of 6: the schedule is one, no step is made twice."""
    start(data, tmp_path, settings("window", rounds=3, queries=[2, 4, 5]))
    steps = [r.iterations for r in records.load(tmp_path).records]
    assert steps == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("iterations", "trained"),
    [
        (5, [5, 5]),
        ({"amount": 0.5, "per": "pixel", "most": 1000}, None),
        ({"amount": 0.001, "per": "pixel", "least": 2}, [2, 2]),
    ],
)
def test_a_round_trains_as_long_as_the_config_says(
    iterations: Any, trained: list[int] | None, data: Path, tmp_path: Path
) -> None:
    start(data, tmp_path, settings("pixel-margin", rounds=1, iterations=iterations))
    made = records.load(tmp_path).records
    expected = trained or [-(-r.costs.pixels // 2) for r in made]
    assert [r.iterations for r in made] == expected
    assert len(set(expected)) == (1 if trained else 2)


def test_source_free_starts_without_labels(data: Path, tmp_path: Path) -> None:
    """warm_start=None with queries from iteration 0: the first query is the given model's."""
    start(data, tmp_path, settings("window", rounds=2, queries=[0, 3], warm_start=None))
    first, second, third = records.load(tmp_path).records
    assert (first.asked.pixels, first.iterations) == (0, 0)
    assert second.asked.pixels > 0
    assert (second.iterations, third.iterations) == (3, 3)


def test_the_ledger_refuses_another_acquisition(data: Path, tmp_path: Path) -> None:
    from regional_al.errors import WorkDirError

    start(data, tmp_path, settings("slic", rounds=0))
    with pytest.raises(WorkDirError, match="heuristic"):
        start(data, tmp_path, settings("slic", rounds=0, heuristic="Entropy"))
    assert Ledger.exists(tmp_path)


def test_a_budget_below_every_region_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    from regional_al.errors import BudgetError

    small = settings("slic", budget={"amount": 2, "unit": "pixel"})
    with pytest.raises(BudgetError, match=r"2 pixels per round is less than the cheapest region"):
        start(data, tmp_path / "a", small)
    small = settings("window", budget={"amount": 3, "unit": "pixel"})
    with pytest.raises(BudgetError, match=r"3 pixels per round is less than one window \(9 pix"):
        start(data, tmp_path / "b", small)


def test_scores_that_ask_for_nothing_are_not_called_too_dear(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is certain everywhere: power noise on a score of 0 asks for nothing."""
    monkeypatch.setattr(
        "regional_al.functional.margin", lambda logits: torch.zeros(logits.shape[-2:])
    )
    asked = {"type": "Stochastic", "heuristic": "Margin"}
    loop = start(data, tmp_path, settings("slic", heuristic=asked, warm_start=None))
    assert loop.status == "finished"
    assert "no unlabelled unit is left that the heuristic would select" in loop.reason


def test_the_end_of_a_run_is_said_and_drawn(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # with the report this time
    start(data, tmp_path, settings("window", rounds=1))
    said = capsys.readouterr().out
    assert "finished: all 1 rounds are done" in said
    assert said.count("%") >= 2  # a table line a round
    page = (tmp_path / "report.html").read_text()
    assert "RIPU" in page
    assert page.count("data:image/") > 4  # curves and overlays
