"""What a grid is made of: arms, overrides, shared starts, baselines, and what may not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compare_runs import arm

from regional_al.compare import plan as plans
from regional_al.compare import state
from regional_al.compare.plan import Grid, Recipe
from regional_al.errors import ConfigError, RegionalALError, WorkDirError

BASE = Path("base.py")
REGION = {"level": "region", "region": {"type": "slic", "n_segments": 40}, "rounds": 3}


def plan(
    text: str = "", folder: Path | None = None, heuristics: tuple[str, ...] = (), **more: Any
) -> Grid:
    """The grid of a python grid file's text and arguments of `read_spec`."""
    path = None
    if text:
        assert folder is not None
        path = folder / "grid.py"
        path.write_text(text)
    base = more.pop("base", REGION)
    recipes = {BASE: Recipe(BASE, dict(base), "aaa")}
    spec = plans.read_spec(heuristics, path, more.pop("seeds", None), **more)
    for arm_spec in spec.arms:
        if arm_spec.config is not None:
            recipes[arm_spec.config] = Recipe(arm_spec.config, {**base, "rounds": 4}, "bbb")
    if spec.full_config:
        recipes[spec.full_config] = Recipe(spec.full_config, {"level": "image"}, "ccc")
    return plans.build(spec, recipes, BASE)


def test_heuristics_make_arms_that_share_a_start() -> None:
    made = plan(heuristics=("Random", "RIPU"), seeds=[4, 2])
    assert [a.name for a in made.arms] == ["Random", "RIPU"]
    assert [a.start for a in made.arms] == ["_start", "_start"]
    (start,) = made.extra
    assert start.acquisition["rounds"] == 0
    assert start.start is None
    assert [run.name for run in made.runs(Path("o"))] == [
        "_start seed 4",
        "Random seed 4",
        "RIPU seed 4",
        "_start seed 2",
        "Random seed 2",
        "RIPU seed 2",
    ]


def test_a_run_gets_its_complete_acquisition(tmp_path: Path) -> None:
    made = plan(heuristics=("RIPU",), seeds=[3])
    start, run = made.runs(tmp_path)
    got = run.acquisition()
    assert got["heuristic"] == "RIPU"
    assert got["seed"] == 3
    assert got["region"] == REGION["region"]
    assert got["warm_start"] == {"run": str(tmp_path / "runs/_start/seed3")}
    assert got["cache_dir"] == str(tmp_path / "cache")
    assert "warm_start" not in start.acquisition()


def test_an_arm_replaces_whole_keys_and_leaves_the_region_of_another_level() -> None:
    base = {"level": "region", "region": {"type": "slic", "n_segments": 9}, "rounds": 2}
    window = plans.merged(base, {"region": {"type": "window", "radius": 1}})
    assert window["region"] == {"type": "window", "radius": 1}
    assert plans.merged(base, {"level": "pixel"}) == {"level": "pixel", "rounds": 2}
    assert plans.merged({"region": "grid"}, {"level": "region"})["region"] == "grid"


def test_grid_files_of_python_and_json_say_the_same(tmp_path: Path) -> None:
    arms = {
        "a": {"acquisition": {"level": "pixel", "budget": {"amount": 5}}, "label": "five pixels"},
        "b": {"acquisition": {"heuristic": "Entropy"}, "baseline": "a"},
    }
    more = {"seeds": [7], "full": True, "levels": [0.4], "start": {"level": "image"}}
    (tmp_path / "g.json").write_text(json.dumps({"arms": arms, **more}))
    text = f"helper = 3\narms = {arms!r}\n" + "\n".join(f"{k} = {v!r}" for k, v in more.items())
    (tmp_path / "g.py").write_text(text)
    one = plans.read_spec((), tmp_path / "g.json", None)
    assert one == plans.read_spec((), tmp_path / "g.py", None)
    assert one.seeds == (7,)
    assert one.full
    assert one.levels == (0.4,)
    assert plans.read_spec((), tmp_path / "g.py", [1, 2]).seeds == (1, 2)


def test_arms_that_start_by_themselves(tmp_path: Path) -> None:
    text = """
arms = dict(
    shared=dict(acquisition=dict(heuristic='RIPU')),
    own=dict(acquisition=dict(warm_start=dict(amount=3, unit='region'))),
    unlabeled=dict(acquisition=dict(warm_start=None)),
    continuous=dict(acquisition=dict(queries=[0, 5, 9], rounds=3)))
"""
    made = plan(text, tmp_path)
    assert [a.start for a in made.arms] == ["_start", None, None, None]
    assert [a.start for a in plan(heuristics=("RIPU",), own_start=True).arms] == [None]
    assert plan(text + "start = None\n", tmp_path).extra == ()
    machine = {**REGION, "warm_start": {"prelabels": "masks"}}  # needed in all rounds of each arm
    runs = plan(heuristics=("RIPU",), seeds=[0], base=machine).runs(tmp_path)
    assert [run.acquisition()["warm_start"] for run in runs] == [machine["warm_start"]]


