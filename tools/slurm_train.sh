#!/usr/bin/env bash
# Train with active learning under Slurm, one task for each GPU:
#   GPUS=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train args]
#
# Environment, as in MMSegmentation:
#   GPUS           tasks in all                         default: 4
#   GPUS_PER_NODE  of them on each machine              default: 4, or GPUS if that is less
#   CPUS_PER_TASK  cores of each                        default: 5
#   SRUN_ARGS      more arguments of srun               e.g. "--time=1-0 --exclude=node7"
#   GRES           what each machine lends              default: gpu:GPUS_PER_NODE; empty: nothing
#   PYTHON         default: .venv beside tools/, else python
set -euo pipefail

if (($# < 3)); then
  echo "error: give PARTITION, JOB_NAME and CONFIG" >&2
  exit 2
fi
partition=$1 job=$2 config=$3
shift 3
GPUS=${GPUS:-4}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 4 ? GPUS : 4))}
GRES=${GRES-gpu:$GPUS_PER_NODE}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=$root/.venv/bin/python
  [[ -x $PYTHON ]] || PYTHON=python
fi
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
# SRUN_ARGS is a list of words.
# shellcheck disable=SC2086
exec srun --partition="$partition" --job-name="$job" ${GRES:+--gres="$GRES"} \
  --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "$PYTHON" -u -m regional_al train "$config" --launcher slurm "$@"
