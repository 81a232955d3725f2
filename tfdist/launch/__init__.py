"""Start one process per task on this machine, watch them, and end them: `tfdist run`.

    command + cluster ──► make_plan ──► Job.run ──► JobResult
                          (pure)        ├─ task_process.py   one task and all that it starts
                                        ├─ guardian.py  what ends them if the launcher is killed
                                        ├─ network.py   one of their own, that no other host reaches
                                        ├─ output.py    prefixed lines and whole logs
                                        ├─ failure.py   which task failed first
                                        ├─ presence.py  which tasks take part in their job
                                        └─ restarts.py  which failures a restart mends

Where a job's workers may change in number, or launchers of several hosts decide together, the job
is a `CrewJob`: see `tfdist.launch.crew`.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

from tfdist.launch.failure import Failure, TaskResult
from tfdist.launch.gpu_shares import GpuSupply
from tfdist.launch.ground import ThisMachine
from tfdist.launch.job import Job
from tfdist.launch.place import check_all_here, check_jobs, held_ports, local_cluster
from tfdist.launch.plan import JobPlan, TaskPlan, make_plan
from tfdist.launch.result import JobResult
from tfdist.launch.run import run_job

__all__ = [
    "Failure",
    "GpuSupply",
    "Job",
    "JobPlan",
    "JobResult",
    "TaskPlan",
    "TaskResult",
    "ThisMachine",
    "check_all_here",
    "check_jobs",
    "held_ports",
    "local_cluster",
    "make_plan",
    "run_job",
]
