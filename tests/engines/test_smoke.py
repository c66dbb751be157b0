"""`--smoke`: what is cut down in configs of either dialect, and what is left alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from regional_al.config import grammar
from regional_al.engines import smoke

ZERO: dict[str, Any] = {
    "model": {
        "type": "EncoderDecoder",
        "pretrained": "open-mmlab://resnet50_v1c",
        "backbone": {
            "type": "ResNetV1c",
            "strides": (1, 2, 2, 1),
            "init_cfg": {"type": "Pretrained", "checkpoint": "mine.pth"},
        },
        "decode_head": {"type": "FCNHead", "channels": 512},
        "test_cfg": {"mode": "slide", "crop_size": (512, 1024), "stride": (341, 683)},
    },
    "data": {
        "samples_per_gpu": 16,
        "workers_per_gpu": 4,
        "val_dataloader": {"samples_per_gpu": 1},
        "train": {
            "type": "CityscapesDataset",
            "pipeline": [
                {"type": "Resize", "img_scale": (2048, 1024), "ratio_range": (0.5, 2.0)},
                {"type": "RandomCrop", "crop_size": (512, 1024)},
                {"type": "Pad", "size": (512, 1024), "pad_val": 0},
            ],
        },
        "val": {
            "type": "CityscapesDataset",
            "pipeline": [{"type": "MultiScaleFlipAug", "img_scale": [(2048, 1024), (1024, 512)]}],
        },
    },
    "runner": {"type": "IterBasedRunner", "max_iters": 40000},
    "lr_config": {
        "policy": "step",
        "step": [20000, 30000],
        "warmup": "linear",
        "warmup_iters": 1500,
    },
    "log_config": {"interval": 50},
    "acquisition": {"level": "region", "heuristic": "RIPU"},
}
ONE: dict[str, Any] = {
    "model": {
        "data_preprocessor": {"type": "SegDataPreProcessor", "size": (512, 512)},
        "backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": "https://x/mit_b0.pth"}},
    },
    "train_dataloader": {
        "batch_size": 8,
        "num_workers": 4,
        "persistent_workers": True,
        "prefetch_factor": 2,
        "dataset": {
            "type": "ConcatDataset",
            "datasets": [
                {
                    "type": "ADE20KDataset",
                    "pipeline": [
                        {"type": "RandomResize", "scale": (2048, 512), "ratio_range": (0.5, 2.0)},
                        {"type": "RandomCrop", "crop_size": (512, 512)},
                    ],
                },
                {"type": "ADE20KDataset", "indices": 3, "pipeline": []},
            ],
        },
    },
    "val_dataloader": {
        "batch_size": 1,
        "dataset": {
            "type": "ADE20KDataset",
            "pipeline": [{"type": "Resize", "scale": (2048, 512)}],
        },
    },
    "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 160000, "val_interval": 16000},
    "param_scheduler": [
        {"type": "LinearLR", "begin": 0, "end": 1500, "by_epoch": False},
        {"type": "PolyLR", "begin": 1500, "end": 160000, "by_epoch": False},
    ],
    "default_hooks": {"logger": {"type": "LoggerHook", "interval": 50}},
    "acquisition": {
        "level": "image",
        "rounds": 10,
        "budget": 100,
        "warm_start": {"amount": 200, "unit": "image"},
    },
}


def shrunk(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    tree = copy.deepcopy(tree)
    return tree, smoke.shrink(tree)


def test_a_config_of_0x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").touch()
    cfg, told = shrunk(ZERO)
    assert cfg["runner"]["max_iters"] == 10
    assert cfg["lr_config"]["step"] == [5, 8]
    assert cfg["lr_config"]["warmup_iters"] == 1
    resize, crop, pad = cfg["data"]["train"]["pipeline"]
    assert resize["img_scale"] == (256, 128)
    assert resize["ratio_range"] == (0.5, 2.0)
    assert crop["crop_size"] == pad["size"] == (64, 128)
    (test,) = cfg["data"]["val"]["pipeline"]
    assert test["img_scale"] == [(256, 128), (128, 64)]
    assert cfg["model"]["test_cfg"] == {"mode": "slide", "crop_size": (64, 128), "stride": (43, 85)}
    assert cfg["data"]["samples_per_gpu"] == 2
    assert cfg["data"]["workers_per_gpu"] == 0
    assert cfg["model"]["pretrained"] is None
    assert cfg["model"]["backbone"]["init_cfg"]["checkpoint"] == "mine.pth", "a file stays"
    assert cfg["model"]["backbone"]["strides"] == (1, 2, 2, 1)
    assert cfg["model"]["decode_head"]["channels"] == 512
    assert cfg["smoke"] == {"train_images": 8, "val_images": 4}
    assert cfg["acquisition"]["rounds"] == 3
    text = "\n".join(told)
    for part in ("40000 -> 10", "x 0.125", "open-mmlab", "samples_per_gpu: 16 -> 2", "first 8"):
        assert part in text


def test_a_config_of_1x() -> None:
    cfg, told = shrunk(ONE)
    assert cfg["train_cfg"] == {"type": "IterBasedTrainLoop", "max_iters": 10, "val_interval": 10}
    warm_up, poly = cfg["param_scheduler"]  # a warm-up of one iteration would never end
    assert (warm_up["begin"], warm_up["end"]) == (0, 2)
    assert (poly["begin"], poly["end"]) == (2, 10)
    loader = cfg["train_dataloader"]
    assert (loader["batch_size"], loader["num_workers"]) == (2, 0)
    assert loader["persistent_workers"] is False
    assert "prefetch_factor" not in loader
    first, second = loader["dataset"]["datasets"]
    assert (first["indices"], second["indices"]) == (8, 3)
    assert "indices" not in loader["dataset"]
    assert cfg["val_dataloader"]["dataset"]["indices"] == 4
    assert first["pipeline"][0]["scale"] == (512, 128)
    assert first["pipeline"][1]["crop_size"] == (128, 128)
    assert cfg["model"]["data_preprocessor"]["size"] == (128, 128)
    assert cfg["model"]["backbone"]["init_cfg"] is None
    assert "smoke" not in cfg
    assert cfg["acquisition"]["rounds"] == 3
    assert cfg["acquisition"]["budget"] == 1
    assert cfg["acquisition"]["warm_start"] == {"amount": 1, "unit": "image"}
    assert any("acquisition.budget: 100 -> 1" in line for line in told)


@pytest.mark.parametrize(
    ("acquisition", "expected"),
    [
        ({"queries": [10000, 12000, 14000, 16000, 18000], "rounds": 5}, {"queries": [2, 3, 4]}),
        ({"queries": [0, 2000, 4000, 6000]}, {"queries": [0, 1, 2]}),
        ({"rounds": 2}, {"rounds": 2}),
        (
            {"rounds": 0, "iterations": {"amount": 2, "per": "pixel"}},
            {"rounds": 0, "iterations": 10},
        ),
        (
            {"budget": {"amount": 1026, "unit": "region", "scope": "image"}, "rounds": 1},
            {"budget": {"amount": 1026, "unit": "region", "scope": "image"}, "rounds": 1},
        ),
        (
            {"budget": {"amount": 2000, "unit": "click", "scope": "pool"}, "rounds": 1},
            {"budget": {"amount": "1%", "unit": "click", "scope": "pool"}, "rounds": 1},
        ),
        (
            {"level": "pixel", "budget": 10, "rounds": 1},
            {"level": "pixel", "budget": 10, "rounds": 1},
        ),
        (
            {"warm_start": {"amount": 3, "level": "image", "unit": "image"}, "rounds": 1},
            {"warm_start": {"amount": 1, "level": "image", "unit": "image"}, "rounds": 1},
        ),
        (
            {"warm_start": {"run": "elsewhere"}, "rounds": 1},
            {"warm_start": {"run": "elsewhere"}, "rounds": 1},
        ),
        (
            {"warm_start": {"labels": "elsewhere"}, "rounds": 0},
            {"warm_start": {"level": "pixel", "amount": 20}, "rounds": 0},
        ),
    ],
)
def test_acquisition(acquisition: dict[str, Any], expected: dict[str, Any]) -> None:
    cfg, _ = shrunk({**ZERO, "acquisition": acquisition})
    assert cfg["acquisition"] == expected
    if "click" not in str(expected):  # asks for dominant answers as well
        parsed = grammar.parse(cfg["acquisition"])
        assert parsed.queries is None or max(parsed.queries) < smoke.ITERATIONS


def test_small_configs_and_epochs() -> None:
    small = copy.deepcopy(ZERO)
    small["runner"] = {"type": "EpochBasedRunner", "max_epochs": 100}
    small["data"]["train"]["pipeline"][0]["img_scale"] = (400, 128)
    small["data"]["train"]["pipeline"][1]["crop_size"] = (96, 128)
    small["data"]["val"]["pipeline"] = []
    small["model"]["test_cfg"] = {"mode": "whole"}
    cfg, told = shrunk(small)
    assert cfg["runner"]["max_epochs"] == 1
    assert cfg["data"]["train"]["pipeline"][0]["img_scale"] == (400, 128)
    assert not any("scales" in line for line in told)
    small["data"]["train"]["pipeline"][0]["img_scale"] = (2048, 1024)
    cfg, _ = shrunk(small)
    assert cfg["data"]["train"]["pipeline"][0]["img_scale"] == (256, 128), "large images alone"


def test_weights_that_are_no_file_here_are_left_out() -> None:
    """As mmseg's configs name those that people convert themselves."""
    cfg, told = shrunk(ZERO)
    assert cfg["model"]["backbone"]["init_cfg"] is None
    assert any("'mine.pth' -> None (random weights)" in line for line in told)


