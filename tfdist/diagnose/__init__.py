"""What tells a user how a job fares.

`chaos` disturbs a job, and compares how it ends: runs of a job (`job_run`) with a fault each.

`chaos_command.py`: `tfdist chaos`: its options, which faults are possible here, its summary.
`chaos.py`: the rounds: the undisturbed run first, then one fault each; when a round is good.
`fault_plan.py`: which faults there are, when each strikes, whom; drawn from a seed. Pure.
`disturbed_job.py`: which launchers a disturbed job has, here or with --hosts on several hosts.
`job_run.py`: one run: its launchers are started, up to 4 times in all, and processes left over are
    counted.
`job_processes.py`: a job's tasks and left-over processes, found in /proc.
`job_timeline.py`: when a job was tracing, training, saving; the moment at which a fault strikes.
`job_outcome.py`: the bits of a job's last checkpoint, compared with another run's.
`round.py`: a line of the table of rounds.
`namespace_hosts.py`: hosts whose cables can be pulled: network namespaces; needs root.
`small_disk.py`: a disk that can be full, for one job: a tmpfs.
`doctor_command.py`: `tfdist doctor`: its options and exit codes.
`doctor/`: what would keep a job from running, seen and judged.
`verify/`: whether a script trains on N workers as in one process, and if not, why.
`version_command.py`: `tfdist version`: its options.
`installation.py`: versions, machine, GPUs, variables for a report; which values are left out as
    secret.
"""
