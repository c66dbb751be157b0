"""Mistakes on the command line, in the environment, in config files and in grids of `compare`."""

from __future__ import annotations

import json
from typing import Any

from paths import ROOT

from mistakes.table import Case

BASE = f"_base_ = {str(ROOT / 'configs/streets/_base.py')!r}\n"
CONFIG = ("text", "c.py", BASE + "acquisition = dict(level='region', heuristic='RIPU')\n")
STREETS = (("STREETS_ROOT", "{root}/data"),)
LAUNCH = ["launch", "c.py"]
COMPARE = ["compare", "c.py", "--out", "new"]
OUT = ["compare", "--out", "out", "--only-report"]
ARM = {"acquisition": {"heuristic": "RIPU"}}
ARMS = {"a": ARM}

USAGE: list[tuple[str, list[str], str]] = [
    ("no command", [], "required: COMMAND"),
    ("unknown command", ["trian", "c.py"], "invalid choice: 'trian'"),
    ("unknown option", ["train", "c.py", "--resum3"], "unrecognized arguments: --resum3"),
    ("train without config", ["train"], "required: config"),
    ("train config missing", ["train", "gone.py"], r"gone\.py does not exist: give a config file"),
    ("train config a folder", ["train", "data"], "data is a folder, not a config file"),
    ("train config empty text", ["train", ""], r"does not exist|is a folder"),
    ("train config with a null character", ["train", "a\0b"], "does not exist"),
    ("train config of another name", ["train", "data/streets.json"], r"streets\.json"),
    ("train --work-dir without value", ["train", "c.py", "--work-dir"], "expected one argument"),
    ("train --launcher unknown", ["train", "c.py", "--launcher", "mpi"], "invalid choice: 'mpi'"),
    (
        "train --launcher pytorch alone",
        ["train", "c.py", "--launcher", "pytorch"],
        "--launcher pytorch needs torchrun's",
    ),
    ("train option without value", ["train", "c.py", "--cfg-options", "a.b"], "'a.b' is not KEY"),
    ("train option without key", ["train", "c.py", "--cfg-options", "=3"], "'=3' is not KEY=VALUE"),
    ("train options missing", ["train", "c.py", "--cfg-options"], "expected at least one argument"),
    ("train option bracket", ["train", "c.py", "--cfg-options", "a=[1"], r"'a=\[1': '\]' is miss"),
    ("train option bracket wrong", ["train", "c.py", "--cfg-options", "a=(1]"], "unmatched"),
    ("train option quote", ["train", "c.py", "--cfg-options", "a='x"], "is missing"),
    ("train option JSON", ["train", "c.py", "--cfg-options", "a={x}"], "not a JSON object"),
    (
        "train option nested deeply",
        ["train", "c.py", "--cfg-options", "a=" + "[" * 3000 + "]" * 3000],
        "nested",
    ),
    (
        "train option JSON nested deeply",
        ["train", "c.py", "--cfg-options", "a=" + '{"a":' * 9000],
        "nested",
    ),
    ("launch without processes", ["launch", "c.py"], "required: GPUS"),
    ("launch config missing", ["launch", "gone.py", "2"], r"gone\.py does not exist"),
    ("launch 0 processes", [*LAUNCH, "0"], "GPUS='0' must be a whole number of at least 1"),
    ("launch -1 processes", [*LAUNCH, "-1"], "GPUS"),
    ("launch two processes", [*LAUNCH, "two"], "GPUS='two' must be a whole number"),
    ("launch 1.5 processes", [*LAUNCH, "1.5"], "GPUS='1.5'"),
    ("launch empty processes", [*LAUNCH, ""], "GPUS=''"),
    ("launch processes of other digits", [*LAUNCH, "²"], "GPUS='²'"),
    ("launch processes by option", [*LAUNCH, "--gpus", "2"], "--gpus"),
    ("launch very many processes", [*LAUNCH, "9" * 100], "GPUS"),
    ("compare without --out", ["compare", "c.py"], "required: --out"),
    ("compare without config", ["compare", "--out", "new"], "give a CONFIG"),
    (
        "compare config missing",
        ["compare", "gone.py", "--out", "new", "--heuristics", "RIPU"],
        "gone",
    ),
    ("compare without arms", COMPARE, "nothing to compare: give --heuristics"),
    ("compare seeds text", [*COMPARE, "--seeds", "a"], "--seeds: invalid int value: 'a'"),
    ("compare seeds missing", [*COMPARE, "--seeds"], "--seeds: expected at least one"),
    ("compare seeds negative", [*COMPARE, "--heuristics", "RIPU", "--seeds", "-1"], "seed"),
    ("compare seeds huge", [*COMPARE, "--heuristics", "RIPU", "--seeds", "9" * 30], "seed"),
    ("compare heuristic twice", [*COMPARE, "--heuristics", "RIPU", "RIPU"], "RIPU"),
    ("compare gpus 0", [*COMPARE, "--gpus", "0"], "--gpus: '0' is not a whole number"),
    ("compare gpus text", [*COMPARE, "--gpus", "all"], "--gpus: 'all' is not a whole number"),
    ("compare jobs -1", [*COMPARE, "--jobs", "-1"], "--jobs"),
    ("compare jobs 1.5", [*COMPARE, "--jobs", "1.5"], "--jobs: '1.5' is not a whole number"),
    ("compare jobs of very many digits", [*COMPARE, "--jobs", "9" * 5000], "--jobs"),
    ("compare scale unknown", [*COMPARE, "--scale", "cubic"], "--scale: invalid choice: 'cubic'"),
    ("compare level text", [*COMPARE, "--levels", "half"], "--levels: invalid float value"),
    ("compare level in percent", [*COMPARE, "--levels", "60"], "60"),
    ("compare level 0", [*COMPARE, "--levels", "0"], "level"),
    ("compare level negative", [*COMPARE, "--levels", "-0.5"], "level"),
    ("compare level NaN", [*COMPARE, "--levels", "nan"], "nan"),
    ("compare grid missing", [*COMPARE, "--grid", "gone.json"], r"gone\.json"),
    ("compare grid a folder", [*COMPARE, "--grid", "data"], "data"),
    ("compare grid of another kind", [*COMPARE, "--grid", "g.yaml"], r"g\.yaml"),
    (
        "compare only-report of nothing",
        ["compare", "--out", "new", "--only-report"],
        "new",
    ),
    (
        "compare only-report of a data folder",
        ["compare", "--out", "data", "--only-report"],
        "data",
    ),
    (
        "compare from-json missing",
        ["compare", "--out", "new", "--from-json", "gone.json"],
        r"gone\.json does not exist",
    ),
    (
        "compare from-json another JSON",
        ["compare", "--out", "new", "--from-json", "data/streets.json"],
        r"streets\.json is not a compare\.json",
    ),
    (
        "compare from-json an image",
        ["compare", "--out", "new", "--from-json", "data/images/train/train_0000.jpg"],
        r"train_0000\.jpg cannot be read: it is not UTF-8",
    ),
    (
        "compare from-json a folder",
        ["compare", "--out", "new", "--from-json", "data"],
        "data does not exist",
    ),
    ("compare --out a file", ["compare", "--out", "c.py", "--only-report"], r"c\.py"),
    ("status without folder", ["status"], "required: work_dir"),
    ("check unknown option", ["check", "data", "--fix"], "unrecognized arguments: --fix"),
    ("doctor with an argument", ["doctor", "now"], "unrecognized arguments: now"),
    *(
        (f"{command} {what}", [command, folder], match)
        for command in ("status", "report", "check")
        for what, folder, match in (
            ("folder missing", "gone", "gone"),
            ("of a data folder", "data", "data"),
            ("of a file", "c.py", r"c\.py"),
            ("with a null character", "a\0b", "a"),
            ("with a name of two lines", "two\nlines", "two lines"),
            ("with an empty name", "", "contains? (no|a)"),
        )
    ),
]

