"""Cost of acquisition: score + select + write, compared with one forward pass of a network.

One 512x1024 image, 19 classes, FCN-R50-D16 (the 0.x reference architecture, random weights): the
time of everything the library does for an image of the pool (RIPU over SLIC with cached ids, or
over windows; the pool's selection; query and label files) as a share of the network's forward
pass. The image's own part is timed on real logits of that network. Needs the mmseg1 environment.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import print_table, timed, write_result

from regional_al import functional, kernels, partitions
from regional_al.acquisition.candidates import asked_map, unit_candidates, window_candidates
from regional_al.engines.quiet import quiet_imports
from regional_al.selection import CandidateStream
from regional_al.store.labels import LabelStore
from regional_al.store.query import QueryInfo, write_query
from regional_al.testing import streets
from regional_al.types import ImageAnswer

CONFIG = "fcn/fcn-d6_r50-d16_4xb2-40k_cityscapes-512x1024.py"
SHAPE = (512, 1024)
SHARE = 0.01  # of the image's pixels, the default budget


def build_network() -> torch.nn.Module:
    """FCN-R50-D16 of MMSegmentation with BN for SyncBN and no download of weights."""
    with quiet_imports():
        import mmseg
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from mmseg.registry import MODELS
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")
    cfg = Config.fromfile(str(Path(mmseg.__file__).parent / ".mim/configs" / CONFIG))
    text = cfg.model.copy()
    text["pretrained"] = None
    for part in (text.backbone, text.decode_head, text.auxiliary_head):
        part["norm_cfg"] = {"type": "BN", "requires_grad": True}
    torch.manual_seed(0)
    network: torch.nn.Module = MODELS.build(text).eval()
    return network


def acquisition(kind: str, logits: torch.Tensor, ids: np.ndarray, folder: Path) -> Any:
    """All that the library does for this image, as a function to time."""
    budget = int(SHARE * logits[0].numel())
    truth = np.zeros(SHAPE, np.uint8)
    regions = torch.from_numpy(ids)
    count = int(ids.max()) + 1

    def slic() -> None:
        stats = kernels.region_stats(logits, regions, count)
        picks = unit_candidates(0, "image", stats.impurity * stats.entropy, ids, None)
        finish(picks, 1, asked_ids=ids, radius=None)

    def window() -> None:
        score = functional.ripu(logits, 1)
        picks = window_candidates(0, "image", score, 1, 2, None, [], budget, True)
        finish(picks, 9, asked_ids=None, radius=1)

    def finish(picks: Any, slack: int, asked_ids: Any, radius: int | None) -> None:
        stream = CandidateStream(budget, slack)
        stream.add(picks, picks["pixels"])
        chosen = stream.result()
        asked = asked_map(chosen, SHAPE, asked_ids, radius, None)
        info = QueryInfo(0, "region", kind, "full", radius, None)
        write_query(folder / "query", info, chosen, iter([(0, "image", asked)]))
        LabelStore(folder / "labels").write(ImageAnswer("image", truth, asked > 0), 0)

    return slic if kind == "slic" else window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    repeats = 3 if quick else 7
    network = build_network()
    picture, _ = streets.make_scene("train", 0, SHAPE)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        forward = timed(lambda: network(image, mode="tensor"), repeats, 1)
        small = network(image, mode="tensor")
        resize = torch.nn.functional.interpolate
        logits = resize(small, SHAPE, mode="bilinear", align_corners=False)[0].contiguous()
    ids = partitions.slic(picture, 512)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("slic", "window"):
            spent = timed(acquisition(kind, logits, ids, Path(folder)), repeats, 2)
            rows.append(
                {
                    "what": f"score + select + write, {kind}",
                    "acquisition_ms": spent["median_s"] * 1e3,
                    "forward_ms": forward["median_s"] * 1e3,
                    "share_percent": 100 * spent["median_s"] / forward["median_s"],
                }
            )
    print_table(rows)
    write_result(
        "round_quick" if quick else "round",
        rows,
        network=CONFIG,
        shape=list(SHAPE),
        budget_share=SHARE,
    )


if __name__ == "__main__":
    main()
