"""The command line: `regional-al demo | init | train | launch | compare | status | report |
check | suspects | close-round | annotate | watch | serve | export | import | doctor`.

The module of a subcommand is imported when it is chosen, so that `--help` is instant. A user's
mistake is one line on stderr and a non-zero exit code; a bug keeps its traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import RegionalALError, TrainingStopped
from . import outcome

RESUME_HINT = "interrupted; resume with the same command and --resume"
HINTS = {
    "train": RESUME_HINT,
    "launch": RESUME_HINT,
    "demo": "interrupted; the same command goes on",
}
EXCHANGE = ("cvat", "label-studio", "labelme", "coco", "voc", "supervisely")
"""Formats of `export` and `import`: `EXCHANGE_FORMATS`, known here without importing it."""
INIT_MODELS = ("effnet_lite0", "segformer_b0", "deeplabv3plus_r50")
"""`scaffold.MODELS`, known here without importing it."""
_USER_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: `sys.argv[1:]`) and return the exit code.

    0: finished or waiting for answers; 1: `doctor` found that the engine does not work, or `check`
    that the files of a run disagree; 2: a user's mistake; 75: a signal stopped a training, whose
    state is saved; 130: interrupted. Raises SystemExit where argparse does (--help, wrong usage).
    """
    parser = build_parser()
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except TrainingStopped as error:
        return outcome.stopped(str(error), error.exit_code)
    except RegionalALError as error:
        return outcome.fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in _USER_ERRNO:
            return outcome.crash(error)
        return outcome.fail(str(error), 2)
    except KeyboardInterrupt:
        return outcome.fail(HINTS.get(args.command, "stopped"), 130)
    except Exception as error:
        return outcome.crash(error)


def entry(argv: Sequence[str] | None = None) -> None:
    """`main`, then end the process with its exit code; the console script.

    `custom_imports` finds modules in the working folder, as it does with `python -m regional_al`.
    """
    # Pillow warns of each image that is half as large as those that `store.images` refuses.
    warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")
    if os.getcwd() not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.getcwd())
    try:
        code = main(argv)
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    if "torch" in sys.modules:
        from ..runtime import distributed as dist

        dist.end_process(code)
    sys.exit(code)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="regional-al", description="Active learning for semantic segmentation."
    )
    parser.add_argument("--version", action="version", version=f"regional-al {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="make street scenes and run region RIPU on them")
    demo.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("regional_al_demo"),
        help="of the scenes and the run (default: ./regional_al_demo)",
    )
    demo.add_argument("--gpus", default="1", metavar="N", help="number of processes (default: 1)")

    _add_init(commands.add_parser("init", help="look at your images, write a config for them"))

    train = commands.add_parser("train", help="run or resume a config on one process")
    train.add_argument("config", type=Path, help="MMSegmentation config with an `acquisition` key")
    train.add_argument("--work-dir", type=Path, help="default: work_dirs/<config name>")
    train.add_argument("--resume", action="store_true", help="resume the run in the work dir")
    train.add_argument("--amp", action="store_true", help="mixed precision")
    train.add_argument(
        "--smoke",
        action="store_true",
        help="shorten the run to minutes, to check that it works; results are meaningless",
    )
    train.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        action="extend",
        help="override config keys, e.g. acquisition.rounds=3 model.decode_head.num_classes=11",
    )
    train.add_argument(
        "--no-report", action="store_true", help="do not write report.html and figures at the end"
    )
    train.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="default: pytorch under torchrun, else none; slurm: this is a task of srun",
    )
    train.add_argument("--local_rank", "--local-rank", help=argparse.SUPPRESS)

    launch = commands.add_parser("launch", help="run or resume a config on several processes")
    launch.add_argument("config", type=Path)
    launch.add_argument("gpus", metavar="GPUS", help="number of processes on this machine")
    launch.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        help="arguments of `train`, and --max-restarts N: how often processes that were killed or "
        "failed are started again to resume (default: 0)",
    )

    _add_compare(
        commands.add_parser("compare", help="run several strategies and seeds, and compare them")
    )

    status = commands.add_parser(
        "status", help="show the progress of a run and what it is waiting for"
    )
    report = commands.add_parser("report", help="write report.html and the figures of a run")
    check = commands.add_parser("check", help="compare the files of a run with its ledger")
    check.add_argument(
        "--repair", action="store_true", help="mend what can be mended without losing anything"
    )
    check.add_argument(
        "--accept-labels",
        action="store_true",
        help="take label files that were edited by hand as the labels of the run, and record it",
    )
    for command in (status, report, check):
        command.add_argument("work_dir", type=Path)
    close = commands.add_parser(
        "close-round", help="let a round that waits for answers go on with those that are there"
    )
    close.add_argument("work_dir", type=Path)
    close.add_argument(
        "--unspent",
        choices=("keep", "drop"),
        default="keep",
        help="add the budget that was not spent to the next round (default), or drop it",
    )
    _add_suspects(commands.add_parser("suspects", help="rank likely label errors of a run"))
    _add_annotate(commands.add_parser("annotate", help="answer what a run asks, in a browser"))
    watch = commands.add_parser(
        "watch", help="follow a run on a page that reports while it goes on"
    )
    watch.add_argument("work_dir", type=Path, help="of a run, which may begin later")
    _add_server(watch)
    serve = commands.add_parser("serve", help="give a labelling tool the predictions of a run")
    serve.add_argument("work_dir", type=Path, help="of a run that waits for answers")
    serve.add_argument(
        "--label-studio", action="store_true", required=True, help="as its machine-learning backend"
    )
    serve.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    serve.add_argument("--port", type=int, default=9090)
    _add_exchange(commands)
    commands.add_parser("doctor", help="check the installation and suggest fixes")
    return parser


