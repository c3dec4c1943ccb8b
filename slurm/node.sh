#!/usr/bin/env bash
# One node's part of a job, started by srun:  node.sh RANKS LOGS SCRIPT [argument …]
set -euo pipefail
inside=()
ranks=$1 logs=$2
shift 2
if [[ -z ${CONTAINER:-} || ${CONTAINER_TOOL:-apptainer} != pyxis ]]; then
    # shellcheck source=slurm/environment.sh
    source "$(dirname "$0")/environment.sh" # Pyxis has put us inside already
fi

cache=${NODE_CACHE:-${TMPDIR:-/tmp}/vid2vid_dist.$(id -un)}
export TORCHINDUCTOR_CACHE_DIR=$cache/inductor TRITON_CACHE_DIR=$cache/triton TORCH_EXTENSIONS_DIR=$cache/extensions
export NUMBA_CACHE_DIR=$cache/numba # a shared one would mix the code of different processors
mkdir -p "$cache"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((${SLURM_CPUS_PER_TASK:-$ranks} / ranks))}
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
# What every rank was in when a collective hangs.
mkdir -p "$logs/node_$SLURM_NODEID"
export TORCH_FR_BUFFER_SIZE=${TORCH_FR_BUFFER_SIZE:-2000} TORCH_NCCL_DUMP_ON_TIMEOUT=${TORCH_NCCL_DUMP_ON_TIMEOUT:-1}
export TORCH_FR_DUMP_TEMP_FILE=$logs/node_$SLURM_NODEID/collectives_
# The name by which other nodes know this one, where that is not its host name.
address=$(scontrol show node "${SLURMD_NODENAME:-}" 2> /dev/null | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p' || true)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # shared, the store dies with one rank and no restart finds it

exec "${inside[@]}" python -m torch.distributed.run --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$ranks" \
    --node-rank="$SLURM_NODEID" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" ${address:+--local-addr="$address"} \
    --shutdown-timeout="${SHUTDOWN_TIMEOUT:-240}" --log-dir="$logs/node_$SLURM_NODEID" --redirects=3 --tee=0:3 "$@"