ENVIRONMENT: list[tuple[str, list[str], tuple[tuple[str, str], ...], str]] = [
    ("PORT text", [*LAUNCH, "2"], (("PORT", "ssh"),), "PORT='ssh' must be a whole number"),
    ("PORT 0", [*LAUNCH, "2"], (("PORT", "0"),), "PORT='0'"),
    ("PORT negative", [*LAUNCH, "2"], (("PORT", "-5"),), "PORT='-5'"),
    ("PORT too large", [*LAUNCH, "2"], (("PORT", "70000"),), "PORT=70000 must be a port from 1 to"),
    ("PORT a range", [*LAUNCH, "2"], (("PORT", "29500-29510"),), "PORT='29500-29510'"),
    ("NNODES 0", [*LAUNCH, "2"], (("NNODES", "0"),), "NNODES='0'"),
    ("NNODES text", [*LAUNCH, "2"], (("NNODES", "1:4"),), "NNODES='1:4'"),
    ("NNODES alone", [*LAUNCH, "2"], (("NNODES", "2"),), "NNODES=2 needs MASTER_ADDR"),
    (
        "NODE_RANK above NNODES",
        [*LAUNCH, "2"],
        (("NNODES", "2"), ("NODE_RANK", "2"), ("MASTER_ADDR", "127.0.0.1")),
        "NODE_RANK='2' must be a whole number from 0 to 1",
    ),
    (
        "NODE_RANK text",
        [*LAUNCH, "2"],
        (("NNODES", "2"), ("NODE_RANK", "first"), ("MASTER_ADDR", "127.0.0.1")),
        "NODE_RANK='first'",
    ),
    (
        "NODE_RANK of other digits",
        [*LAUNCH, "2"],
        (("NNODES", "2"), ("NODE_RANK", "²"), ("MASTER_ADDR", "127.0.0.1")),
        "NODE_RANK='²'",
    ),
]