def test_gradients_of_random_weights_are_clipped() -> None:
    for config, key, name in ((ZERO, "optimizer_config", "grad_clip"),
                              (ONE, "optim_wrapper", "clip_grad")):  # fmt: skip
        cfg = copy.deepcopy(config)
        cfg["model"]["pretrained"] = "open-mmlab://resnet50"
        cfg[key] = {"own": 1}
        small, told = shrunk(cfg)
        assert small[key] == {"own": 1, name: {"max_norm": 1.0}}
        assert any(line.startswith(f"{key}.{name}: ") for line in told)
        cfg[key][name] = {"max_norm": 35}
        assert shrunk(cfg)[0][key][name] == {"max_norm": 35}


@pytest.mark.parametrize(
    ("crop", "expected"),
    [((512, 1024), (64, 128)), ((680, 680), (96, 96)), (769, 128), ((64, 768), (32, 128))],
)
def test_crops_stay_multiples_of_32(crop: Any, expected: Any) -> None:
    cfg = copy.deepcopy(ONE)
    first = cfg["train_dataloader"]["dataset"]["datasets"][0]["pipeline"]
    first[0]["scale"], first[1]["crop_size"] = (2048, 512), crop
    if crop == (512, 1024) or crop == (680, 680):
        first[0]["scale"] = (2048, 1024)
    cfg["model"]["data_preprocessor"]["size"] = crop
    cfg, _ = shrunk(cfg)
    assert cfg["train_dataloader"]["dataset"]["datasets"][0]["pipeline"][1]["crop_size"] == expected
    assert cfg["model"]["data_preprocessor"]["size"] == expected


