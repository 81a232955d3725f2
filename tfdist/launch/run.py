"""A job in one call: plan it and run it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from tfdist.cluster import Cluster, Task
from tfdist.launch.gpu_shares import GpuSupply
from tfdist.launch.ground import ThisMachine
from tfdist.launch.job import Job
from tfdist.launch.live import LiveView
from tfdist.launch.network import How
from tfdist.launch.plan import make_plan
from tfdist.launch.result import JobResult
from tfdist.machine.signals import DEFAULT_GRACE

__all__ = ["run_job"]


def run_job(
    command: Sequence[str],
    cluster: Cluster,
    *,
    tasks: Sequence[Task] | None = None,
    plug: bool = False,
    plug_options: str = "",
    threads: int | Literal["auto"] = "auto",
    gpus_per_task: int | None = None,
    gpu_memory: int | None = None,
    rendezvous_timeout: float | None = None,
    environ: Mapping[str, str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    grace: float = DEFAULT_GRACE,
    max_restarts: int | None = None,
    isolate: How = "auto",
    out: TextIO | None = None,
    err: TextIO | None = None,
    prefix: bool = True,
    live: LiveView | None = None,
) -> JobResult:
    """Runs a script as a job: one process per task on this machine.

    Example:
        >>> with local_cluster(workers=2) as cluster:
        ...     result = run_job(["train.py", "--epochs", "3"], cluster)
        >>> result.returncode
        0

    Args:
        command: `["train.py", "--my_flag", "3"]` or `["-m", "package.module", ...]`.
        cluster: The job's cluster; its ports should be held meanwhile (`local_cluster`).
        tasks: The tasks to run on this machine; None for all of the cluster.
        plug: As for `make_plan`.
        plug_options: As for `make_plan`.
        threads: As for `make_plan`.
        gpus_per_task: GPUs of each task that computes; None shares out those that there are.
        gpu_memory: MiB that a task may take of each of its GPUs; None where nothing limits it.
        rendezvous_timeout: As for `make_plan`.
        environ: The variables that the tasks start from; None for those of this process.
        log_dir: As for `Job`.
        grace: As for `Job`.
        max_restarts: As for `Job`.
        isolate: Whether the job has a network of its own; see `network`.
        out: As for `Job`.
        err: As for `Job`.
        prefix: As for `Job`.
        live: As for `Job`.

    Returns:
        How it ended. A failing task is no exception: see `JobResult.check`.

    Raises:
        ClusterError: The command or the numbers are wrong.
        LaunchError: A task cannot be started or the logs cannot be written.
    """
    plan = make_plan(
        command,
        cluster,
        tasks=tasks,
        plug=plug,
        plug_options=plug_options,
        threads=threads,
        gpus=GpuSupply.here(os.environ if environ is None else environ, gpus_per_task, gpu_memory),
        rendezvous_timeout=rendezvous_timeout,
        environ=environ,
    )
    return Job(
        plan,
        log_dir=log_dir,
        grace=grace,
        max_restarts=max_restarts,
        ground=ThisMachine(isolate),
        environ=environ,
        out=out,
        err=err,
        prefix=prefix,
        live=live,
    ).run()
