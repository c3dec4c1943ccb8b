# shellcheck shell=bash
# Modules, Python or container, as cluster.env says: sourced by body.sh and node.sh. It sets $root, the checkout.
#
# `on_host COMMAND …` runs a command where Python is, outside of srun. `in_container`: options of srun for Pyxis.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for module in ${MODULES:-}; do module load "$module"; done
in_container=()
inside=()
if [[ -z ${CONTAINER:-} ]]; then
    # shellcheck source=/dev/null
    source "$(cd "$root" && cd "${VENV:-.venv}" && pwd)/bin/activate"
elif [[ ${CONTAINER_TOOL:-apptainer} == pyxis ]]; then
    in_container=(--container-image="$CONTAINER" --container-mounts="$PWD,$root,${CONTAINER_MOUNTS:-/tmp}"
        --container-workdir="$PWD")
else
    inside=(apptainer exec --nv --bind "$PWD,$root,${CONTAINER_MOUNTS:-/tmp}" "$CONTAINER")
fi

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

on_host() {
    if ((${#in_container[@]})); then
        srun --nodes=1 --ntasks=1 "${in_container[@]}" "$@"
    else
        "${inside[@]}" "$@"
    fi
}
export -f on_host
