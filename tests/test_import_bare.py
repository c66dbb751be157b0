"""`import regional_al` with nothing but torch and numpy.

A fresh interpreter refuses every import outside the standard library, torch with what torch itself
requires, and numpy. That is what a bare environment would refuse; building a real one would take a
minute and a gigabyte for the same answer.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ROOT

SRC = ROOT / "src"

BARE = r'''
import importlib.abc, importlib.metadata, re, sys

def required(name, seen):
    """Distributions that `name` requires without extras, itself included."""
    if name in seen:
        return seen
    seen.add(name)
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    for line in lines:
        if "extra ==" not in line:
            required(re.match(r"[\w.-]+", line)[0].lower(), seen)
    return seen

names = {n.replace("-", "_") for n in required("torch", set()) | {"numpy"}}
allowed = set(sys.stdlib_module_names) | names | {"torch", "torchgen", "functorch", "regional_al"}
refused = set()

class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first not in allowed:
            refused.add(first)
            raise ModuleNotFoundError(f"No module named {first!r} (bare)", name=first)
        return None

sys.meta_path.insert(0, Bare())
try:
    import PIL
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the hook does not hold")
'''

USE = r"""
import regional_al
assert "torch" not in sys.modules, "import regional_al should be instant"

import numpy as np, torch
from regional_al import functional, heuristics, kernels, metrics, partitions, selection, UNLABELED

logits = torch.randn(4, 12, 16, generator=torch.Generator().manual_seed(0))
entropy = functional.entropy(logits)
assert entropy.shape == (12, 16)
assert functional.margin(logits).shape == functional.least_confidence(logits).shape == (12, 16)
score = functional.ripu(logits, 1)
assert score.shape == (12, 16)
labels = logits.argmax(0)
assert functional.region_impurity(labels, 4, 1).shape == (12, 16)
ids = partitions.grid((12, 16), 4)
stats = kernels.region_stats(logits, torch.from_numpy(ids), int(ids.max()) + 1)
assert stats.area.sum() == 12 * 16
picks = selection.select_windows(np.asarray(score), 1, 2, 3)
assert picks.shape == (3, 2)
units = selection.select_units(np.array([1.0, 3.0, 2.0]), np.array([1, 1, 1]), 2)
assert units.tolist() == [1, 2]
assert UNLABELED == 255
assert metrics.mean_iou(np.eye(2, dtype=np.int64)) == 1
assert "RIPU" in heuristics.HEURISTICS
classes = ("Acquisition", "ActiveLearningDataset", "ActiveLearningLoop", "LabelStore")
for name in (*classes, "ModelWrapper"):
    assert isinstance(getattr(regional_al, name), type), name
assert regional_al.Acquisition.parse({"heuristic": "RIPU"}).rounds == 5
assert callable(regional_al.run)
loaded = {m.partition(".")[0] for m in sys.modules}
assert not loaded & {"mmcv", "mmengine", "mmseg", "numba", "skimage", "rich", "PIL"}, loaded
print("bare is enough")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_torch_and_numpy_are_enough() -> None:
    done = python(BARE + USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "bare is enough"


def test_nothing_loads_mm_where_it_is_installed() -> None:
    done = python(
        "import regional_al\n"
        "for name in regional_al.__all__: getattr(regional_al, name)\n"
        "print(sorted({m for m in sys.modules if m.startswith('mm') and m != 'mmap'}))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_hook_refuses_what_a_bare_environment_lacks() -> None:
    done = python(BARE + "import rich\n")
    assert done.returncode == 1
    assert "No module named 'rich' (bare)" in done.stderr


def test_unknown_names_are_attribute_errors() -> None:
    done = python("import regional_al\nregional_al.nothing\n")
    assert "has no attribute 'nothing'" in done.stderr


@pytest.mark.parametrize("after", ["", "for name in ra.__all__: getattr(ra, name)", "ra.run"])
def test_dir_shows_what_is_public_and_nothing_else(after: str) -> None:
    done = python(
        f"import regional_al as ra\n{after}\n"
        "print({n for n in dir(ra) if not n.startswith('__')} ^ set(ra.__all__))\n"
        "from regional_al import *\n"
        "print([n for n in ra.__all__ if n not in globals()])\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["{'__version__'}", "[]"]
