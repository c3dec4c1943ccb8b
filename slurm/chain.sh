#!/usr/bin/env bash
# Submit the stages of a chain, each after the one before has finished.
#
#     slurm/chain.sh [configs/chains/street_2048.yaml] [key=value …]      settings go to every stage
#
# Every stage is a job of slurm/train.sbatch; what it starts from is in its configuration.
# Options for sbatch go through the environment (SBATCH_PARTITION=… slurm/chain.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
if [[ -f slurm/cluster.env ]]; then source slurm/cluster.env; fi
# shellcheck source=slurm/environment.sh
source slurm/environment.sh

chain=configs/chains/street_2048.yaml
if [[ ${1:-} == *.yaml ]]; then
    chain=$1
    shift
fi
if [[ -n ${RUNS_DIR:-} ]]; then set -- "run.root=$RUNS_DIR" "$@"; fi
stages=$(on_host python -m tools.chain "$chain" --list "$@")
after=()
while read -r stage; do
    mapfile -t arguments < <(xargs -n 1 <<< "$stage") # quoted as for a shell
    name=${arguments[0]#configs/}
    name=${name%.yaml}
    job=$(sbatch --parsable --job-name="${name//\//_}" "${after[@]}" slurm/train.sbatch "${arguments[@]}")
    echo "${arguments[0]}: job $job${after[0]:+, ${after[0]#--}}"
    after=("--dependency=afterok:$job" --kill-on-invalid-dep=yes)
done <<< "$stages"
