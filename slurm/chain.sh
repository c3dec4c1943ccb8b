#!/usr/bin/env bash
# Submit the stages of a chain, each after the one before has finished.
#
#     slurm/chain.sh [configs/chains/street_2048.yaml] [key=value …]      settings go to every stage
#
# A stage configs/…/NAME.yaml is submitted as slurm/train_NAME.sbatch; what it starts from is in its configuration.
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
stages=$(on_host python -c 'import sys, yaml; print(*yaml.safe_load(open(sys.argv[1]))["stages"], sep="\n")' "$chain")
after=()
for stage in $stages; do
    job=$(sbatch --parsable "${after[@]}" "slurm/train_$(basename "$stage" .yaml).sbatch" "$@")
    echo "$stage: job $job${after[0]:+, ${after[0]#--}}"
    after=("--dependency=afterok:$job" --kill-on-invalid-dep=yes)
done
