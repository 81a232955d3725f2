#!/bin/bash
#SBATCH --job-name=movies
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=2
#SBATCH --output=logs/%j
#SBATCH --open-mode=append
#SBATCH --signal=USR1@300
#SBATCH --no-requeue
#SBATCH --partition=long
#SBATCH --exclusive

# The tasks prove to each other that they are of this job.
export TFDIST_SECRET=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export TFDIST_PS=2
export TFDIST_EVALUATOR=1

# The shell outlives a preemption's SIGTERM, to see how the tasks end.
trap : TERM
if [ -n "$SLURM_CPUS_PER_TASK" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun no longer takes it over
fi
srun --kill-on-bad-exit=0 sh -c 'trap : USR1 USR2 TERM; "$@"; code=$?; case $code in 0|75) ;; *) code=$((code | 128)) ;; esac; exit $code' task \
    python -m tfdist run --threads 4 -m package.module 'a word'
code=$?
case "$code" in
0 | 75 | 130 | 134 | 137 | 139 | 143) ;; # well, lost or told to end, killed
*) code=$((code & 127)) ;;
esac
exit "$code"
