#!/bin/bash
#SBATCH --job-name=tfdist
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=1:00:00
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --requeue

# The tasks prove to each other that they are of this job.
export TFDIST_SECRET=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')

# The shell outlives a preemption's SIGTERM, to see how the tasks end.
trap : TERM
srun --kill-on-bad-exit=0 python -m tfdist run train.py --epochs 5
code=$?
# a task was lost, or a signal has asked for the end: start the job again, it resumes from its checkpoint
if [ "$code" = 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
