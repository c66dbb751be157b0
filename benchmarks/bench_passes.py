"""Dropout passes: the backbone once per image, or in every pass.

T passes over one image with dropout in the decode head, as BALD asks for them:
`engines.views.Passes` against the obvious way, the whole network T times. Logits are compared bit
for bit first. FCN-R50-D16 at 512x1024 (random weights) and the network of configs/camvid at
180x240. Needs the mmseg1 environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from _common import print_table, timed, write_result
from bench_round import build_network

from regional_al.engines.views import Passes, dropouts
from regional_al.testing import streets

ROOT = Path(__file__).resolve().parents[1]
PASSES = 10


def camvid_network() -> Any:
    """The network of configs/camvid, without its weights. After `build_network`."""
    from mmengine.config import Config
    from mmseg.registry import MODELS

    cfg = Config.fromfile(str(ROOT / "configs/camvid/compare.py"))
    cfg.model.backbone["init_cfg"] = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def passes_of(network: Any, image: torch.Tensor, once: bool) -> list[torch.Tensor]:
    """Logits of all passes."""
    passes = Passes(network, 0, image.device)
    if not once:
        passes.kept = None
    found = []
    for number in range(PASSES):
        with torch.inference_mode(), passes.on(number, False):
            found.append(network.encode_decode(image, [{"img_shape": tuple(image.shape[-2:])}]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    repeats = 1 if quick else 5
    big, small = build_network(), camvid_network()
    rows = []
    for name, network, shape in (
        ("FCN-R50-D16", big, (512, 1024)),
        ("EfficientNet-Lite0, SegFormer head", small, (180, 240)),
    ):
        assert dropouts(network)
        picture, _ = streets.make_scene("train", 0, shape)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        ours, theirs = (passes_of(network, image, once) for once in (True, False))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert not torch.equal(ours[0], ours[1])
        once = timed(lambda: passes_of(network, image, True), repeats, 1)  # noqa: B023
        every = timed(lambda: passes_of(network, image, False), repeats, 1)  # noqa: B023
        rows.append(
            {
                "network": name,
                "size": f"{shape[0]}x{shape[1]}",
                "ours_s": once["median_s"],
                "opponent_s": every["median_s"],
                "ratio": every["median_s"] / once["median_s"],
            }
        )
    print_table(rows)
    write_result("passes_quick" if quick else "passes", rows, passes=PASSES)


if __name__ == "__main__":
    main()
