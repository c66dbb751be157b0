#!/usr/bin/env bash
# Train with active learning on GPUS processes: bash tools/dist_train.sh CONFIG GPUS [train args]
#
# --max-restarts N starts processes that were killed or failed again, to resume.
# NCCL on CUDA devices, gloo on CPU. Environment, as in MMSegmentation and torchrun:
#   NNODES, NODE_RANK, MASTER_ADDR  several machines      PORT    default: a free port is taken
#   OMP_NUM_THREADS                 default: cores / GPUS  PYTHON  default: .venv beside tools/
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=$root/.venv/bin/python
  [[ -x $PYTHON ]] || PYTHON=python
fi
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" -m regional_al launch "$@"
