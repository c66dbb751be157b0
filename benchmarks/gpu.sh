#!/usr/bin/env bash
# GPU tests, then the GPU benchmark: bash benchmarks/gpu.sh [--quick], from anywhere.
#
# Needs a CUDA device and an interpreter with torch (2.4 or newer, for Triton 3), numpy, numba and
# pytest; no network. With pillow and rich rounds are measured too; what else is installed is tested
# too. Writes benchmarks/results/gpu_<device>.json.   PYTHON  default: .venv, else python3
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=.venv/bin/python
  [[ -x $PYTHON ]] || PYTHON=python3
fi
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
"$PYTHON" -m pytest -q -W ignore -p no:cacheprovider -m gpu tests/kernels/test_kernels_triton.py tests/gpu
"$PYTHON" benchmarks/gpu.py "$@"