def test_transformers_of_a_fixed_size_follow_the_crop() -> None:
    cfg = copy.deepcopy(ONE)
    cfg["model"]["backbone"]["img_size"] = (512, 512)
    cfg["model"]["auxiliary_head"] = {"img_size": 512, "other": {"img_size": 224}}
    cfg, _ = shrunk(cfg)
    assert cfg["model"]["backbone"]["img_size"] == (128, 128)
    assert cfg["model"]["auxiliary_head"] == {"img_size": 128, "other": {"img_size": 224}}


def test_a_head_with_a_fixed_pooling_keeps_large_crops() -> None:
    cfg = copy.deepcopy(ONE)
    cfg["model"]["decode_head"] = {"type": "LRASPPHead"}
    cfg, told = shrunk(cfg)
    crop = cfg["train_dataloader"]["dataset"]["datasets"][0]["pipeline"][1]["crop_size"]
    assert crop == (416, 416)
    assert any("x 0.812" in line for line in told)


def test_a_dict_that_is_shared_is_scaled_once() -> None:
    cfg = copy.deepcopy(ZERO)
    cfg["train_pipeline"] = cfg["data"]["train"]["pipeline"]
    smoke.shrink(cfg)
    assert cfg["data"]["train"]["pipeline"][1]["crop_size"] == (64, 128)