def _add_init(init: argparse.ArgumentParser) -> None:
    add = init.add_argument
    add("folder", type=Path, help="your images, with or without masks")
    add("--masks", type=Path, metavar="DIR", help="folder of the masks, if it is not found")
    add("--classes", metavar="A,B,C", help="class names, in the order of the values of the masks")
    add("--ignore", metavar="VALUES", help="values of the masks that are no class: 0 or #e0e0c0")
    add("--annotator", choices=("oracle", "web"), help="who answers: the masks, or people")
    add("--level", choices=("region", "image", "pixel"), help="what is asked (default: region)")
    add("--budget", metavar="AMOUNT", help="of a round: 1%%, '200 regions' or '10 pixels'")
    add("--model", choices=INIT_MODELS, help="default: the largest that this machine carries")
    add("--output", type=Path, default=Path("config.py"), help="default: config.py")
    add("--yes", action="store_true", help="ask nothing, take the defaults")
    add("--force", action="store_true", help="overwrite the output")


def _add_compare(compare: argparse.ArgumentParser) -> None:
    add = compare.add_argument
    add(
        "config",
        type=Path,
        nargs="?",
        help="base config of all arms",
    )
    add("--out", type=Path, required=True, help="output folder")
    add("--heuristics", nargs="+", default=[], metavar="NAME", help="one arm per heuristic")
    add("--grid", type=Path, metavar="FILE", help=".py or .json with arms=dict(name=dict(...))")
    add("--seeds", nargs="+", type=int, metavar="K", help="default: 0 1 2")
    add("--full", action="store_true", help="also train on all labels, once per seed")
    add("--own-start", action="store_true", help="do not share round 0 between arms")
    add("--gpus", type=_count, default=1, metavar="N", help="processes per run")
    add("--jobs", type=_count, default=1, metavar="J", help="number of runs at a time")
    add("--amp", action="store_true", help="mixed precision")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", action="extend")
    add(
        "--levels",
        nargs="+",
        type=float,
        metavar="MIOU",
        help="mIoU (0 to 1), for label efficiency",
    )
    add("--scale", choices=("auto", "log", "linear"), default="auto", help="of the cost axes")
    add("--prune", action="store_true", help="keep only the last checkpoint of a finished run")
    add("--dry-run", action="store_true", help="list the runs without training")
    add("--only-report", action="store_true", help="only write the comparison of existing runs")
    add(
        "--from-json",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="write the comparison from compare.json files",
    )


