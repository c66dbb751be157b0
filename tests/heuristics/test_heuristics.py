"""Contract of every registered heuristic at every level and region type, refusals included."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import ELSEWHERE, HERE, VARIANTS, Scene, picks_of_ranks

from regional_al import heuristics
from regional_al.engines.base import Prediction
from regional_al.errors import ConfigError, ScoreError, UnsupportedError
from regional_al.heuristics import (
    HEURISTICS,
    GroupsUnits,
    Heuristic,
    MergesUnits,
    Observation,
    PixelHeuristic,
    PoolHeuristic,
    UnitHeuristic,
)
from regional_al.runtime.progress import Stopwatch


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("contract"))


@pytest.mark.parametrize(("variant", "place"), HERE)
def test_picks_within_its_budget_never_twice_and_the_same_on_any_number_of_ranks(
    variant: str, place: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquirer = scene.acquirer(variant, place, tmp_path)
    acquirer.prepare()
    budget, asked = acquirer.config.budget, set()
    torch.manual_seed(11)
    for round_ in (1, 2):
        query = acquirer.query(round_, scene.checkpoints[0], Stopwatch(), warm=False)
        assert query is not None
        assert 0 < budget.cost_of(query.picks).sum() <= acquirer.limit(budget)
        places = {tuple(p)[:4] for p in query.picks}  # image, row, col, unit
        assert len(places) == len(query.picks)
        # groups are numbered anew in each round
        joins = isinstance(acquirer.heuristic, (GroupsUnits, MergesUnits))
        assert joins or not places & asked
        asked |= places
        if not isinstance(acquirer.heuristic, PoolHeuristic):
            assert (np.diff(query.picks["score"]) <= 0).all()  # best first
        if round_ == 2:
            torch.manual_seed(99)  # the global generator has no say
            selector = acquirer.selector(2, scene.checkpoints[0])
            again = picks_of_ranks(selector, 3, monkeypatch)
            assert again.tobytes() == query.picks.tobytes()
        for key in query.image_keys():
            said = acquirer.store.annotated(key)
            wanted = query.asked(key) > 0
            assert wanted.any()
            assert said is None or not (wanted & (said > 0)).any()  # nothing is asked twice
            acquirer.store.write(scene.answer(key, wanted), round_)


@pytest.mark.parametrize(("variant", "place"), ELSEWHERE)
def test_where_it_makes_no_sense_it_is_refused_by_name(
    variant: str, place: str, scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        scene.acquirer(variant, place, tmp_path)
    assert VARIANTS[variant][0]["type"] in str(caught.value)
    assert "\n" not in str(caught.value)


def observed(spoil: bool = False) -> Observation:
    """Four views of an image of 9 x 11 pixels and 4 classes; spoil: a NaN in all of them."""
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(4, 9, 11, generator=generator) for _ in range(4)]
    for view in views if spoil else ():
        view[2, 3, 4] = torch.nan
    features = torch.randn(6, 5, 6, generator=generator)
    return Observation(views[0], np.random.default_rng(7), iter(views[1:]), features)


def calls(heuristic: Heuristic) -> Iterator[Callable[[Observation], torch.Tensor]]:
    """Each way in which it may be asked for scores of `observed`, 33 pixels a unit."""
    regions = torch.arange(99).reshape(9, 11) // 33
    units = "units" in heuristic.regions and set(heuristic.levels) & {"image", "region"}
    if units and isinstance(heuristic, GroupsUnits):
        yield lambda seen: heuristic.regroup(seen, regions, 3)[0]
    elif units and isinstance(heuristic, PoolHeuristic):
        yield lambda seen: heuristic.describe(seen, regions, 4)["score"]
    elif units:
        assert isinstance(heuristic, (PixelHeuristic, UnitHeuristic))
        yield lambda seen: heuristic.unit_scores(seen, regions, 4)
    if "pixel" in heuristic.levels:
        assert isinstance(heuristic, PixelHeuristic)
        yield heuristic.pixel_scores
    if "region" in heuristic.levels and "windows" in heuristic.regions:
        assert isinstance(heuristic, PixelHeuristic)
        yield lambda seen: heuristic.window_scores(seen, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_finite_repeatable_and_leave_their_input_alone(
    variant: str, scene: Scene
) -> None:
    heuristic = HEURISTICS.build(scene.spec(variant))
    asked = list(calls(heuristic))
    assert asked
    for call in asked:
        seen, same = observed(), observed()
        scores = call(seen)
        assert torch.equal(torch.nan_to_num(scores), torch.nan_to_num(call(same)))
        assert torch.equal(seen.logits, observed().logits)
        assert torch.equal(seen.features, observed().features)  # type: ignore[arg-type]
        if scores.ndim == 2:
            assert scores.shape == (9, 11)
            assert scores.dtype == torch.float32
            assert torch.isfinite(scores).all()
        elif not isinstance(heuristic, GroupsUnits):
            assert scores.shape == (4,)
            assert torch.isfinite(scores[:3]).all()
            # An empty unit: no score, or, where units are drawn at random, one that nobody reads.
            assert not torch.isfinite(scores[3]) or "Random" in variant


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"Random"}))
def test_nan_is_refused_and_the_image_is_named(
    variant: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = next(p for v, p in HERE if v == variant and p != "image")
    acquirer = scene.acquirer(variant, place, tmp_path)
    acquirer.prepare()
    true = acquirer.engine.predict

    def diverged(*args: Any) -> Iterator[Prediction]:
        for found in true(*args):
            views = [found.logits, *(found.more or ())]
            if found.index == 3:
                for view in views:
                    view[2, 3, 4] = torch.nan
            yield dataclasses.replace(found, logits=views[0], more=iter(views[1:]))

    monkeypatch.setattr(acquirer.engine, "predict", diverged)
    with pytest.raises(ScoreError, match=acquirer.engine.pool[3].key) as caught:
        acquirer.query(1, scene.checkpoints[0], Stopwatch(), warm=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["BALD", "EquAL", "BALD-ensemble", "Combine-views"])
def test_a_heuristic_gets_the_views_that_it_asks_for(variant: str, scene: Scene) -> None:
    needs = HEURISTICS.build(scene.spec(variant)).needs
    assert needs is not None
    (found,) = scene.engine().predict(scene.checkpoints[0], [0], needs)
    assert found.more is not None
    views = [found.logits, *found.more]
    assert len(views) == needs.views > 1
    for i, view in enumerate(views):
        assert not any(torch.equal(view, other) for other in views[:i])


def modules() -> Sequence[str]:
    return [m.name for m in pkgutil.iter_modules(heuristics.__path__)]


@pytest.mark.parametrize("module", modules())
def test_the_package_registers_what_its_files_define(module: str) -> None:
    source = importlib.import_module(f"regional_al.heuristics.{module}").__file__
    assert source is not None
    for name in re.findall(r"@HEURISTICS\.register\(\"(\w+)\"\)", Path(source).read_text()):
        assert name in HEURISTICS


def test_every_built_in_class_is_importable_under_its_registered_name() -> None:
    code = (
        "from regional_al.heuristics import *; from regional_al import heuristics as h;"
        "names = list(h.HEURISTICS); assert set(names) <= set(h.__all__);"
        "assert all(globals()[n] is h.HEURISTICS.get(n) for n in names)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_of_no_kind_is_refused_by_name(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Neither(Heuristic):
        def pixel_scores(self, seen: Observation) -> torch.Tensor:
            return seen.logits[0]

    monkeypatch.setitem(HEURISTICS._items, "Neither", Neither)
    monkeypatch.setitem(VARIANTS, "Neither", ({"type": "Neither"}, set()))
    with pytest.raises(UnsupportedError, match=r"'Neither' must derive from PixelHeuristic"):
        scene.acquirer("Neither", "grid", tmp_path)


def test_importing_one_file_registers_one_heuristic(tmp_path: Path) -> None:
    """A file anywhere on the path, as docs/add_a_heuristic.md has it."""
    (tmp_path / "mine.py").write_text(
        "from regional_al import functional\n"
        "from regional_al.heuristics import HEURISTICS, PixelHeuristic\n"
        "@HEURISTICS.register('Mine')\n"
        "class Mine(PixelHeuristic):\n"
        "    def pixel_scores(self, seen):\n"
        "        return functional.margin(seen.logits)\n"
    )
    code = (
        "from regional_al.heuristics import HEURISTICS; assert 'Mine' not in HEURISTICS;"
        "import mine; assert HEURISTICS.build('Mine').levels == ('image', 'region', 'pixel')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "RIPU", "radius": -1}, r"RIPU: radius=-1"),
    ({"type": "RIPU", "compat": "publish"}, "Did you mean 'published'"),
    ({"type": "Entropy", "radius": 1}, "'Entropy'"),
    ({"type": "BALD", "passes": 1}, r"BALD: passes=1 .* at least 2"),
    ({"type": "BALD", "checkpoints": []}, r"checkpoints=\[\] must be a list"),
    ({"type": "BALD", "checkpoints": "a.pth"}, "must be a list"),
    ({"type": "BALD", "checkpoints": ["no/a.pth"]}, r"no/a\.pth does not exist"),
    ({"type": "PixelPick", "top": 0.05}, r"top=0\.05 must be a percentage"),
    ({"type": "PixelPick", "top": "0%"}, "top='0%'"),
    ({"type": "PixelPick", "top": "101%"}, "top='101%'"),
    ({"type": "PixelPick", "score": "margn"}, "Did you mean 'margin'"),
    ({"type": "Stochastic"}, "Stochastic"),
    ({"type": "Stochastic", "heuristic": "Margin", "beta": 0}, "beta=0 must be a number above 0"),
    ({"type": "Stochastic", "heuristic": "Margin", "kind": "rnk"}, "Did you mean 'rank'"),
    ({"type": "Stochastic", "heuristic": "Margin", "per_class": 1}, "per_class=1 must be True or"),
    (
        {"type": "Stochastic", "heuristic": "Margin", "per_class": True, "kind": "softmax"},
        "per_class=True draws with kind='power', not 'softmax'",
    ),
    ({"type": "Stochastic", "heuristic": "Marge"}, "Did you mean 'Margin'"),
    ({"type": "Stochastic", "heuristic": "ReAL"}, "'ReAL' joins units into groups"),
    ({"type": "Stochastic", "heuristic": "CoreSet"}, "'CoreSet' picks from the whole pool"),
    (
        {"type": "Stochastic", "kind": "rank", "heuristic": "PixelPick"},
        "'PixelPick' draws at random",
    ),
    ({"type": "SIM", "representative": "median"}, "representative='median' is unknown"),
    ({"type": "SIM", "class_weight": 1}, "class_weight=1 must be True or"),
    ({"type": "Combine", "parts": []}, "must be a list of dict"),
    ({"type": "Combine", "parts": [{"type": "Entropy", "weight": 0}]}, r"parts\[0\].weight=0"),
    ({"type": "Combine", "parts": ["Entropy", "BADGE"]}, r"parts\[1\]: 'BADGE' picks from"),
    ({"type": "Combine", "parts": ["BALD", "Margin", "EquAL"]}, "BALD and EquAL each need several"),
    ({"type": "Combine", "parts": ["Entropy"], "how": "mean"}, "how='mean' is unknown"),
    ({"type": "Combine", "parts": ["Entropy"], "normalize": "max"}, "Did you mean 'minmax'"),
    (
        {"type": "Combine", "parts": ["PixelPick"], "normalize": "rank"},
        "PixelPick is not supported",
    ),
]


@pytest.mark.parametrize(("spec", "message"), WRONG)
def test_wrong_arguments_are_named_in_one_line(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        HEURISTICS.build(spec)
    assert "\n" not in str(caught.value)
    assert spec["type"] in str(caught.value) or "unknown heuristic" in str(caught.value)
