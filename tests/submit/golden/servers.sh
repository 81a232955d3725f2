#!/bin/bash
#SBATCH --job-name=movies
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=2
#SBATCH --output=logs/%j
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --no-requeue
#SBATCH --partition=long
#SBATCH --exclusive

# The tasks prove to each other that they are of this job.
export TFDIST_SECRET=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export TFDIST_PS=2
export TFDIST_EVALUATOR=1

# The time is nearly up: all save. A preemption's SIGTERM reaches tasks without us.
is_late= again=
trap 'is_late=1; kill -USR1 "$steps"' USR1
trap : TERM
if [ -n "$SLURM_CPUS_PER_TASK" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun no longer takes it over
fi
srun --kill-on-bad-exit=0 sh -c 'trap : USR1 USR2 TERM; "$@"; code=$?; case $code in 0|75) ;; *) code=$((code | 128)) ;; esac; exit $code' task \
    python -m tfdist run --grace 290 --threads 4 -m package.module 'a word' &
steps=$!
while wait "$steps"; code=$?; kill -0 "$steps" 2>/dev/null; do :; done
wait "$steps"; code=$? # the one before may be that of a signal
case "$code" in
0 | 75 | 130 | 134 | 137 | 139 | 143) ;; # well, lost or told to end, killed
*) code=$((code & 127)) ;;
esac
exit "$code"
