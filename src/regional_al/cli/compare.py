"""`regional-al compare`: run a grid of arms and seeds, resumably, and report on it."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..compare import (
    archive,
    findings,
    grid,
    html,
    machine,
    markdown,
    reading,
    rows,
    running,
    state,
    tables,
)
from ..compare import wishes as wished
from ..compare.grid import Cell, Grid, Recipe
from ..compare.wishes import Wishes
from ..errors import ConfigError, DataError, RegionalALError
from . import outcome
from .options import parse_options
from .train import check_config

GO_ON = "interrupted; the same command goes on from here"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a grid and write its comparison. Returns 0 when all runs are there
    (or wait for answers), 2 when some failed, 130 or 143 when interrupted."""
    if args.from_json:
        return redraw(args)
    levels = wished.levels(args.levels or ())
    if args.only_report:
        if args.grid is not None and not levels:
            levels = wished.levels(wished.read_grid(args.grid).get("levels", ()))
        return report(args.out, reading.collect(args.out), levels, args.scale)
    if args.config is None:
        raise ConfigError("give a CONFIG to train, or --only-report, or --from-json FILE")
    wishes = wished.gather(args.heuristics, args.grid, args.seeds, args.full, args.own_start)
    if not wishes.arms:
        raise ConfigError("nothing to compare: give --heuristics Random RIPU ..., or --grid FILE")
    with interruptible(), state.locked(args.out):
        try:
            return run_grid(args, wishes, levels or wishes.levels)
        except _Terminated:
            return outcome.fail(GO_ON, 143)
        except KeyboardInterrupt:
            return outcome.fail(GO_ON, 130)


def run_grid(args: argparse.Namespace, wishes: Wishes, levels: Sequence[float]) -> int:
    """Plan, run and report, inside the lock."""
    plan = make_plan(args, wishes)
    cells = plan.cells(args.out)
    if args.dry_run:
        for cell in cells:
            print(f"{cell.name}: {'done' if state.finished(cell) else 'to be run'}")
        return 0
    how = {"processes": args.gpus, "options": list(args.cfg_options), "amp": args.amp}
    state.remember(args.out, plan, args.config.stem, how)
    outcomes = make_runner(args, levels).run(cells)
    bad = [found for found in outcomes if found.bad]
    try:
        report(args.out, reading.collect(args.out), levels, args.scale)
    except DataError:
        if not bad:  # else nothing has left results, and why is said below
            raise
    for found in bad:
        print(f"{found.state}: {found.cell.name}: {found.why}")
    if bad:
        raise RegionalALError(
            f"{len(bad)} of {len(cells)} runs failed, see above and {args.out}/runs/*/*.log; the "
            "same command tries them again"
        )
    return 0


def make_plan(args: argparse.Namespace, wishes: Wishes) -> Grid:
    """Read every config that an arm names, and check every arm before anything is trained."""
    options = parse_options(args.cfg_options)
    recipes: dict[Path, Recipe] = {}
    named = [args.config, wishes.full_config, *(arm.config for arm in wishes.arms)]
    for config in dict.fromkeys(path for path in named if path is not None):
        check_config(config)
        recipes[config] = grid.load_recipe(config, options, args.amp)
    return grid.build(wishes, recipes, args.config)


def make_runner(args: argparse.Namespace, levels: Sequence[float]) -> running.Runner:
    # What an arm sets of `acquisition` is in its own JSON already.
    options = [o for o in args.cfg_options if o.partition("=")[0].split(".")[0] != "acquisition"]
    devices = cuda_devices(os.environ)
    cores = machine.cores()

    def command(cell: Cell) -> list[str]:
        return running.train_command(cell, args.gpus, options, args.amp)

    def environment(slot: int) -> dict[str, str]:
        return running.slot_environment(slot, args.jobs, args.gpus, cores, devices, os.environ)

    def keep(cell: Cell) -> None:
        if args.prune:
            state.prune(cell)
        if not cell.arm.name.startswith(grid.START):
            save(args.out, reading.collect(args.out), levels, args.scale)

    return running.Runner(command, args.jobs, environment, machine.facts(), say, keep)


def redraw(args: argparse.Namespace) -> int:
    """The report from archives alone."""
    parts = [(str(path), archive.read(path)) for path in args.from_json]
    return report(args.out, reading.merge(parts), wished.levels(args.levels or ()), args.scale)


def save(
    out: Path, comparison: reading.Comparison, levels: Sequence[float], scale: str
) -> findings.Analysis:
    """compare.json and compare.csv: what there is to keep, after every run that ends."""
    analysis = tables.analyse(comparison, levels, scale)
    archive.write(out / archive.FILE, comparison, findings.to_json(analysis))
    rows.write(out / rows.FILE, comparison)
    return analysis


def report(out: Path, comparison: reading.Comparison, levels: Sequence[float], scale: str) -> int:
    """All files of a comparison, and a few lines on it."""
    analysis = save(out, comparison, levels, scale)
    markdown.write(out, analysis)
    path = html.write(out, analysis, scale)
    print("\n".join(html.summary(analysis)))
    print(f"comparison: {path}")
    return 0


def cuda_devices(environment: Mapping[str, str]) -> list[str]:
    """Names of the CUDA devices that runs may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the runs as Ctrl-C does, instead of leaving them behind."""

    def terminate(_: int, __: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    print(line, flush=True)
