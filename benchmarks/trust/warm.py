"""Imported by the server from which runs are forked: what a run imports when it first needs it."""

import importlib

import jobs  # noqa: F401  (the body of a process)

for name in ("torch._dynamo", "numba", "cv2", "skimage.segmentation", "regional_al.loop.runner",
             "regional_al.kernels._jit", "regional_al.cli.train"):  # fmt: skip
    importlib.import_module(name)
