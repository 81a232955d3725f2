#!/bin/bash
#SBATCH --job-name=tfdist
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=1:00:00
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --requeue

# The tasks prove to each other that they are of this job.
export TFDIST_SECRET=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')

# The time is nearly up: all save. A preemption's SIGTERM reaches tasks without us.
is_late= again=
trap 'is_late=1; kill -USR1 "$steps"' USR1
trap : TERM
if [ -n "$SLURM_CPUS_PER_TASK" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun no longer takes it over
fi
srun --kill-on-bad-exit=0 sh -c 'trap : USR1 USR2 TERM; "$@"; code=$?; case $code in 0|75) ;; *) code=$((code | 128)) ;; esac; exit $code' task \
    python -m tfdist run --grace 110 train.py --epochs 5 &
steps=$!
while wait "$steps"; code=$?; kill -0 "$steps" 2>/dev/null; do :; done
wait "$steps"; code=$? # the one before may be that of a signal
case "$code" in
0 | 75 | 130 | 134 | 137 | 139 | 143) ;; # well, lost or told to end, killed
*) code=$((code & 127)) ;;
esac
# a task was lost, or a signal has asked for the end: start the job again, it resumes from its checkpoint
# (Slurm requeues what it preempts, unless it has ended before.)
case "$code$is_late" in
751) again=1 ;;
75 | 143*)
    case "$(scontrol show job --oneliner "$SLURM_JOB_ID")" in
    *JobState=RUNNING*PreemptTime=[0-9]*) again=1 ;;
    esac ;;
esac
if [ -n "$again" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
