# shellcheck shell=bash
# The job of train.sbatch, on its first node, in the folder that it was submitted from:
#     here=FOLDER; source $here/body.sh CONFIG [key=value …]        FOLDER is slurm/ of the checkout
#
# Starts one torchrun per node and reads runs/NAME/status.json when they have ended: a preempted run is requeued, a
# failed one starts again in the same allocation, both only while checkpoints advance; a finished one ends the job.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
# shellcheck source=/dev/null
# shellcheck disable=SC2154 # whoever sources this has set $here
if [[ -f $here/cluster.env ]]; then source "$here/cluster.env"; fi
# shellcheck source=slurm/environment.sh
source "$here/environment.sh"
config=${1:?which configuration? sbatch train.sbatch CONFIG [key=value …]}
shift

say() { echo "$(date +%T) [job $SLURM_JOB_ID] $*"; }
# Quoted are words that YAML would not read as such: a run.name that is a date or a number.
setting() { sed -n "s/^$1 = \(.*[^ ]\) *# .*$/\1/p" <<< "$settings" | sed "s/^'\(.*\)'$/\1/"; }

# The grid: recipes are made for 8 GPUs. Fewer share the same clips; more have as many clips more.
per_node=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
ranks=$((SLURM_JOB_NUM_NODES * per_node))
settings=$(on_host python -m vid2vid_dist.config show "$config" "$@")
derived=()
if ((ranks > 8)); then
    derived+=("parallel.clips_per_step=$(($(setting parallel.clips_per_step) * ranks / 8))")
fi
if [[ -n ${RUNS_DIR:-} ]]; then
    derived+=("run.root=$RUNS_DIR")
    pretrained=$(setting run.load_pretrain)
    if [[ $pretrained == runs/* ]]; then derived+=("run.load_pretrain=$RUNS_DIR/${pretrained#runs/}"); fi
fi
set -- "${derived[@]}" "$@" # yours win
settings=$(on_host python -m vid2vid_dist.config show "$config" "$@")
run_dir=$(setting run.root)/$(setting run.name)
mkdir -p "$run_dir/logs"

# The code as it is now, for all restarts of this job.
code=$run_dir/code/$SLURM_JOB_ID
if [[ ! -d $code ]]; then
    mkdir -p "$code.new"
    cp -r "$root"/{vid2vid_dist,launch,configs,slurm} "$code.new"
    on_host python -m vid2vid_dist.version > "$code.new/vid2vid_dist/commit.json"
    mv "$code.new" "$code"
fi
if [[ -f $code/$config ]]; then config=$code/$config; fi

field() { sed -n "s/^ \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$run_dir/status.json" 2> /dev/null || true; }
newest() { cat "$run_dir/checkpoints/latest" 2> /dev/null || true; }

if ((${SLURM_RESTART_COUNT:-0} > 0)) && [[ $(field status) == finished ]]; then
    say "$run_dir is finished: nothing to do"
    exit 0
fi

rm -f "$run_dir/preempt" # it was for an earlier job, killed before its ranks had looked
# A signal comes before the time is up, or from whoever wants the nodes. The ranks look for the file.
trap 'say "signal: asking $run_dir to save and end"; touch "$run_dir/preempt"' USR1 TERM

# Ranks save in time by themselves, if they know when it is up; older Slurms do not tell them.
end=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')
if end=$(date --date="$end" +%s 2> /dev/null); then export SLURM_JOB_END_TIME=${SLURM_JOB_END_TIME:-$end}; fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$head" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
export MASTER_ADDR
idle=0 # starts in a row that have brought no checkpoint
if ((${SLURM_RESTART_COUNT:-0} > 0)) && [[ -f $run_dir/idle ]]; then idle=$(< "$run_dir/idle"); fi
for ((start = 0; ; start++)); do
    before=$(newest) restarts=$(field restarts)
    logs=$run_dir/logs/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.$start
    mkdir -p "$logs"
    export MASTER_PORT=$((12000 + (SLURM_JOB_ID * 16 + start) % 18000)) # below the ports that the kernel gives away
    say "$run_dir on $SLURM_JOB_NUM_NODES x $per_node ranks, head $MASTER_ADDR:$MASTER_PORT, logs in $logs"
    say "derived: ${derived[*]:-nothing}"
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        --kill-on-bad-exit=1 "${in_container[@]}" \
        bash "$code/slurm/node.sh" "$per_node" "$logs" "$code/launch/train.py" "$config" "$@" &
    while true; do # a trapped signal ends a wait
        status=0
        wait $! || status=$?
        if ! kill -0 $! 2> /dev/null; then break; fi
    done

    # A start that failed before it took up the run has said nothing: the file is the last one's.
    outcome='' cause=''
    if [[ $(field restarts) != "$restarts" ]]; then outcome=$(field status) cause=$(field cause); fi
    if [[ $(newest) != "$before" ]]; then idle=0; else idle=$((idle + 1)); fi
    echo "$idle" > "$run_dir/idle"
    say "outcome: $outcome (step $(field step)), srun $status, newest checkpoint: $(newest)"
    dumps=$(compgen -G "$logs/node_*/collectives_*" || true)
    if [[ -n $dumps ]]; then
        say "a collective hung; what each rank was in: torchfrtrace --prefix collectives_ ${dumps%%/collectives_*}"
    fi
    case $outcome in
        finished) exit 0 ;;
        stopped) exit 3 ;; # not done: a job that depends on this one must not start
        preempted)
            if ((idle > 1)); then break; fi
            trap '' USR1 TERM # requeueing ends this script by a signal, which is not for the next start
            if [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]; then # not cancelled
                scontrol requeue "$SLURM_JOB_ID"
            fi
            exit 0
            ;;
    esac
    # Nothing new and it says why: the next start would say the same. Lost without a word: one more try.
    if ((idle > 1)) || { ((idle)) && [[ $cause == error ]]; }; then break; fi
    say "starting again"
done
say "no progress, giving up: see $run_dir/status.json and $logs"
exit 1
