"""What a job will run: one command and one environment per task, decided before anything starts.

Everything here is pure: the same arguments give the same plan, which `tfdist run --dry-run` shows
and which the tests compare with golden files.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tfdist.cluster import Cluster, Task
from tfdist.environments import LAUNCHED_VARIABLE
from tfdist.errors import ClusterError
from tfdist.launch.gpu_shares import GpuShares, GpuSupply, share_out
from tfdist.machine.capacities import available_cores

__all__ = ["AUTOPLUG_MODULE", "JobPlan", "TaskPlan", "make_plan"]

AUTOPLUG_MODULE = "tfdist.training.autoplug"
"""`tfdist run --plug` starts this module, which starts the user's script."""

_COMPUTE = ("chief", "worker")
_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
# Another way to say which task this is; the launcher's answer is TF_CONFIG, and one is enough.
_OTHER_ANSWERS = ("TFDIST_CLUSTER", "TFDIST_TASK")


@dataclass(frozen=True)
class TaskPlan:
    """What one task runs.

    Attributes:
        task: Which task.
        command: The program and its arguments.
        environment: The variables that are set on top of the launcher's own.
        removed: The variables of the launcher that the task does not get.
    """

    task: Task
    command: tuple[str, ...]
    environment: Mapping[str, str]
    removed: tuple[str, ...] = ()

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """All environment variables of the task's process.

        Args:
            base: The launcher's variables.
        """
        kept = {name: value for name, value in base.items() if name not in self.removed}
        return {**kept, **self.environment}

    def shell(self) -> str:
        """The task as a command that can be pasted into a shell."""
        words = ["env"]
        for name in self.removed:
            words += ["-u", name]
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " \\\n    ".join([" ".join(words), *variables, shlex.join(self.command)])


@dataclass(frozen=True)
class JobPlan:
    """What all tasks of this machine run.

    Attributes:
        cluster: The whole job's cluster, of which the tasks may be a part.
        tasks: This machine's tasks, in the cluster's order.
        threads: Threads that each compute task gets; None where the user's environment says.
        plugged: Whether the script runs under --plug.
        gpus: Which of the tasks gets which GPUs.
    """

    cluster: Cluster
    tasks: tuple[TaskPlan, ...]
    threads: int | None = None
    plugged: bool = False
    gpus: GpuShares = field(default_factory=GpuShares)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ClusterError("a job without tasks; give at least one")

    @property
    def has_servers(self) -> bool:
        """Whether this is a parameter-server job, which ends when its chief has ended."""
        return "ps" in self.cluster.jobs

    @property
    def opens_ports(self) -> bool:
        """Whether the tasks listen for each other."""
        return len(self.cluster) > 1

    def shell(self) -> str:
        """The job as a text for `--dry-run`: each task as a command, under its name."""
        return "\n\n".join(f"# {plan.task}\n{plan.shell()}" for plan in self.tasks) + "\n"


