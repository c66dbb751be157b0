"""What all tests share: one thread, repeatable hypothesis, markers that skip what is not there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Iterator

# Before torch and numba are imported: tests are small, and ranks started by them inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


import pytest
from generation import mmseg_generation

try:
    import hypothesis
except ModuleNotFoundError:  # a GPU machine with torch, numpy, numba and pytest: tests/gpu
    pass
else:
    hypothesis.settings.register_profile("here", deadline=None, derandomize=True, print_blob=True)
    hypothesis.settings.load_profile("here")


# The files of an engine's tests import its packages.
collect_ignore_glob = [
    f"engines/test_{mark}_*.py" for mark in ("mmseg1", "mmseg0") if mark != mmseg_generation()
]

IN_BOTH = {"engines", "cli", "runtime"}
"""Folders whose slow tests depend on the release of torch or MMSegmentation."""

IN_ONE = {"compare", "exchange", "report", "review", "scaffold", "tools", "web"}
"""Folders whose tests run in the default environment alone: they use neither torch nor
MMSegmentation but through what other folders test in both."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu without CUDA, those of an MMSegmentation that is not installed, and in
    the second environment those that prove nothing new there."""
    marks = {mark.name for item in items for mark in item.iter_markers()}
    here = mmseg_generation()
    missing = {
        mark: f"MMSegmentation {release} is not installed"
        for mark, release in (("mmseg1", "1.x"), ("mmseg0", "0.x"))
        if mark != here
    }
    if "gpu" in marks:
        import torch

        if not torch.cuda.is_available():
            missing["gpu"] = "no CUDA device"
    for item in items:
        if here == "mmseg0" and not _in_both(item):
            reason = "neither torch nor MMSegmentation matters: runs in the default environment"
            item.add_marker(pytest.mark.skip(reason=reason))
        for mark, reason in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test that meets a package of an extra which is not installed, as where
    tools/matrix.py tries the core alone."""
    try:
        return (yield)
    except Exception as error:
        absent = importlib.util.find_spec("skimage") is None
        expected = type(error).__name__ == "EnvironmentProblem" and "scikit-image" in str(error)
        if absent and expected:
            pytest.skip("scikit-image is not installed")
        raise


def _in_both(item: pytest.Item) -> bool:
    """Whether a test runs in the environment of MMSegmentation 0.x, too."""
    folder, slow = item.path.parent.name, bool(item.get_closest_marker("slow"))
    if item.get_closest_marker("mmseg0"):
        return True
    return folder in IN_BOTH if slow else folder not in IN_ONE


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    """What a test registers, or a user's module that it imports, is forgotten after it; what the
    package registers when a module of its own is imported late stays."""
    from regional_al.annotators import ANNOTATORS
    from regional_al.engines import ENGINES
    from regional_al.exchange import EXCHANGE_FORMATS
    from regional_al.heuristics import HEURISTICS
    from regional_al.partitions import PARTITIONS
    from regional_al.store import readers

    registries = (ANNOTATORS, ENGINES, EXCHANGE_FORMATS, HEURISTICS, PARTITIONS)
    tables = [*(registry._items for registry in registries), readers._READERS]
    before = [set(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        for name in set(table) - names:
            made = table[name]
            module = getattr(getattr(made, "read", made), "__module__", None) or ""
            if not module.startswith("regional_al."):
                del table[name]
