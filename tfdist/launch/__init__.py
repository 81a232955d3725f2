"""Start one process per task on this machine, watch them, and end them: `tfdist run`.

    command + cluster ──► make_plan ──► Job.run ──► JobResult

Where a job's workers may change in number, or launchers of several hosts decide together, the job
is a `CrewJob`. Nothing here imports TensorFlow.

`run.py`: `run_job`: the whole in one call.
`plan.py`: the command and the variables of each task, before anything starts; how cores are shared
    out as threads; `--dry_run`. Pure.
`gpu_shares.py`: which task gets which GPUs: ps none, an evaluator what is left; memory of one that
    is shared; what is refused of `--gpus_per_task`.
`place.py`: free ports for a job here, held to its end; "not on this machine".
`ground.py`: where tasks run: `ThisMachine`, or a sub-room's.
`job.py`: watches all of them: what Ctrl-C, SIGTERM and SIGHUP do to the launcher; when a task's end
    ends the others, and how: SIGTERM, after `--grace` (5 s) SIGKILL, at a second Ctrl-C at once;
    how long a death waits for its cause (2 s); servers after their chief.
`restarts.py`: which failures are mended by a new start: 3 for workers of parameter servers, else
    none unless asked for.
`failure.py`: which task failed first, so that its exit code is the job's; the lines of its log that
    are shown; hints, as for SIGKILL.
`stopped_tasks.py`: tasks that are stopped: named after 6 s, ended after the stall timeout.
`no_show.py`: "no strategy was made by worker:0, worker:1 in 30 s": told while there is time.
`presence.py`: which tasks listen at their ports: who never has is told, "NO STRATEGY was made by
    ..." (Linux).
`running_task.py`: a task as a launcher sees it: running, ended, gone; asked to save and end.
`task_process.py`: one task's process group here, its pipes and log, and what it leaves behind.
`start.py`: the first moments of a task: tied to the launcher, in its network. A program.
`guardian.py`: what ends tasks where the launcher is killed. A program.
`namespace.py`: a network namespace and its way out (pasta, slirp4netns). A program.
`network.py`: whether tasks have a network of their own, which no other host reaches: `--isolate`
    auto, on, off; the warning without one.
`output.py`: a log for each task in ./tfdist_logs, and its lines on the console: prefixes, colours;
    `--log_dir` that cannot be made.
`terminal.py`: what a terminal would show of a task's bytes: progress bars, escapes.
`announcing.py`: the launcher's own words: what starts, "ending worker:1 within 5 s", starting
    again, tasks that never took part.
`result.py`: `JobResult`: exit code, failure, logs; the error of its `check`.
`job_secret.py`: which secret the tasks get: the user's, else a new one where all start here, else
    none.
`crew/`: all launchers of a job decide together: numbers of workers and servers that change,
    `--workers 1:4`, `--ps 1:2`.
`hosts/`: tasks on other hosts, over SSH: `--hosts`.
`nodes/`: the same command on each host: `--rendezvous`, `--nnodes`.
`secure/`: tasks that reach each other through stunnel: `--secure`.
`live/`: what is seen of a job while it runs: bar, lines, TensorBoard, Prometheus, timeline.
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