def test_the_start_may_be_of_another_level(tmp_path: Path) -> None:
    text = "arms = dict(r=dict(acquisition=dict(heuristic='RIPU')))\nstart = dict(level='pixel')"
    made = plan(text, tmp_path, base={**REGION, "budget": {"amount": 7, "unit": "region"}})
    assert made.extra[0].acquisition == {"level": "pixel", "rounds": 0, "heuristic": "Random"}
    assert made.arms[0].acquisition["budget"] == {"amount": 7, "unit": "region"}


def test_an_arm_with_another_training_has_another_start(tmp_path: Path) -> None:
    text = "arms = dict(a=dict(), b=dict(config='other.py'), c=dict(config='other.py'))"
    made = plan(text, tmp_path)
    assert [a.start for a in made.arms] == ["_start", "_start-other", "_start-other"]
    assert made.arms[1].config == tmp_path / "other.py"
    assert plans.rounds_of(made.arms[1].acquisition) == 4


def test_trained_on_the_labels_of_another_arm(tmp_path: Path) -> None:
    text = """
arms = dict(
    final=dict(labels_of='RIPU'), RIPU=dict(acquisition=dict(heuristic='RIPU')),
    long=dict(labels_of='RIPU', config='long.py', label='three times as long'),
)
full = 'full.py'
"""
    base = {**REGION, "round_init": "continue", "annotator": {"type": "oracle"}}
    made = plan(text, tmp_path, base=base, seeds=[1])
    final, ripu, long = made.arms
    assert (final.labels_of, final.start, final.config.name) == ("RIPU", None, "full.py")
    assert final.acquisition == {
        "level": "image",
        "heuristic": "Random",
        "rounds": 0,
        "previews": 0,
    }
    assert (ripu.labels_of, ripu.start) == (None, "_start")
    assert (long.config.name, long.digest) == ("long.py", "bbb")
    assert long.acquisition["round_init"] == "continue"
    run = next(run for run in made.runs(tmp_path) if run.arm == final)
    assert run.depends_on == tmp_path / "runs/RIPU/seed1"
    assert run.acquisition()["warm_start"] == {"labels": str(tmp_path / "runs/RIPU/seed1")}
    state.remember(tmp_path / "out", made, "c", {})
    text = text.replace("final=dict(labels_of='RIPU')", "final=dict(labels_of='b'), b=dict()")
    changed = plan(text, tmp_path, base=base)
    with pytest.raises(WorkDirError, match="'final': labels_of was RIPU, now it is b"):
        state.remember(tmp_path / "out", changed, "c", {})


