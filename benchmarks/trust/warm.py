"""Imported by the server from which runs are forked: what a run imports when it first needs it, and
the compiled loops of the kernels, which take seconds to load."""

import importlib

import jobs  # noqa: F401  (the body of a process)
import torch

for name in ("torch._dynamo", "numba", "cv2", "skimage.segmentation", "regional_al.loop.runner",
             "regional_al.kernels._jit", "regional_al.cli.train"):  # fmt: skip
    importlib.import_module(name)


def load_kernels() -> None:
    """Call what a run calls, on one thread: a thread would not be there after a fork."""
    import numpy as np

    from regional_al import functional, kernels, partitions

    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    regions = torch.from_numpy(partitions.slic(image, 4))
    logits = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    functional.ripu(logits, 1)
    functional.region_impurity(logits.argmax(0), 3, 1)
    kernels.region_stats(logits, regions, int(regions.max()) + 1)


load_kernels()
