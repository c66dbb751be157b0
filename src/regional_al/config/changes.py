"""What the config of a resumed run may change: a decision for each key, by its dotted name.

Keys of a run's config are named `acquisition.…` or as in the config file. Those that are only
variables of a config file stand below `variables`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from ..checks import differences


class Rule(Enum):
    """What happens when a resumed run has another value of a key."""

    FREE = "free"
    """Nothing: the value does not affect the results."""
    RECORDED = "recorded"
    """The run continues; the change is recorded in the ledger and shown in the report."""
    UNTIL_TRAINED = "until trained"
    """As `RECORDED` while no training has finished, afterwards as `REFUSED`."""
    REFUSED = "refused"
    """The run is not resumed."""


_RULES: tuple[tuple[str, Rule], ...] = (
    ("acquisition.rounds", Rule.FREE),
    ("acquisition.stop*", Rule.FREE),
    ("acquisition.cache_dir", Rule.FREE),
    ("acquisition.previews", Rule.FREE),
    ("acquisition.iterations*", Rule.RECORDED),
    ("acquisition.annotator.answer", Rule.REFUSED),
    ("acquisition.annotator*", Rule.RECORDED),
    ("acquisition.warm_start.prelabels", Rule.RECORDED),  # its content is compared
    ("acquisition.*", Rule.REFUSED),
    ("smoke", Rule.REFUSED),
    ("variables.*", Rule.RECORDED),
    # Workers, logging, and what a stretch replaces by its own.
    ("*num_workers", Rule.FREE),
    ("*workers_per_gpu", Rule.FREE),
    ("*persistent_workers", Rule.FREE),
    ("*prefetch_factor", Rule.FREE),
    ("*pin_memory", Rule.FREE),
    ("default_hooks.logger*", Rule.FREE),
    ("default_hooks.timer*", Rule.FREE),
    ("default_hooks.checkpoint*", Rule.FREE),
    ("default_hooks.visualization*", Rule.FREE),
    ("checkpoint_config*", Rule.FREE),
    ("log_config*", Rule.FREE),
    ("log_processor*", Rule.FREE),
    ("vis_backends*", Rule.FREE),
    ("visualizer*", Rule.FREE),
    ("env_cfg*", Rule.FREE),
    ("dist_params*", Rule.FREE),
    ("cudnn_benchmark", Rule.FREE),
    ("opencv_num_threads", Rule.FREE),
    ("mp_start_method", Rule.FREE),
    ("evaluation*", Rule.FREE),
    ("val_evaluator*", Rule.FREE),
    ("test_evaluator*", Rule.FREE),
    ("val_cfg*", Rule.FREE),
    ("test_cfg*", Rule.FREE),
    ("tta_*", Rule.FREE),
    ("train_cfg.val_*", Rule.FREE),
    ("val_dataloader.batch_size", Rule.FREE),
    ("test_dataloader.batch_size", Rule.FREE),
    # What has to change after a run has gone out of memory or takes too long.
    ("train_dataloader.batch_size", Rule.RECORDED),
    ("source_dataloader.batch_size", Rule.RECORDED),
    ("source_dataloader.samples_per_gpu", Rule.RECORDED),
    ("data.*samples_per_gpu", Rule.RECORDED),
    ("auto_scale_lr*", Rule.RECORDED),
    ("model*.with_cp", Rule.RECORDED),
    ("optim_wrapper.type", Rule.RECORDED),
    ("optim_wrapper.loss_scale*", Rule.RECORDED),
    ("optim_wrapper.dtype", Rule.RECORDED),
    ("optim_wrapper.accumulative_counts", Rule.RECORDED),
    ("fp16*", Rule.RECORDED),
    ("optimizer_config.type", Rule.RECORDED),
    ("optimizer_config.loss_scale*", Rule.RECORDED),
    ("optimizer_config.cumulative_iters", Rule.RECORDED),
    ("model*", Rule.REFUSED),
    ("data_preprocessor*", Rule.REFUSED),
    ("text", Rule.REFUSED),
    ("*", Rule.UNTIL_TRAINED),
)
"""The first pattern that matches decides."""

_LENGTHS = frozenset(
    {"train_cfg.max_iters", "train_cfg.max_epochs", "runner.max_iters", "runner.max_epochs"}
    | {"total_iters"}
)
_PATHS = frozenset(
    {"data_root", "data_prefix", "img_path", "seg_map_path", "img_dir", "ann_dir", "ann_file"}
    | {"split", "load_from", "checkpoint", "pretrained"}
)


@dataclass(frozen=True)
class Change:
    """A key that has another value than when the run was started.

    Args:
        name: Dotted name of the key.
        old: Value then; None: it was not there.
        new: Value now.
        rule: What happens.

    Example:
        >>> print(Change("train_dataloader.batch_size", 8, 4, Rule.RECORDED))
        train_dataloader.batch_size was 8, now it is 4
    """

    name: str
    old: Any
    new: Any
    rule: Rule

    def __str__(self) -> str:
        name = self.name.removeprefix("variables.")
        return f"{name} was {_short(self.old)}, now it is {_short(self.new)}"


def rule_of(name: str, continuous: bool = False) -> Rule:
    """What happens when a key changes.

    Args:
        name: Dotted name.
        continuous: The rounds are stretches of one schedule (`queries`), whose length is then
            fixed by the first of them.

    Example:
        >>> rule_of("train_dataloader.num_workers"), rule_of("model.decode_head.num_classes")
        (<Rule.FREE: 'free'>, <Rule.REFUSED: 'refused'>)
    """
    if name in _LENGTHS:
        return Rule.UNTIL_TRAINED if continuous else Rule.RECORDED
    return next(rule for pattern, rule in _RULES if fnmatchcase(name, pattern))


def changes(
    then: Any,
    now: Any,
    trained: bool,
    continuous: bool = False,
    same_file: Callable[[str, str], bool] = lambda old, new: False,
) -> list[Change]:
    """What has changed in the config of a run, free changes left out.

    A path may change freely if the data is the same: a file by `same_file`; a folder of training
    images because the images are compared one by one. Other folders are recorded.

    Args:
        then: The config that the run was started with, as nested dicts and lists.
        now: The config of the resumed run.
        trained: Whether a training of the run has finished.
        continuous: See `rule_of`.
        same_file: Whether two paths (old, new) are files of the same content.

    Returns:
        The changes, by name; each is `RECORDED` or `REFUSED`.

    Example:
        >>> then = {"model": {"depth": 50}, "optimizer": {"lr": 0.1}, "log_config": {"interval": 5}}
        >>> now = {"model": {"depth": 50}, "optimizer": {"lr": 0.2}, "log_config": {"interval": 9}}
        >>> [str(change) for change in changes(then, now, trained=False)]
        ['optimizer.lr was 0.1, now it is 0.2']
        >>> changes(then, now, trained=True)[0].rule
        <Rule.REFUSED: 'refused'>
    """
    found = []
    for name, old, new in differences(then, now):
        rule = _path_rule(name, old, new, same_file) or rule_of(name, continuous)
        if rule is Rule.UNTIL_TRAINED:
            rule = Rule.REFUSED if trained else Rule.RECORDED
        if rule is not Rule.FREE:
            found.append(Change(name, old, new, rule))
    return found


def training_digest(config: Any) -> str:
    """A hash of the keys of a config that affect a training which is under way.

    Example:
        >>> one, two = {"log_config": {"interval": 5}}, {"log_config": {"interval": 9}}
        >>> training_digest(one) == training_digest(two)
        True
    """
    leaves = [
        (name, value)
        for name, value, _ in differences(config, None)
        if not name.startswith("acquisition") and rule_of(name) is not Rule.FREE
    ]
    text = json.dumps(leaves, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _path_rule(name: str, old: Any, new: Any, same_file: Callable[[str, str], bool]) -> Rule | None:
    """The rule for a path; None where the one of the key applies."""
    parts = name.split(".")
    if not _PATHS & set(parts[-2:]) or not isinstance(new, str):
        return None
    if isinstance(old, str) and same_file(old, new):
        return Rule.FREE
    if parts[0] in ("model", "load_from", "resume_from") or parts[-1] in ("split", "ann_file"):
        return None
    if parts[0] in ("variables", "train_dataloader") or parts[:2] == ["data", "train"]:
        return Rule.FREE
    return Rule.RECORDED


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    length = 240 if isinstance(value, str) else 60  # paths whole
    return text if len(text) <= length else f"{text[: length - 1]}…"
