"""Mistakes in config files and options of MMSegmentation 0.x, where they are others than in 1.x."""

from __future__ import annotations

from typing import Any

from paths import ROOT

from mistakes.table import Case

BASE = f"_base_ = {str(ROOT / 'configs/mmseg0/_streets.py')!r}\n"
CONFIG = ("text", "c.py", BASE + "acquisition = dict(level='region', heuristic='RIPU')\n")
STREETS = (("STREETS_ROOT", "{root}/data"),)

CONFIGS: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", "c.py"), r"c\.py|acquisition"),
    ("syntax error", ("text", "c.py", "model = dict(\n"), r"c\.py"),
    ("that raises", ("text", "c.py", "a = 1 / 0\n"), r"c\.py.*division"),
    ("name unknown", ("text", "c.py", "a = b\n"), r"c\.py.*'b'"),
    ("import missing", ("text", "c.py", BASE + "import no_such_module\n"), "no_such_module"),
    ("base missing", ("text", "c.py", "_base_ = './gone.py'\n"), r"gone\.py"),
    ("base a number", ("text", "c.py", "_base_ = 3\n"), r"c\.py|_base_"),
    ("not UTF-8", ("bytes", "c.py", b"a = '\xff'\n"), r"c\.py"),
    ("with a null character", ("bytes", "c.py", b"a = 1\0\n"), r"c\.py"),
    ("an image", ("copy", "c.py", "data/images/train/train_0000.jpg"), r"c\.py"),
    ("no acquisition", ("text", "c.py", "data = {}\nrunner = {}\n"), "no acquisition"),
    ("exits", ("text", "c.py", "raise SystemExit(0)\n"), r"c\.py"),
    (
        "of 1.x",
        (
            "text",
            "c.py",
            "train_dataloader = {}\ntrain_cfg = {}\nmodel = {}\nacquisition = {}\n",
        ),
        r"1\.x",
    ),
    (
        "base of 1.x",
        ("text", "c.py", "_base_ = 'mmseg::_base_/default_runtime.py'\n"),
        r"1\.x|mmseg::",
    ),
    (
        "custom import missing",
        ("text", "c.py", BASE + "acquisition = {}\ncustom_imports = dict(imports=['no_such'])\n"),
        "no_such",
    ),
]

OPTIONS: list[tuple[str, list[str], str]] = [
    ("heuristic", ["acquisition.heuristic=RIPPU"], "RIPPU.*mean 'RIPU'"),
    ("unknown key", ["acquisition.levle=region"], "levle.*mean 'level'"),
    ("budget above the pool", ["acquisition.budget.amount=99999999"], "exceeds the pool size"),
    ("classes do not fit", ["model.decode_head.num_classes=5"], "num_classes.*5"),
    ("loss unknown", ["model.decode_head.loss_decode.type=NoLoss"], "NoLoss"),
    ("load_from missing", ["load_from=nowhere.pth"], r"nowhere\.pth"),
    ("load_from a folder", ["load_from=data"], "data"),
    ("load_from an image", ["load_from=data/images/train/train_0000.jpg"], r"train_0000\.jpg"),
    ("load_from a number", ["load_from=5"], "load_from=5 must be the name of a file"),
    ("resume_from without queries", ["resume_from=nowhere.pth"], "resume_from.*queries"),
    ("pretrained without load_from", ["acquisition.round_init=pretrained"], "load_from"),
    (
        "queries past the schedule",
        ["acquisition.queries=[900]", "acquisition.rounds=1", "acquisition.round_init=scratch"],
        "900.*runner.max_iters=50",
    ),
    ("model unknown", ["model.type=EncoderDecoderr"], "EncoderDecoderr"),
    ("head unknown", ["model.decode_head.type=FCNHed"], "FCNHed"),
    ("backbone argument unknown", ["model.backbone.dept=3"], "dept"),
    ("optimizer unknown", ["optimizer.type=Adam3"], "Adam3"),
    ("optimizer without type", ["optimizer=3"], "optimizer"),
    ("rate text", ["optimizer.lr=fast"], "optimizer"),
    ("policy unknown", ["lr_config.policy=polly"], "lr_config.*Polly"),
    ("policy argument unknown", ["lr_config.powr=2"], "lr_config.*powr"),
    ("policy by epoch", ["lr_config.by_epoch=True"], "lr_config.by_epoch"),
    ("warm-up unknown", ["lr_config.warmup=slow"], "lr_config.*slow"),
    ("momentum policy unknown", ['momentum_config={"policy": "nothing"}'], "momentum_config"),
    ("optimizer hook unknown", ["optimizer_config.type=NoHook"], "optimizer_config.*NoHook"),
    ("clip argument unknown", ['optimizer_config.grad_clip={"max_nrom": 1}'], "max_nrom"),
    (
        "checkpoint hook unknown",
        ['checkpoint_config={"type": "NoHook", "_delete_": true}'],
        "checkpoint_config: .*NoHook",
    ),
    (
        "checkpoints elsewhere",
        ['checkpoint_config={"out_dir": "x", "_delete_": true}'],
        "checkpoint_config.out_dir",
    ),
    ("evaluation never", ['evaluation={"interval": -1}'], "evaluation: "),
    ("metric unknown", ['evaluation={"interval": 1, "metric": "mAP"}'], "evaluation.*mAP"),
    ("hook unknown", ['custom_hooks=[{"type": "NoHook"}]'], "custom_hooks.*NoHook"),
    ("hook no dict", ["custom_hooks=[x]"], "custom_hooks.*'x'"),
    ("logger unknown", ['log_config.hooks=[{"type": "NoLogger"}]'], "NoLogger"),
    ("runner unknown", ["runner.type=NoRunner"], "NoRunner"),
    ("workflow unknown", ['workflow=[["test", 1]]'], "workflow.*test"),
    ("schedule negative", ["runner.max_iters=-1"], "max_iters"),
    ("schedule 0", ["runner.max_iters=0"], "max_iters"),
    ("schedule text", ["runner.max_iters=many"], "max_iters"),
    ("batch 0", ["data.samples_per_gpu=0"], "samples_per_gpu"),
    ("batch negative", ["data.samples_per_gpu=-2"], "samples_per_gpu"),
    ("batch beyond memory", ["data.samples_per_gpu=1000000000"], "samples_per_gpu=1000000000.*GiB"),
    ("workers negative", ["data.workers_per_gpu=-1"], "workers_per_gpu"),
    ("loader argument unknown", ["data.prefetch=1"], "prefetch"),
    ("data_root missing", ["data.train.data_root=gone"], "gone"),
    ("val masks missing", ["data.val.ann_dir=gone"], "gone"),
    ("data set unknown", ["data.train.type=Streetz"], "Streetz"),
    ("transform unknown", ['data.train.pipeline=[{"type": "Flipp"}]'], "Flipp|pipe"),
    ("loss weight NaN", ["model.decode_head.loss_decode.loss_weight=nan"], "nan|finite|loss"),
]

CASES: list[Case] = [
    *(
        Case(f"0.x config {name}", "train", [], match, spoil=(damage,), marks=("mmseg0",))
        for name, damage, match in CONFIGS
    ),
    *(
        Case(
            f"0.x option {name}",
            "train",
            given,
            match,
            spoil=(CONFIG,),
            environment=STREETS,
            marks=("mmseg0", "slow"),
        )
        for name, given, match in OPTIONS
    ),
]