TORCHRUN: list[tuple[str, tuple[tuple[str, str], ...], str]] = [
    ("RANK text", (("RANK", "x"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")), "RANK='x'"),
    (
        "WORLD_SIZE text",
        (("RANK", "0"), ("WORLD_SIZE", "x"), ("LOCAL_RANK", "0")),
        "WORLD_SIZE='x'",
    ),
    (
        "RANK above WORLD_SIZE",
        (("RANK", "5"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")),
        "RANK=5 must be below WORLD_SIZE=2",
    ),
    (
        "LOCAL_RANK text",
        (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "x")),
        "LOCAL_RANK='x'",
    ),
]

LAUNCHER: list[tuple[str, list[str], tuple[tuple[str, str], ...], str]] = [
    ("nothing", [], (), r"required: config, GPUS|required"),
    ("no processes", ["c.py"], (), "required: GPUS"),
    ("config missing", ["gone.py", "2"], (), r"gone\.py does not exist"),
    ("processes text", ["c.py", "two"], (), "GPUS='two'"),
    ("processes first", ["2", "c.py"], (), "2 does not exist"),
    ("processes 0", ["c.py", "0"], (), "GPUS='0'"),
    ("PORT text", ["c.py", "2"], (("PORT", "x"),), "PORT='x'"),
    ("PORT too large", ["c.py", "2"], (("PORT", "65536"),), "PORT=65536"),
    ("NNODES text", ["c.py", "2"], (("NNODES", "two"),), "NNODES='two'"),
    ("NNODES alone", ["c.py", "2"], (("NNODES", "2"),), "needs MASTER_ADDR"),
]

GRIDS: list[tuple[str, Any, str]] = [
    ("no object", [], r"g\.json"),
    ("null", None, r"g\.json"),
    ("without arms", {"seeds": [0]}, "nothing to compare"),
    ("unknown key", {"arms": ARMS, "seed": [0]}, "'seed'.*'seeds'"),
    ("arms a list", {"arms": ["RIPU"]}, "arms"),
    ("arms empty", {"arms": {}}, "arms|nothing to compare"),
    ("arm a name", {"arms": {"a": "RIPU"}}, "a"),
    ("arm None", {"arms": {"a": None}}, "a"),
    ("arm with an unknown key", {"arms": {"a": {"heuristc": "RIPU"}}}, "heuristc"),
    (
        "arm of an unknown heuristic",
        {"arms": {"a": {"acquisition": {"heuristic": "RIPPU"}}}},
        "RIPPU.*'RIPU'",
    ),
    ("arm of an unknown level", {"arms": {"a": {"acquisition": {"level": "regions"}}}}, "'region'"),
    ("arm that is no file name", {"arms": {"a/b": ARM}}, "a/b"),
    ("arm with a dot", {"arms": {"..": ARM}}, r"\.\."),
    ("arm with an empty name", {"arms": {"": ARM}}, "''"),
    ("arm with a hidden name", {"arms": {"_start": ARM}}, "_start"),
    ("arm with a very long name", {"arms": {"a" * 300: ARM}}, "aaa"),
    (
        "arm with a budget of 0",
        {"arms": {"a": {"acquisition": {"heuristic": "RIPU", "budget": 0}}}},
        "budget",
    ),
    ("arm with a seed", {"arms": {"a": {"acquisition": {"heuristic": "RIPU", "seed": 3}}}}, "seed"),
    ("seeds text", {"arms": ARMS, "seeds": ["a"]}, "seeds"),
    ("seeds negative", {"arms": ARMS, "seeds": [-1]}, "seed"),
    ("seeds fractions", {"arms": ARMS, "seeds": [0.5]}, "seed"),
    ("seeds True", {"arms": ARMS, "seeds": [True]}, "seed"),
    ("seeds empty", {"arms": ARMS, "seeds": []}, "seed"),
    ("levels text", {"arms": ARMS, "levels": ["x"]}, "level"),
    ("levels in percent", {"arms": ARMS, "levels": [60]}, "level"),
    ("full a name", {"arms": ARMS, "full": "yes"}, "yes does not exist"),
]
GRID_FILES: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", "g.json"), r"g\.json"),
    ("cut", ("text", "g.json", '{"arms": {'), r"g\.json"),
    ("not UTF-8", ("bytes", "g.json", b"\xff\xfe{}"), r"g\.json.*UTF-8"),
    ("nested deeply", ("text", "g.json", "[" * 100_000), r"g\.json.*nested"),
]
PYTHON_GRIDS: list[tuple[str, str, str]] = [
    ("syntax", "arms = dict(\n", r"g\.py"),
    ("that raises", "arms = 1 / 0\n", r"g\.py.*division"),
    ("without arms in Python", "seeds = [0]\n", "nothing to compare"),
    ("that imports nothing", "import no_such_module\narms = {}\n", r"g\.py.*no_such_module"),
    ("that exits", "raise SystemExit(0)\n", r"g\.py"),
]

CONFIGS: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", "c.py"), r"c\.py|acquisition"),
    ("syntax error", ("text", "c.py", "model = dict(\n"), r"c\.py"),
    ("tabs and blanks", ("text", "c.py", "if True:\n\ta = 1\n        b = 2\n"), r"c\.py"),
    ("that raises", ("text", "c.py", "a = 1 / 0\n"), r"c\.py.*division"),
    ("name unknown", ("text", "c.py", "a = b\n"), r"c\.py.*'b'"),
    ("import missing", ("text", "c.py", BASE + "import no_such_module\n"), "no_such_module"),
    ("base missing", ("text", "c.py", "_base_ = './gone.py'\n"), r"gone\.py"),
    ("base itself", ("text", "c.py", "_base_ = './c.py'\n"), r"c\.py"),
    ("base a number", ("text", "c.py", "_base_ = 3\n"), r"c\.py|_base_"),
    ("not UTF-8", ("bytes", "c.py", b"a = '\xff'\n"), r"c\.py"),
    ("with a null character", ("bytes", "c.py", b"a = 1\0\n"), r"c\.py"),
    ("an image", ("copy", "c.py", "data/images/train/train_0000.jpg"), r"c\.py"),
    (
        "no acquisition",
        ("text", "c.py", "train_dataloader = {}\ntrain_cfg = {}\n"),
        "no acquisition",
    ),
    ("exits", ("text", "c.py", "raise SystemExit(0)\n"), r"c\.py"),
    (
        "of 0.x",
        ("text", "c.py", "data = dict(samples_per_gpu=2)\nrunner = {}\nacquisition = {}\n"),
        r"0\.x",
    ),
    (
        "custom import missing",
        ("text", "c.py", BASE + "acquisition = {}\ncustom_imports = dict(imports=['no_such'])\n"),
        "no_such",
    ),
]

OPTIONS: list[tuple[str, list[str], str]] = [
    ("heuristic", ["acquisition.heuristic=RIPPU"], "RIPPU.*mean 'RIPU'"),
    ("acquisition a number", ["acquisition=3"], "acquisition"),
    ("unknown key", ["acquisition.levle=region"], "levle.*mean 'level'"),
    ("budget 0", ["acquisition.budget.amount=0"], "budget.*0"),
    ("budget above the pool", ["acquisition.budget.amount=99999999"], "exceeds the pool size"),
    ("classes do not fit", ["model.decode_head.num_classes=5"], "num_classes.*5"),
    (
        "loss that cannot",
        [
            "model.decode_head.loss_decode.type=HuasdorffDisstanceLoss",
            "model.decode_head.loss_decode._delete_=True",
        ],
        "HuasdorffDisstanceLoss",
    ),
    ("load_from missing", ["load_from=nowhere.pth"], r"nowhere\.pth"),
    ("load_from a folder", ["load_from=data"], "data"),
    ("load_from an image", ["load_from=data/images/train/train_0000.jpg"], r"train_0000\.jpg"),
    ("pretrained without load_from", ["acquisition.round_init=pretrained"], "load_from"),
    ("queries past the schedule", ["acquisition.queries=[900]"], "900"),
    ("model unknown", ["model.type=EncoderDecoderr"], "EncoderDecoderr"),
    ("head unknown", ["model.decode_head.type=FCNHed"], "FCNHed"),
    ("backbone argument unknown", ["model.backbone.dept=3"], "dept"),
    ("optimizer unknown", ["optim_wrapper.optimizer.type=Adam3"], "Adam3"),
    ("schedule negative", ["train_cfg.max_iters=-1"], "max_iters"),
    ("schedule 0", ["train_cfg.max_iters=0"], "max_iters"),
    ("schedule text", ["train_cfg.max_iters=many"], "max_iters"),
    ("loop of epochs", ["train_cfg.type=EpochBasedTrainLoop"], "max_epochs=..., not max_iters"),
    ("validation interval 0", ["train_cfg.val_interval=0"], "val_interval=0"),
    ("validation interval text", ["train_cfg.val_interval=often"], "val_interval='often'"),
    ("validation begins below 0", ["train_cfg.val_begin=-1"], "val_begin=-1"),
    ("level at the top", ["level=pixel"], "acquisition.level"),
    ("budget at the top", ["budget.amount=1%"], "acquisition.budget.amount"),
    ("batch 0", ["train_dataloader.batch_size=0"], "batch_size"),
    ("batch negative", ["train_dataloader.batch_size=-2"], "batch_size"),
    (
        "batch beyond memory",
        ["train_dataloader.batch_size=1000000000"],
        "batch_size=1000000000.*GiB",
    ),
    ("workers negative", ["train_dataloader.num_workers=-1"], "num_workers"),
    ("data_root missing", ["train_dataloader.dataset.data_root=gone"], "gone"),
    ("data set unknown", ["train_dataloader.dataset.type=Streetz"], "Streetz"),
    ("transform unknown", ['train_dataloader.dataset.pipeline=[{"type": "Flipp"}]'], "Flipp|pipe"),
    ("loss weight NaN", ["model.decode_head.loss_decode.loss_weight=nan"], "nan|finite|loss"),
]


CASES: list[Case] = [
    *(Case(name, "command", given, match, spoil=(CONFIG,)) for name, given, match in USAGE),
    Case(
        "compare heuristic unknown",
        "command",
        [*COMPARE, "--heuristics", "RIPPU"],
        "RIPPU.*'RIPU'",
        spoil=(CONFIG,),
        marks=("mmseg1",),
    ),
    *(
        Case(name, "command", given, match, spoil=(CONFIG,), environment=variables)
        for name, given, variables, match in ENVIRONMENT
    ),
    *(
        Case(
            f"torchrun {name}",
            "command",
            ["train", "c.py"],
            match,
            spoil=(CONFIG,),
            environment=variables,
        )
        for name, variables, match in TORCHRUN
    ),
    Case(
        "LOCAL_WORLD_SIZE text",
        "toy",
        {"region": "slic"},
        "LOCAL_WORLD_SIZE='x'",
        environment=(("LOCAL_WORLD_SIZE", "x"),),
    ),
    *(
        Case(
            f"dist_train {name}",
            "dist_train",
            given,
            match,
            spoil=(CONFIG,),
            environment=variables,
            marks=("slow",),
        )
        for name, given, variables, match in LAUNCHER
    ),
    *(
        Case(
            f"grid {name}",
            "command",
            [*COMPARE, "--grid", "g.json"],
            match,
            spoil=(CONFIG, ("text", "g.json", json.dumps(grid))),
            marks=("mmseg1",),
        )
        for name, grid, match in GRIDS
    ),
    *(
        Case(
            f"grid file {name}",
            "command",
            [*COMPARE, "--grid", "g.json"],
            match,
            spoil=(CONFIG, damage),
        )
        for name, damage, match in GRID_FILES
    ),
    *(
        Case(
            f"grid {name}",
            "command",
            [*COMPARE, "--grid", "g.py"],
            match,
            spoil=(CONFIG, ("text", "g.py", text)),
            marks=("mmseg1",),
        )
        for name, text, match in PYTHON_GRIDS
    ),
    *(
        Case(
            f"config {name}",
            "train",
            [],
            match,
            spoil=(damage,),
            marks=("mmseg1", *(("slow",) if name == "base itself" else ())),
        )
        for name, damage, match in CONFIGS
    ),
    *(
        Case(
            f"option {name}",
            "train",
            given,
            match,
            spoil=(CONFIG,),
            environment=STREETS,
            marks=("mmseg1", "slow"),
        )
        for name, given, match in OPTIONS
    ),
]
