"""What a resumed run may change, key by key."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.checks import differences
from regional_al.config.changes import Change, Rule, changes, rule_of

CONFIG = {
    "acquisition": {"level": "region", "heuristic": {"type": "RIPU"}, "rounds": 5, "seed": 0},
    "model": {"decode_head": {"num_classes": 19}, "backbone": {"with_cp": False}},
    "train_dataloader": {
        "batch_size": 8,
        "num_workers": 4,
        "dataset": {"data_root": "data/a", "pipeline": [{"type": "Resize", "scale": [4, 2]}]},
    },
    "val_dataloader": {"num_workers": 4, "dataset": {"data_root": "data/a"}},
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"lr": 0.1}},
    "train_cfg": {"max_iters": 100},
    "load_from": "weights.pth",
    "default_hooks": {"logger": {"interval": 50}},
    "variables": {"data_root": "data/a", "crop_size": [4, 4]},
}


def edited(name: str, value: object) -> dict:
    config: dict = copy.deepcopy(CONFIG)
    *path, last = name.split(".")
    at = config
    for part in path:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    at[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "value", "untrained", "trained"),
    [
        ("acquisition.rounds", 9, None, None),
        ("acquisition.iterations", 50, "recorded", "recorded"),
        ("acquisition.seed", 1, "refused", "refused"),
        ("acquisition.unlabeled.threshold", 0.9, "refused", "refused"),
        ("acquisition.unlabeled.ema", 0.99, "refused", "refused"),
        ("acquisition.heuristic.type", "Entropy", "refused", "refused"),
        ("acquisition.level", "pixel", "refused", "refused"),
        ("model.decode_head.num_classes", 11, "refused", "refused"),
        ("model.backbone.with_cp", True, "recorded", "recorded"),
        ("data_preprocessor.mean", [0], "refused", "refused"),
        ("smoke", True, "refused", "refused"),
        ("train_dataloader.batch_size", 4, "recorded", "recorded"),
        ("train_dataloader.num_workers", 0, None, None),
        ("train_dataloader.persistent_workers", True, None, None),
        ("train_dataloader.dataset.pipeline.0.scale", [8, 4], "recorded", "refused"),
        ("train_dataloader.dataset.data_root", "elsewhere", None, None),
        ("val_dataloader.dataset.data_root", "elsewhere", "recorded", "recorded"),
        ("val_dataloader.num_workers", 0, None, None),
        ("optim_wrapper.type", "AmpOptimWrapper", "recorded", "recorded"),
        ("optim_wrapper.optimizer.lr", 0.2, "recorded", "refused"),
        ("train_cfg.max_iters", 200, "recorded", "recorded"),
        ("param_scheduler", [{"type": "PolyLR"}], "recorded", "refused"),
        ("load_from", "other.pth", "recorded", "refused"),
        ("default_hooks.logger.interval", 10, None, None),
        ("default_hooks.mine.type", "EMAHook", "recorded", "refused"),
        ("log_processor.by_epoch", False, None, None),
        ("variables.data_root", "elsewhere", None, None),
        ("variables.crop_size", [8, 8], "recorded", "recorded"),
        ("somebodys_key", 1, "recorded", "refused"),
    ],
)
def test_the_rule_of_each_key(
    name: str, value: object, untrained: str | None, trained: str | None
) -> None:
    for fitted, expected in ((False, untrained), (True, trained)):
        found = changes(CONFIG, edited(name, value), fitted)
        assert [(c.name, c.rule.value) for c in found] == ([(name, expected)] if expected else [])


def test_keys_of_0x() -> None:
    for name, rule in (
        ("data.samples_per_gpu", Rule.RECORDED),
        ("data.workers_per_gpu", Rule.FREE),
        ("data.train_dataloader.samples_per_gpu", Rule.RECORDED),
        ("fp16.loss_scale", Rule.RECORDED),
        ("optimizer_config.type", Rule.RECORDED),
        ("runner.max_iters", Rule.RECORDED),
        ("log_config.interval", Rule.FREE),
        ("checkpoint_config.interval", Rule.FREE),
        ("lr_config.policy", Rule.UNTIL_TRAINED),
    ):
        assert rule_of(name) is rule, name


def test_the_length_of_a_continuous_run_is_fixed_by_its_first_stretch() -> None:
    longer = edited("train_cfg.max_iters", 200)
    assert changes(CONFIG, longer, True, continuous=True)[0].rule is Rule.REFUSED
    assert changes(CONFIG, longer, False, continuous=True)[0].rule is Rule.RECORDED


def test_a_file_that_was_moved_is_no_change_and_another_one_is() -> None:
    moved = edited("load_from", "moved.pth")
    pairs = []

    def same_file(old: str, new: str) -> bool:
        pairs.append((old, new))
        return True

    assert changes(CONFIG, moved, True, same_file=same_file) == []
    assert pairs == [("weights.pth", "moved.pth")]
    pretrained = copy.deepcopy(CONFIG)
    pretrained["model"]["backbone"]["init_cfg"] = {"checkpoint": "a.pth"}  # type: ignore[index]
    other = copy.deepcopy(pretrained)
    other["model"]["backbone"]["init_cfg"] = {"checkpoint": "b.pth"}  # type: ignore[index]
    assert [c.rule for c in changes(pretrained, other, False)] == [Rule.REFUSED]
    assert changes(pretrained, other, False, same_file=same_file) == []


def test_messages_show_old_and_new_and_are_short() -> None:
    (change,) = changes(CONFIG, edited("variables.crop_size", list(range(99))), False)
    assert str(change).startswith("crop_size was [4, 4], now it is [0, 1,")
    assert len(str(change)) < 100
    assert str(Change("a", None, "b", Rule.FREE)) == 'a was null, now it is "b"'


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "model", "batch_size"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSONS, JSONS)
def test_differences_are_found_exactly_where_there_are_some(then: object, now: object) -> None:
    assert list(differences(then, then)) == []
    absent = {"a": None}  # a key that is None and one that is missing are the same
    found = list(differences(then, now))
    if not found and then != now:
        assert list(differences({"x": absent}, {"x": {}})) == []
        assert str(then).count("None") + str(now).count("None") > 0
    assert all(old != new for _, old, new in found)
