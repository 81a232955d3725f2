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
srun --kill-on-bad-exit=0 python -m tfdist run --threads 4 -m package.module 'a word'
code=$?
exit "$code"
