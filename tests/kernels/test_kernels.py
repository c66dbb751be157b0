"""Region and window statistics: brute force, all CPU backends bit for bit, bad input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regional_al import functional, kernels
from regional_al.errors import ConfigError, EnvironmentProblem, ScoreError
from regional_al.kernels import _fixed, backends, maps

BACKENDS = [
    name for name in ("numba", "torch", "torch_scatter") if name in kernels.available_backends()
]
ID_TYPES = [torch.uint8, torch.int32, torch.int64]
ID_TYPES += [torch.uint16, torch.uint32] if hasattr(torch, "uint16") else []  # from torch 2.3 on


@pytest.fixture(autouse=True)
def _default_backend() -> Iterator[None]:
    yield
    kernels.set_backend(None)


def draw(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def draw_ids(seed: int, number: int, *shape: int) -> Tensor:
    return torch.randint(0, number, shape, generator=torch.Generator().manual_seed(seed))


def share_entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def brute_windows(
    values: Tensor, labels: Tensor, classes: int, radius: int
) -> tuple[Tensor, Tensor]:
    mean, impurity = torch.zeros(values.shape).double(), torch.zeros(values.shape).double()
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            box = (
                slice(max(0, y - radius), y + radius + 1),
                slice(max(0, x - radius), x + radius + 1),
            )
            mean[y, x] = values[box].double().mean()
            counts = torch.bincount(labels[box].flatten(), minlength=classes)
            impurity[y, x] = share_entropy(counts.numpy())
    return mean, impurity


WINDOW_CASES = {
    "classes": st.sampled_from([1, 2, 5, 19, 255, 300]),
    "height": st.integers(1, 9),
    "width": st.integers(1, 11),
    "radius": st.sampled_from([0, 1, 2, 3, 7, 50]),
    "seed": st.integers(0, 10_000),
    "blocky": st.booleans(),
}


@settings(max_examples=40, deadline=None)
@given(**WINDOW_CASES)
def test_windows_against_brute_force(
    classes: int, height: int, width: int, radius: int, seed: int, blocky: bool
) -> None:
    values = draw(seed, height, width)
    labels = draw_ids(seed, classes, height, width)
    if blocky:  # columns of one class take their own path
        labels = labels[:1, : 1 + width // 4].repeat(height, 4)[:, :width]
    mean, impurity = brute_windows(values, labels, classes, radius)
    for backend in BACKENDS:
        got = kernels.window_mean(values, radius, backend=backend)
        np.testing.assert_allclose(got.numpy(), mean.numpy(), rtol=1e-5, atol=1e-6)
        got = maps.region_impurity(labels, classes, radius, backend=backend)
        np.testing.assert_allclose(got.numpy(), impurity.numpy(), rtol=1e-6, atol=1e-9)
        assert torch.equal(got == 0, impurity == 0), "one class must be exactly 0"


@settings(max_examples=25, deadline=None)
@given(dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), **WINDOW_CASES)
def test_backends_agree_bit_for_bit(
    classes: int, height: int, width: int, radius: int, seed: int, blocky: bool, dtype: torch.dtype
) -> None:
    logits = draw(seed, classes, height, width).to(dtype)
    if blocky:
        logits = logits[:, :, :1].repeat(1, 1, width)
    regions = draw_ids(seed, 5, height, width)
    for kind in _fixed.KINDS:
        one, *others = (maps.pixel_scores(logits, kind, backend=b) for b in BACKENDS)
        assert all(torch.equal(one, other) for other in others)
    for pixel in (False, True):
        one, *others = (maps.ripu(logits, radius, pixel=pixel, backend=b) for b in BACKENDS)
        assert all(torch.equal(one, other) for other in others)
        assert bool(((one >= 0) & (one <= 1.000001)).all())
    first, *rest = (kernels.region_stats(logits, regions, 6, backend=b) for b in BACKENDS)
    for other in rest:
        assert torch.equal(first.class_counts, other.class_counts)
        assert torch.equal(first.entropy.nan_to_num(-1), other.entropy.nan_to_num(-1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_region_stats_by_hand(backend: str) -> None:
    # two classes; entropies 0 (certain) or ln 2 (even; the lower class wins)
    certain0, certain1, even = (90.0, -90.0), (-90.0, 90.0), (1.0, 1.0)
    cells = [[certain0, certain1, even], [even, certain1, certain1]]
    logits = torch.tensor(cells).permute(2, 0, 1)
    regions = torch.tensor([[0, 0, 2], [2, 3, 3]])
    stats = kernels.region_stats(logits, regions, 5, backend=backend)
    assert stats.area.tolist() == [2, 0, 2, 2, 0]
    assert stats.class_counts.tolist() == [[1, 1], [0, 0], [2, 0], [0, 2], [0, 0]]
    assert stats.entropy[[0, 2, 3]].tolist() == pytest.approx([0.0, np.log(2), 0.0])
    assert stats.impurity[[0, 2, 3]].tolist() == pytest.approx([np.log(2), 0.0, 0.0])
    assert stats.entropy[[1, 4]].isnan().all()
    assert stats.impurity[[1, 4]].isnan().all()
    assert stats.dominant.tolist() == [0, -1, 0, 1, -1]  # a tie is the lowest class


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("id_type", ID_TYPES)
def test_region_stats_against_brute_force(backend: str, id_type: torch.dtype) -> None:
    logits = draw(1, 6, 37, 41)
    regions = draw_ids(2, 40, 37, 41) * 2  # odd ids are gaps
    regions[0, 0] = 81  # a region of one pixel
    stats = kernels.region_stats(logits, regions.to(id_type), 90, backend=backend)
    p = logits.double().softmax(0)
    entropy = -torch.xlogy(p, p).sum(0)
    for r in range(90):
        inside = regions == r
        assert stats.area[r] == inside.sum()
        if not inside.any():
            assert stats.entropy[r].isnan()
            continue
        assert stats.entropy[r].item() == pytest.approx(entropy[inside].mean().item(), rel=1e-5)
        counts = torch.bincount(logits.argmax(0)[inside], minlength=6)
        assert torch.equal(stats.class_counts[r], counts)
        assert stats.impurity[r].item() == pytest.approx(share_entropy(counts.numpy()), abs=1e-6)
    mean = kernels.region_mean(entropy, regions.to(id_type), 90, backend=backend)
    assert torch.allclose(mean, stats.entropy, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_counts_tie_exactly(backend: str) -> None:
    """The same multiset of counts gives the same bits: ties are broken by place, not by noise."""
    labels = torch.tensor([[0] * 3 + [1] * 4 + [2] * 6, [5] * 6 + [3] * 3 + [1] * 4])
    stats = kernels.RegionStats(
        torch.tensor([13, 13]),
        torch.zeros(2),
        torch.stack([torch.bincount(row, minlength=6) for row in labels]),
    )
    assert stats.impurity[0] == stats.impurity[1]
    period = torch.arange(60).reshape(1, -1).repeat(31, 1) % 7
    inner = maps.region_impurity(period, 7, 3, backend=backend)[3:-3, 3:-3]
    assert len(torch.unique(inner)) == 1
    logits = torch.nn.functional.one_hot(period, 7).permute(2, 0, 1).float() * 1.7
    assert len(torch.unique(maps.ripu(logits, 3, backend=backend)[3:-3, 3:-3])) == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_thread_count_changes_nothing(threads: int) -> None:
    logits, regions = draw(5, 7, 200, 333), draw_ids(6, 50, 200, 333)
    before = torch.get_num_threads()
    reference = kernels.region_stats(logits, regions, 50, backend="torch")
    score = maps.ripu(logits, 4, backend="torch")
    try:
        torch.set_num_threads(threads)
        stats = kernels.region_stats(logits, regions, 50)
        assert torch.equal(maps.ripu(logits, 4), score)
        assert torch.equal(stats.entropy, reference.entropy)
        assert torch.equal(stats.class_counts, reference.class_counts)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_out_of_range(backend: str) -> None:
    logits, regions = draw(0, 3, 4, 5), draw_ids(0, 4, 4, 5)
    regions[2, 3] = 9
    for wrong in (regions, regions - 10):
        with pytest.raises(ValueError, match=r"region ids must be in 0\.\.3, found -?\d+\.\.-?\d+"):
            kernels.region_stats(logits, wrong, 4, backend=backend)
        with pytest.raises(ValueError, match="region ids"):
            kernels.region_mean(logits[0], wrong, 4, backend=backend)
        with pytest.raises(ValueError, match="labels"):
            maps.region_impurity(wrong, 4, 1, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_not_finite_names_the_image(backend: str) -> None:
    logits, regions = draw(0, 3, 300, 500), draw_ids(0, 4, 300, 500)
    logits[2, 299, 499] = float("nan")
    for call in (
        lambda: kernels.region_stats(logits, regions, 4, backend=backend, name="a/b.png"),
        lambda: maps.ripu(logits, 1, backend=backend, name="a/b.png"),
        lambda: kernels.pixel_stats(logits, backend=backend, name="a/b.png"),
    ):
        with pytest.raises(ScoreError, match=r"^a/b\.png: logits contain NaN or infinite values"):
            call()
    with pytest.raises(ScoreError, match="scores contain NaN"):
        kernels.region_mean(logits[2], regions, 4, backend=backend)
    with pytest.raises(ScoreError, match="scores contain NaN"):
        kernels.window_mean(logits[2], 2, backend=backend)


def test_shapes_and_types_are_checked() -> None:
    logits = draw(0, 3, 4, 5)
    with pytest.raises(ValueError, match=r"regions must be \[4, 5\], got int64 \[5, 4\]"):
        kernels.region_stats(logits, torch.zeros(5, 4, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="regions must be integers"):
        kernels.region_stats(logits, torch.zeros(4, 5), 1)
    with pytest.raises(ValueError, match="radius=-1"):
        kernels.window_mean(logits[0], -1)
    with pytest.raises(ValueError, match="num_regions=-1"):
        kernels.region_stats(logits, torch.zeros(4, 5, dtype=torch.int64), -1)


def test_empty_images_and_no_regions() -> None:
    assert maps.ripu(torch.zeros(3, 0, 5), 1).shape == (0, 5)
    assert kernels.window_mean(torch.zeros(0, 5), 1).shape == (0, 5)
    stats = kernels.region_stats(torch.zeros(3, 0, 5), torch.zeros(0, 5, dtype=torch.int32), 0)
    assert stats.area.shape == stats.entropy.shape == stats.impurity.shape == (0,)


def test_backend_choice() -> None:
    assert "torch" in kernels.available_backends()
    with pytest.raises(ConfigError, match="unknown backend 'numbaa'"):
        kernels.set_backend("numbaa")
    kernels.set_backend("torch")
    assert backends.backend_for(torch.device("cpu")).NAME == "torch"
    assert backends.backend_for(torch.device("meta"), None).NAME == "torch"
    if "numba" in BACKENDS:
        kernels.set_backend(None)
        assert backends.backend_for(torch.device("cpu")).NAME == "numba"
        with pytest.raises(ConfigError, match="needs CPU tensors"):
            backends.backend_for(torch.device("meta"), "numba")


def test_without_numba_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_loaded", {"numba": ImportError("No module named 'numba'")})
    assert backends.backend_for(torch.device("cpu")).NAME == "torch"
    assert torch.isfinite(functional.ripu(draw(0, 3, 5, 6), 1)).all()
    with pytest.raises(EnvironmentProblem, match="backend 'numba' cannot be loaded"):
        kernels.set_backend("numba")


def test_an_old_triton_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    monkeypatch.setattr(backends, "version", lambda name: "2.1.0")
    assert "triton" not in kernels.available_backends()
    with pytest.raises(EnvironmentProblem, match=r"'triton' cannot be loaded .*requires Triton 3"):
        kernels.set_backend("triton")
    assert backends.backend_for(torch.device("cuda")).NAME == "torch"


def test_torch_scatter_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package where it is installed, else with a stand-in of the one function used."""
    if "torch_scatter" not in kernels.available_backends():

        def scatter_add(
            src: Tensor, index: Tensor, dim: int = -1, out: Tensor | None = None
        ) -> Tensor:
            assert out is not None
            return out.scatter_add_(dim, index, src)

        stand_in = ModuleType("torch_scatter")
        stand_in.scatter_add = scatter_add  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch_scatter", stand_in)
        monkeypatch.setattr(backends, "_loaded", {})
    logits, regions = draw(5, 7, 40, 33), draw_ids(6, 50, 40, 33)
    ours = kernels.region_stats(logits, regions, 51, backend="torch")
    theirs = kernels.region_stats(logits, regions, 51, backend="torch_scatter")
    assert torch.equal(ours.class_counts, theirs.class_counts)
    assert torch.equal(ours.entropy.nan_to_num(-1), theirs.entropy.nan_to_num(-1))
    mean = kernels.region_mean(logits[0], regions, 50, backend="torch_scatter")
    assert torch.equal(mean, kernels.region_mean(logits[0], regions, 50, backend="torch"))
    with pytest.raises(ScoreError):
        kernels.region_stats(logits * float("inf"), regions, 51, backend="torch_scatter")


def test_import_loads_neither_numba_nor_triton() -> None:
    code = (
        "import sys, regional_al.kernels, regional_al.functional; "
        "print(sorted({'numba', 'triton', 'torch_scatter'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_class_sized_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that the torch path makes is a map, not C maps."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # the watch sees its own thread only
    logits = draw(0, 16, 32, 1024)
    own = logits.untyped_storage().data_ptr()
    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.ops.aten.bitwise_and_.Tensor:  # torch 2.1 hands on the bare number
                args = args[0], torch.as_tensor(args[1])
            out = func(*args, **(kwargs or {}))
            for item in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(item, Tensor) and item.untyped_storage().data_ptr() != own:
                    sizes.append(item.untyped_storage().nbytes())
            return out

    with Watch():
        maps.ripu(logits, 1, backend="torch")
        kernels.region_stats(logits, draw_ids(0, 9, 32, 1024), 9, backend="torch")
    pixels = 32 * 1024
    assert 4 * pixels <= max(sizes) <= 9 * pixels  # int64 and its prefix sums at the most
