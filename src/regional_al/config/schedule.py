"""How long a round trains, made explicit: it changes which strategy looks best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..checks import check_keys, choice, integer, positive
from ..errors import ConfigError
from ..types import Costs

PER = ("image", "region", "pixel", "click")


@dataclass(frozen=True)
class Iterations:
    """How many iterations a round trains.

    Args:
        amount: Iterations, above 0; with `per`, for each unit spent so far (rounded up).
        per: None, 'image', 'region', 'pixel' or 'click'.
        least: With `per`, at least so many.
        most: With `per`, at most so many; None: no limit.

    Example:
        >>> spent = Costs(images=3, regions=3, pixels=0, clicks=3)
        >>> Iterations(2.5, per="image", most=100).of(spent)
        8
    """

    amount: float
    per: str | None = None
    least: int = 1
    most: int | None = None

    def of(self, spent: Costs) -> int:
        """For a round after which `spent` has been spent in all. Raises ConfigError when clicks are
        asked for and not known (people's answers)."""
        if self.per is None:
            return int(self.amount)
        count: int | None = getattr(spent, f"{self.per}s")
        if count is None:
            raise ConfigError(
                "acquisition.iterations.per='click': the clicks of these answers are not known; "
                "use 'image', 'region' or 'pixel'"
            )
        wanted = math.ceil(self.amount * count)
        return max(self.least, wanted if self.most is None else min(wanted, self.most))


def parse_iterations(raw: Any, queries: Any = None) -> Iterations | None:
    """Read `iterations=`: None (the config's own schedule), a number, or a dict of amount, per,
    least, most. Raises ConfigError."""
    key = "acquisition.iterations"
    if raw is None:
        return None
    if queries:
        raise ConfigError(
            f"{key} cannot be used with queries=[...]: one continuous run has the config's schedule"
        )
    if not isinstance(raw, Mapping):
        return Iterations(integer(key, raw, 1))
    check_keys(key, raw, ("amount", "per", "least", "most"))
    amount = raw.get("amount")
    number = positive(f"{key}.amount", amount)
    if raw.get("per") is None:
        return Iterations(integer(f"{key}.amount", amount, 1))
    per = choice(f"{key}.per", raw["per"], PER)
    least = integer(f"{key}.least", raw.get("least", 1), 1)
    most = None if raw.get("most") is None else integer(f"{key}.most", raw["most"], least)
    return Iterations(number, per, least, most)


def stretch_schedule(
    schedulers: Sequence[Mapping[str, Any]], old: int, new: int, capped: bool = True
) -> list[dict[str, Any]]:
    """Stretch learning rate schedulers from a training of `old` steps to one of `new` steps.

    What ends where another begins still does. Warm-ups keep their share of the training, but never
    less than the two steps that `LinearLR` and `ConstantLR` need to reach their end factor (with
    one step the learning rate would stay at the start factor); where a training is too short even
    for that, they are left out and what follows starts at once.

    Args:
        schedulers: Items of `param_scheduler` that count the same unit (iterations or epochs), as
            config dicts; not changed. Values that are no step counts are kept.
        old: Length of the training that they are written for, at least 1.
        new: Length of the training that they are wanted for, at least 1.
        capped: Whether nothing that ended within `old` may end after `new`. False for schedulers
            that count another unit than `old` and `new` do.

    Returns:
        The stretched items, in order; fewer where a warm-up does not fit.

    Example:
        >>> warm_up = dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500)
        >>> poly = dict(type="PolyLR", begin=1500, end=160000)
        >>> [(s["begin"], s["end"]) for s in stretch_schedule([warm_up, poly], 160000, 60)]
        [(0, 2), (2, 60)]
    """
    ratio = Fraction(new, old)
    kept = [dict(scheduler) for scheduler in schedulers]
    edges = _moved_edges(kept, ratio, (old, new) if capped else None)
    while edges is None:
        warm_ups = [s for s in kept if _least_steps(s) > 1]
        if warm_ups:
            left_out = min(warm_ups, key=_length)
            kept.remove(left_out)
            for scheduler in kept:
                if scheduler.get("begin") == left_out.get("end"):
                    scheduler["begin"] = left_out.get("begin", 0)
        edges = _moved_edges(kept, ratio, (old, new) if warm_ups else None)
    for scheduler in kept:
        before = _length(scheduler)
        for key in ("begin", "end"):
            if isinstance(scheduler.get(key), int):
                scheduler[key] = edges[scheduler[key]]
        for key in ("T_max", "total_steps", "total_iters", "step_size"):
            if isinstance(scheduler.get(key), int):
                whole = scheduler[key] == before
                scheduler[key] = max(1, round(scheduler[key] * ratio))
                if whole:
                    scheduler[key] = int(_length(scheduler))
        if isinstance(scheduler.get("periods"), (list, tuple)):
            scheduler["periods"] = _periods(scheduler["periods"], ratio)
        if isinstance(scheduler.get("milestones"), (list, tuple)):
            scheduler["milestones"] = _rising(scheduler["milestones"], ratio, new)
    return kept


def stretch_policy(
    policy: Mapping[str, Any], old: int, new: int, by_epoch: bool | None = False
) -> dict[str, Any]:
    """`stretch_schedule` for the one policy (`lr_config`, `momentum_config`) of MMSegmentation 0.x.

    Args:
        policy: The policy, not changed. `warmup_iters` keeps its share of the training, at least
            one iteration, and ends before the training does; in a training of one iteration there
            is no warm-up.
        old: Length of the training that it is written for, at least 1.
        new: Length of the training that it is wanted for, at least 1.
        by_epoch: The unit of `old` and `new`: steps of a policy that counts the other one (its
            `by_epoch`, by default True) are kept. None: they are stretched in any case.

    Returns:
        The stretched policy.

    Example:
        >>> stretch_policy(dict(policy="poly", warmup="linear", warmup_iters=1500), 160000, 60)
        {'policy': 'poly', 'warmup': 'linear', 'warmup_iters': 1}
    """
    ratio, out = Fraction(new, old), dict(policy)
    if by_epoch is None or bool(out.get("by_epoch", True)) == by_epoch:
        if isinstance(out.get("step"), (list, tuple)):
            out["step"] = _rising(out["step"], ratio, new)
        if isinstance(out.get("periods"), (list, tuple)):
            out["periods"] = _periods(out["periods"], ratio)
        for key in ("step", "total_steps"):
            if isinstance(out.get(key), int):
                out[key] = max(1, round(out[key] * ratio))
    if isinstance(out.get("warmup_iters"), int) and not out.get("warmup_by_epoch"):
        out["warmup_iters"] = max(1, min(round(out["warmup_iters"] * ratio), new - 1))
        if new == 1:
            out["warmup"] = None
    return out


def _rising(steps: Sequence[int], ratio: Fraction, last: int) -> list[int]:
    """Milestones stretched by `ratio`: at least 1, strictly rising where they were; those within
    the training stay within it (below `last`) as far as there is room."""
    out = [max(1, round(step * ratio)) for step in steps]
    cap = last - 1
    for i in reversed(range(len(out))):
        if steps[i] * ratio < last:
            out[i] = min(out[i], cap)
            cap = out[i] - 1
    for i in range(len(out)):
        out[i] = max(out[i], 1 if i == 0 else out[i - 1] + (steps[i] > steps[i - 1]))
    return out


def _periods(lengths: Sequence[int], ratio: Fraction) -> list[int]:
    """Consecutive lengths stretched by `ratio`: at least 1 each, and their sum is stretched too."""
    ends = [round(end * ratio) for end in itertools.accumulate(lengths)]
    for i in range(len(ends)):
        ends[i] = max(ends[i], (ends[i - 1] if i else 0) + 1)
    return [end - before for before, end in itertools.pairwise([0, *ends])]


def _moved_edges(
    schedulers: Sequence[Mapping[str, Any]], ratio: Fraction, cap: tuple[int, int] | None
) -> dict[int, int] | None:
    """Where each `begin` and `end` moves to; None when the shortest intervals do not fit.

    cap: what is at most the first number must be at most the second one after.
    """
    values = {s[key] for s in schedulers for key in ("begin", "end") if isinstance(s.get(key), int)}
    edges = sorted({0, *values})
    moved, gaps = [0], [0]
    for before, after in itertools.pairwise(edges):
        spans = [s for s in schedulers if (s.get("begin", 0), s.get("end")) == (before, after)]
        gaps.append(max([1, *map(_least_steps, spans)]))
        moved.append(max(round(after * ratio), moved[-1] + gaps[-1]))
    if cap is not None:
        latest = cap[1]
        for i in reversed(range(len(edges))):
            if edges[i] <= cap[0]:
                moved[i] = min(moved[i], latest)
                latest = moved[i] - gaps[i]
    return None if moved[0] < 0 else dict(zip(edges, moved, strict=True))


def _least_steps(scheduler: Mapping[str, Any]) -> int:
    """Steps that a scheduler needs to get to its end."""
    kind = scheduler.get("type")
    name = str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    return 2 if name.startswith(("Linear", "Constant")) else 1


def _length(scheduler: Mapping[str, Any]) -> float:
    end = scheduler.get("end")
    return end - scheduler.get("begin", 0) if isinstance(end, int) else math.inf
