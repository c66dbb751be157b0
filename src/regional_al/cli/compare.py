"""`regional-al compare`: run a grid of arms and seeds, resumably, and report on it."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..compare import html, markdown, plan, results, runner, state, stats, tables
from ..compare.plan import GridSpec, PlannedRun, Recipe
from ..compare.results import Comparison
from ..errors import ConfigError, DataError, RegionalALError
from . import outcome
from .options import parse_options
from .train import check_config

RESUME_HINT = "interrupted; run the same command again to resume"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a grid and write its comparison.

    Returns 0 when all runs are done (or wait for answers), 2 when some failed, 130 or 143 when
    interrupted.
    """
    levels = plan.parse_levels(args.levels or ())
    if args.from_json:
        parts = [(str(path), results.read(path)) for path in args.from_json]
        return report(args.out, results.merge(parts), levels, args.scale)
    if args.only_report:
        if args.grid is not None and not levels:
            levels = plan.parse_levels(plan.read_grid_file(args.grid).get("levels", ()))
        return report(args.out, results.collect(args.out), levels, args.scale)
    if args.config is None:
        raise ConfigError("give a CONFIG to train, --only-report, or --from-json FILE")
    spec = plan.read_spec(args.heuristics, args.grid, args.seeds, args.full, args.own_start)
    if not spec.arms:
        raise ConfigError("nothing to compare: give --heuristics Random RIPU ..., or --grid FILE")
    with interruptible(), state.locked(args.out):
        try:
            return run_grid(args, spec, levels or spec.levels)
        except _Terminated:
            return outcome.fail(RESUME_HINT, 143)
        except KeyboardInterrupt:
            return outcome.fail(RESUME_HINT, 130)


def run_grid(args: argparse.Namespace, spec: GridSpec, levels: Sequence[float]) -> int:
    """Plan, run and report, inside the lock."""
    options = parse_options(args.cfg_options)
    recipes: dict[Path, Recipe] = {}
    for config in (args.config, spec.full_config, *(arm.config for arm in spec.arms)):
        if config is not None and config not in recipes:
            check_config(config)
            recipes[config] = plan.load_recipe(config, options, args.amp)
    grid = plan.build(spec, recipes, args.config)
    runs = grid.runs(args.out)
    if args.dry_run:
        for planned in runs:
            print(f"{planned.name}: {'done' if state.finished(planned) else 'to do'}")
        return 0
    how = {"processes": args.gpus, "options": list(args.cfg_options), "amp": args.amp}
    state.remember(args.out, grid, args.config.stem, how)
    outcomes = make_runner(args, levels).run(runs)
    bad = [found for found in outcomes if found.bad]
    try:
        report(args.out, results.collect(args.out), levels, args.scale)
    except DataError:
        if not bad:  # else there are no results because of the failures listed below
            raise
    for found in bad:
        print(f"{found.state}: {found.run.name}: {found.why}")
    if bad:
        raise RegionalALError(
            f"{len(bad)} of {len(runs)} runs failed, see above and {args.out}/runs/*/*.log; run "
            "the same command again to retry them"
        )
    return 0


def make_runner(args: argparse.Namespace, levels: Sequence[float]) -> runner.Runner:
    """The runner of the command line: training processes that share cores and devices."""
    # Each run's JSON already contains the `acquisition` options.
    options = [o for o in args.cfg_options if o.partition("=")[0].split(".")[0] != "acquisition"]
    devices = cuda_devices(os.environ)
    cores = runner.cores()

    def command(planned: PlannedRun) -> list[str]:
        return runner.train_command(planned, args.gpus, options, args.amp)

    def environment(slot: int) -> dict[str, str]:
        return runner.slot_environment(slot, args.jobs, args.gpus, cores, devices, os.environ)

    def keep(planned: PlannedRun) -> None:
        if args.prune:
            state.prune(planned)
        if not planned.arm.name.startswith(plan.START):
            save(args.out, results.collect(args.out), levels, args.scale)

    def say(line: str) -> None:
        print(line, flush=True)

    return runner.Runner(command, args.jobs, environment, runner.machine_facts(), say, keep)


def save(out: Path, comparison: Comparison, levels: Sequence[float], scale: str) -> stats.Analysis:
    """Write compare.json and compare.csv, as after every run that ends."""
    analysis = stats.analyse(comparison, levels, scale)
    results.write(out / results.ARCHIVE, comparison, stats.to_json(analysis))
    results.write_csv(out / results.CSV, comparison)
    return analysis


def report(out: Path, comparison: Comparison, levels: Sequence[float], scale: str) -> int:
    """Write all files of a comparison and print a summary."""
    analysis = save(out, comparison, levels, scale)
    markdown.write(out, analysis)
    path = html.write(out, analysis, scale)
    print("\n".join(tables.summary(analysis)))
    print(f"comparison: {path}")
    return 0


def cuda_devices(environment: Mapping[str, str]) -> list[str]:
    """Names of the CUDA devices that runs may use, in the form of CUDA_VISIBLE_DEVICES."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


@contextmanager
def interruptible() -> Iterator[None]:
    """End the runs on SIGTERM as on Ctrl-C, instead of leaving them behind."""

    def terminate(_: int, __: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
