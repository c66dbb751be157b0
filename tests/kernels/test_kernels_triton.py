"""The Triton kernels: on the CPU in its interpreter, compiled for a GPU that need not be there, and
on CUDA where there is one. Bit for bit the numbers of the torch backend."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from regional_al import kernels
from regional_al.kernels import backends

CHECK = """
import sys
import torch
from regional_al import kernels as K
from regional_al.kernels import maps
from regional_al.errors import ScoreError

device = sys.argv[1]
assert "triton" in K.available_backends()
torch.manual_seed(0)
same = lambda a, b: torch.equal(a.cpu().nan_to_num(-1), b.cpu().nan_to_num(-1))
types = (torch.float32, torch.float16, torch.bfloat16)
cases = [(5, 21, 27), (1, 4, 5), (40, 3, 200), (65, 5, 7)]
if device != "cpu":
    cases += [(19, 512, 777), (255, 64, 65), (300, 9, 9)]
for number, (C, H, W) in enumerate(cases):
    for dtype in types if device != "cpu" else (types[number % 3],):
        z = (torch.randn(W, C, H) * 5).to(dtype).permute(1, 2, 0)  # strided
        d = z.to(device)
        for kind in ("entropy", "margin", "least_confidence", "bvsb"):
            ours = maps.pixel_scores(d, kind, backend="triton")
            assert same(ours, maps.pixel_scores(z, kind, backend="torch")), kind
        for radius in (1, 3):
            for pixel in (False, True):
                ours = maps.ripu(d, radius, pixel=pixel, backend="triton")
                theirs = maps.ripu(z, radius, pixel=pixel, backend="torch")
                assert same(ours, theirs), (radius, pixel)
        blocks = (torch.arange(H * W).reshape(H, W) * 5 // (H * W)).int()
        for ids in (blocks, torch.randint(0, 5, (H, W)), blocks.to(torch.uint8)):
            a = K.region_stats(d, ids.to(device), 6, backend="triton")
            b = K.region_stats(z, ids, 6, backend="torch")
            assert same(a.entropy, b.entropy) and same(a.class_counts, b.class_counts)
            assert same(a.impurity, b.impurity) and same(a.dominant, b.dominant)
bad = torch.zeros(3, 4, 5, device=device)
ids = torch.full((4, 5), 7, device=device)
try:
    K.region_stats(bad, ids, 7, backend="triton")
    raise SystemExit("an id out of range was let through")
except ValueError as error:
    assert "region ids must be in 0..6, found 7..7" in str(error)
for value in (float("nan"), float("inf"), -float("inf")):
    bad[2, 3, 4] = value
    for call in (lambda: K.pixel_stats(bad, backend="triton", name="x"),
                 lambda: K.region_stats(bad, ids, 8, backend="triton", name="x")):
        try:
            call()
            raise SystemExit("not finite, but let through")
        except ScoreError as error:
            assert str(error).startswith("x: logits contain NaN")
print("same")
"""


def needs_triton() -> Any:
    triton = pytest.importorskip("triton")
    if not backends._triton_fits():
        pytest.skip(f"Triton {triton.__version__} is not used: older than 3")
    return triton


def run_check(device: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, device],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
    assert done.stdout.strip() == "same"


@pytest.mark.slow
def test_interpreter_equals_torch() -> None:
    needs_triton()
    run_check("cpu", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_equals_torch() -> None:
    needs_triton()
    run_check("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_is_repeatable_and_chosen_by_default() -> None:
    logits = torch.randn(19, 256, 512, device="cuda")
    regions = torch.randint(0, 100, (256, 512), device="cuda")
    first = kernels.region_stats(logits, regions, 100)
    for _ in range(5):
        assert torch.equal(first.entropy, kernels.region_stats(logits, regions, 100).entropy)


I32 = (
    "classes",
    "width",
    "height",
    "blocks",
    "pixels",
    "number",
    "stride_c",
    "stride_y",
    "stride_x",
)
TYPES = {
    "score": "*fp32",
    "entropy": "*fp32",
    "out": "*fp32",
    "label": "*u8",
    "status": "*i32",
    "regions": "*i32",
    "sums": "*i64",
    "counts": "*i64",
    "table": "*i64",
    "constants": "*fp64",
    "scale": "fp32",
    **dict.fromkeys(I32, "i32"),
}
COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from regional_al.kernels import _triton
import json
types = json.loads(sys.argv[1])
jobs = [("pixel_kernel", dict(KIND=k, FLAT=k == 0, HELD=5 * (k < 2), BLOCK=512), t) for k, t in
        ((0, "fp32"), (1, "fp16"), (2, "bf16"))]
jobs += [("region_kernel", dict(FLAT=True, HELD=0, BLOCK=512, GROUP=8), "fp32"),
         ("ripu3_kernel", dict(PIXEL=False, BITS=32, BLOCK=512), "fp32"),
         ("ripu3_kernel", dict(PIXEL=True, BITS=0, BLOCK=512), "fp32")]
for name, constants, dtype in jobs:
    kernel = getattr(_triton, name)
    signature = {n: "constexpr" if n in constants else {**types, "logits": "*" + dtype}[n]
                 for n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False}
    ptx = compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
    # a fused multiply-add, an approximate division or a flush to zero would change bits
    for word in ("fma.rn.f", "div.full", "div.approx", "ftz"):
        assert word not in ptx, (name, word)
print("compiled")
"""


@pytest.mark.slow
def test_compiles_for_cuda_without_changing_arithmetic() -> None:
    import json

    triton = needs_triton()
    if not hasattr(triton, "compile"):
        pytest.skip("this Triton cannot compile ahead of time")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps(TYPES)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.strip() == "compiled", done.stderr[-2000:]