def test_full_supervision_is_all_images_at_once(tmp_path: Path) -> None:
    made = plan(heuristics=("RIPU",), full=True, base={**REGION, "stop": {"max_pixels": 3}})
    full = made.extra[1]
    assert full.name == "_full"
    assert full.start is None
    assert full.acquisition["warm_start"] == {"amount": "100%", "unit": "image"}
    assert (full.acquisition["level"], full.acquisition["rounds"]) == ("image", 0)
    assert "region" not in full.acquisition
    assert "stop" not in full.acquisition
    made = plan("arms = dict(a=dict())\nfull = 'long.py'", tmp_path)
    assert made.extra[1].config == tmp_path / "long.py"
    assert made.extra[1].digest == "ccc"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("arms = dict(a=dict(aquisition=dict()))", "has no key 'aquisition'. Did you mean"),
        (
            "arms = dict(a=dict(acquisition=dict(heuristic='RIPUU')))",
            "arm 'a': acquisition.heuristic: unknown heuristic",
        ),
        ("arms = dict(a=dict(acquisition=dict(levle='pixel')))", "arm 'a': acquisition has no key"),
        ("arms = {'a b': dict()}", "arm 'a b': a name starts with a letter"),
        ("arms = {'_full': dict()}", "arm '_full': a name starts with a letter"),
        ("arms = dict(a=dict(acquisition=dict(seed=1)))", "the grid sets the seed"),
        ("arms = dict(a=dict(acquisition=3))", "acquisition=3 must be a dict"),
        (
            "arms = dict(a=dict(baseline='b'))",
            "baseline='b' is not an arm that makes queries; choose from: a",
        ),
        ("arms = [1]", "arms must be a dict"),
        (
            "arms = dict(a=dict(labels_of='b'))",
            "labels_of='b' is not an arm that makes queries; choose from: ",
        ),
        (
            "arms = dict(a=dict(), b=dict(labels_of='a'), c=dict(labels_of='b'))",
            "arm 'c': labels_of='b' is not an arm that makes queries; choose from: a",
        ),
        (
            "arms = dict(a=dict(), b=dict(labels_of='a', acquisition=dict(rounds=2)))",
            "labels_of='a' trains on the labels of that arm without queries; remove acquisition",
        ),
        ("arms = dict(a=dict(), A=dict())", "arm 'a' is given twice"),
        ("arms = dict(a=dict(acquisition=dict(stop=open)))", "acquisition is not plain data"),
        ("arms = dict(a=dict())\nseeds = [-1]", "seeds: -1 must be a non-negative integer"),
        ("arms = dict(a=dict())\nlevels = [40]", "levels: 40 is not an mIoU between 0 and 1"),
        ("arms = dict(a=dict())\nfull = 3", "full=3 must be True or the path of a config file"),
        ("arms = dict(", "is not valid Python"),
        ("arms = 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_mistakes_in_a_grid_are_one_line(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(text, tmp_path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def baselines(**given: Any) -> dict[str, str | None]:
    arms = {name: (value, None) for name, value in given.items()}
    return {name: plans.baseline_of(name, arms) for name in arms}


def test_random_with_the_same_questions_is_the_baseline() -> None:
    slic, window = {"region": "slic"}, {"region": {"type": "window", "radius": 1}}
    dominant = {**slic, "annotator": {"type": "oracle", "answer": "dominant"}}
    found = baselines(
        random_slic={**slic, "heuristic": "Random"},
        random_window={**window, "heuristic": "Random"},
        random_pixel={"level": "pixel", "heuristic": {"type": "Random"}},
        slic={"heuristic": "RIPU"},
        window={**window, "heuristic": "RIPU"},
        grid={"region": "grid", "heuristic": "RIPU"},
        clicks={**dominant, "heuristic": "Margin"},
        pixel={"level": "pixel", "heuristic": "Margin"},
        image={"level": "image"},
    )
    assert found["slic"] == found["grid"] == found["clicks"] == "random_slic"
    assert found["window"] == "random_window"
    assert found["pixel"] == "random_pixel"
    assert found["random_window"] == "random_window"
    assert found["image"] is None
    assert baselines(r={"level": "pixel", "heuristic": "Random"}, i={"level": "image"})["i"] == "r"
    named = {"x": ({"heuristic": "RIPU"}, "y"), "y": ({"heuristic": "Margin"}, None)}
    assert plans.baseline_of("x", named) == "y"
    assert plans.baseline_of("y", named) is None


def remember(out: Path, *arms: Any, seeds: tuple[int, ...] = (0,), **how: Any) -> dict[str, Any]:
    return state.remember(
        out, Grid(arms, (), seeds), "title", {"processes": 1, "options": [], **how}
    )


def test_a_grid_grows_but_an_arm_stays_what_it_was(tmp_path: Path) -> None:
    remember(tmp_path, arm("RIPU", rounds=3), seeds=(1,))
    kept = remember(tmp_path, arm("Margin"), arm("RIPU", rounds=5), seeds=(0, 2))
    assert list(kept["arms"]) == ["RIPU", "Margin"]
    assert kept["arms"]["RIPU"]["seeds"] == [0, 1, 2]
    assert kept["arms"]["Margin"]["seeds"] == [0, 2]
    assert kept == state.read(tmp_path)
    with pytest.raises(WorkDirError, match=r"arm 'RIPU': acquisition.budget was null, now it is 7"):
        remember(tmp_path, arm("RIPU", budget=7))
    with pytest.raises(
        WorkDirError, match="arm 'RIPU': its shared start was _start, now it is None"
    ):
        remember(tmp_path, arm("RIPU", start=None))
    with pytest.raises(WorkDirError, match="processes was 1, now it is 2; use another --out"):
        remember(tmp_path, arm("RIPU"), processes=2)
    assert kept == state.read(tmp_path)


def test_another_training_config_under_the_same_name_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    remember(tmp_path, arm("RIPU"))
    with pytest.raises(WorkDirError, match=r"training config has changed \(config.py abc, now"):
        remember(tmp_path, replace(arm("RIPU"), digest="def"))


def test_one_compare_at_a_time(tmp_path: Path) -> None:
    message = r"in use by another .* \(process \d+ on .+\)"
    with state.locked(tmp_path), pytest.raises(WorkDirError, match=message), state.locked(tmp_path):
        pass
    with state.locked(tmp_path):
        pass


def test_a_digest_forgets_the_machine_and_nothing_else() -> None:
    one = {"train_dataloader": {"batch_size": 8, "num_workers": 4, "dataset": {"data_root": "/a"}}}
    two = {"train_dataloader": {"batch_size": 8, "num_workers": 0, "dataset": {"data_root": "/b"}}}
    other = {
        "train_dataloader": {"batch_size": 4, "num_workers": 4, "dataset": {"data_root": "/a"}}
    }
    assert plans.digest(one) == plans.digest(two) != plans.digest(other)


def test_a_folder_that_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(WorkDirError, match=r"has no grid.json"):
        state.read(tmp_path)
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(RegionalALError, match="cannot be read"):
        state.read(tmp_path)
