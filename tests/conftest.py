"""What all tests share: one thread, repeatable hypothesis, markers that skip what is not there."""

from __future__ import annotations

import os

# Before torch and numba are imported: tests are small, and ranks started by them inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import importlib.util

import hypothesis
import pytest

hypothesis.settings.register_profile("here", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu without CUDA, and mmseg1 without MMSegmentation."""
    marks = {mark.name for item in items for mark in item.iter_markers()}
    missing = {}
    if "mmseg1" in marks and importlib.util.find_spec("mmseg") is None:
        missing["mmseg1"] = "MMSegmentation 1.x is not installed"
    if "gpu" in marks:
        import torch

        if not torch.cuda.is_available():
            missing["gpu"] = "no CUDA device"
    for item in items:
        for mark, reason in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