def make_plan(
    command: Sequence[str],
    cluster: Cluster,
    *,
    tasks: Sequence[Task] | None = None,
    plug: bool = False,
    plug_options: str = "",
    threads: int | Literal["auto"] = "auto",
    rendezvous_timeout: float | None = None,
    stall_timeout: float | None = None,
    cores: int | None = None,
    gpus: GpuSupply | None = None,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> JobPlan:
    """Decides what each task runs.

    Args:
        command: `["train.py", "--my_flag", "3"]` or `["-m", "package.module", ...]`.
        cluster: The job's cluster.
        tasks: The tasks to run on this machine; None for all of the cluster.
        plug: Whether every model that the script makes is plugged.
        plug_options: Then, what `tfdist.plug` takes, as "local_steps=4,outer_momentum=0.9".
        threads: Threads for each chief and worker. "auto" shares this machine's cores out among
            them, and leaves alone what the environment sets already.
        rendezvous_timeout: Seconds for the tasks to come together; None for tfdist's default.
        stall_timeout: Seconds to wait for a task that does not answer; None for tfdist's default.
        cores: How many cores there are to share out; None for those of this process.
        gpus: The GPUs that there are to share out, and how; None tells the tasks nothing of GPUs.
        environ: The launcher's variables; None for those of this process.
        python: The Python interpreter.

    Returns:
        The plan.

    Raises:
        ClusterError: No such task, or the numbers are out of range.
    """
    environ = os.environ if environ is None else environ
    cores = available_cores() if cores is None else cores
    if not command or tuple(command) == ("-m",):
        raise ClusterError("no script; give a script or -m package.module")
    if threads != "auto" and threads < 1:
        raise ClusterError(f"{threads} threads; give a number of 1 or more, or auto")
    timeouts = {"rendezvous_timeout": rendezvous_timeout, "stall_timeout": stall_timeout}
    for name, value in timeouts.items():
        if value is not None and value <= 0:
            raise ClusterError(f"{name} of {value:g} s; give more than 0")
    chosen = cluster.tasks if tasks is None else tuple(tasks)
    prefix: tuple[str, ...] = (python, "-m", AUTOPLUG_MODULE) if plug else (python,)
    if plug and plug_options:
        prefix += ("--options", plug_options)
    share = _thread_variables(threads, cores, cluster, chosen, environ)
    shares = _gpu_shares(gpus or GpuSupply(), cluster, chosen)
    common = {
        LAUNCHED_VARIABLE: "1",
        "PYTHONUNBUFFERED": "1",
    }
    if sys.platform != "linux":
        # The launcher holds the ports while the tasks bind them (tfdist.machine.ports), which
        # Linux allows without it, and then refuses a second server at the port.
        common["TF_GRPC_REUSE_PORT"] = "1"
    for name, value in timeouts.items():
        if value is not None:
            common[f"TFDIST_{name.upper()}"] = f"{value:g}"
    defaults = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if plug and len(cluster) > 1:
        # A script that knows no other tasks may go through a set of words, in the order of hashes.
        defaults["PYTHONHASHSEED"] = "0"
    if "ps" in cluster.jobs:
        # Without it a coordinator waits for a lost worker instead of learning of the loss.
        defaults["GRPC_FAIL_FAST"] = "use_caller"
        # TensorFlow's C++ part would report each call to a lost or ended server; Python raises it.
        defaults["TF_CPP_MIN_LOG_LEVEL"] = "3"
    common |= {name: value for name, value in defaults.items() if name not in environ}
    removed = tuple(name for name in _OTHER_ANSWERS if name in environ)
    plans = tuple(
        TaskPlan(
            task=task,
            command=(*prefix, *command),
            environment={
                "TF_CONFIG": cluster.to_tf_config(task),
                **common,
                **(share if task.type in _COMPUTE else {}),
                **shares.variables(task, environ),
            },
            removed=removed,
        )
        for task in chosen
    )
    counts = [int(share[name]) for name in _THREAD_VARIABLES if name in share]
    return JobPlan(cluster, plans, counts[0] if counts else None, plug, shares)


def _thread_variables(
    threads: int | Literal["auto"],
    cores: int,
    cluster: Cluster,
    chosen: Sequence[Task],
    environ: Mapping[str, str],
) -> dict[str, str]:
    """The thread variables of a compute task; an explicit number overrides the environment's."""
    if threads != "auto":
        return dict.fromkeys(_THREAD_VARIABLES, str(threads))
    sharing = [task for task in _tasks_of_this_host(cluster, chosen) if task.type in _COMPUTE]
    share = max(1, cores // max(1, len(sharing)))
    return {name: str(share) for name in _THREAD_VARIABLES if name not in environ}


def _gpu_shares(supply: GpuSupply, cluster: Cluster, chosen: Sequence[Task]) -> GpuShares:
    """Who gets which GPUs; each of several launchers on this machine finds the same."""
    here = () if supply.are_own else _tasks_of_this_host(cluster, chosen)
    beside = [task for task in chosen if task not in here]  # an evaluator of a job with servers
    return share_out(supply, [*here, *beside], chosen, has_servers="ps" in cluster.jobs)


def _tasks_of_this_host(cluster: Cluster, chosen: Sequence[Task]) -> list[Task]:
    hosts = {_host(cluster, task) for task in chosen}
    return [task for task in cluster.tasks if _host(cluster, task) in hosts]


def _host(cluster: Cluster, task: Task) -> str | None:
    if task.type not in cluster.jobs:  # an evaluator beside the cluster
        return None
    return cluster.address(task).rpartition(":")[0]