def _add_annotate(annotate: argparse.ArgumentParser) -> None:
    add = annotate.add_argument
    add("work_dir", type=Path, help="of a run with annotator='web' or 'folder' that waits")
    _add_server(annotate)
    add(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the images (0 to 1) that a second person answers too",
    )
    add(
        "--lease",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long an image is kept for a person who does nothing (default: 300)",
    )
    add("--train", action="store_true", help="start the next round when this one is complete")


def _add_server(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add("--port", type=int, default=0, help="default: any that is free")
    add("--no-browser", action="store_true", help="do not open a browser")


def _add_exchange(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write what a run asks for a labelling tool")
    export.add_argument("work_dir", type=Path, help="of a run with annotator='folder' that waits")
    export.add_argument(
        "--to", required=True, metavar="FORMAT", help=f"one of: {', '.join(EXCHANGE)}"
    )
    export.add_argument(
        "--out",
        type=Path,
        metavar="FILE.zip",
        help="default: WORK_DIR/rounds/NNN/exchange/FORMAT.zip",
    )
    export.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images, if they have moved"
    )
    start = export.add_mutually_exclusive_group()
    start.add_argument(
        "--config",
        type=Path,
        metavar="CONFIG",
        help="config of the run: start from what its model predicts",
    )
    start.add_argument(
        "--prelabels",
        type=Path,
        metavar="DIR",
        help="start from label PNGs of the images (raw ids, 255 = none)",
    )
    export.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        action="extend",
        help="with --config: overrides, as for the training",
    )
    take = commands.add_parser("import", help="read answers that a labelling tool has exported")
    take.add_argument("work_dir", type=Path)
    take.add_argument(
        "files", type=Path, nargs="+", metavar="FILES", help="zips, folders or single files"
    )
    take.add_argument(
        "--from", dest="form", metavar="FORMAT", help="default: recognised; formats as of export"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a whole number of at least 1")
    return int(text)


def _add_suspects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work_dir", type=Path, help="of a run with at least one trained round")
    parser.add_argument("--config", type=Path, help="default: the one the run was started with")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE",
                        action="extend", help="override config keys")  # fmt: skip
    parser.add_argument("--top", type=int, default=100, help="shown on the page (default: 100)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv",
                        help="default: WORK_DIR/suspects.csv; the page lies beside it")  # fmt: skip


def _run(args: argparse.Namespace) -> int:
    if args.command == "demo":
        from . import demo

        return demo.run(args)
    if args.command == "init":
        from . import init

        return init.run(args)
    if args.command == "train":
        from . import train

        return train.run(args)
    if args.command == "launch":
        from . import launch

        return launch.run(args.config, args.gpus, args.rest)
    if args.command == "compare":
        from . import compare

        return compare.run(args)
    if args.command == "status":
        from . import status

        return status.run(args.work_dir)
    if args.command == "check":
        from . import check

        return check.run(args.work_dir, args.repair, args.accept_labels)
    if args.command == "suspects":
        from . import suspects

        return suspects.run(args.work_dir, args.config, args.cfg_options, args.top, args.out)
    if args.command == "close-round":
        from ..loop.closing import close_round

        print(close_round(args.work_dir, args.unspent))
        return 0
    if args.command == "annotate":
        from . import annotate

        return annotate.run(args)
    if args.command == "watch":
        from . import annotate

        return annotate.watch(args)
    if args.command == "serve":
        from . import annotate

        return annotate.serve(args)
    if args.command == "export":
        from . import exchange

        return exchange.export(
            args.work_dir,
            args.to,
            args.out,
            args.images,
            args.prelabels,
            args.config,
            args.cfg_options,
        )
    if args.command == "import":
        from . import exchange

        return exchange.import_answers(args.work_dir, args.files, args.form)
    if args.command == "report":
        from ..report.html import write_report

        print(f"report: {write_report(args.work_dir)}")
        return 0
    from . import doctor

    return doctor.run()
