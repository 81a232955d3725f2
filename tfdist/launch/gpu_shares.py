"""Which task gets which of this machine's GPUs.

The chief and the workers get as many each as the GPUs suffice for, else one that they share; an
evaluator one of those that are left over, else none; ps tasks, and the chief of a job that has any,
none: they keep variables, and hand out work. Workers of ps tasks compute on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tfdist import log
from tfdist.cluster import Task
from tfdist.environments import gpus_are_own
from tfdist.errors import ClusterError
from tfdist.machine.gpus import NO_GPU, VISIBLE_VARIABLE, Gpu, gpus_here
from tfdist.process import GPU_MEMORY_VARIABLE, GPUS_ASKED_VARIABLE

__all__ = ["GpuShares", "GpuSupply", "share_out", "together"]

_COMPUTE = ("chief", "worker")
_GROWTH_VARIABLE = "TF_FORCE_GPU_ALLOW_GROWTH"


@dataclass(frozen=True)
class GpuSupply:
    """What a launcher has to give, and how it is to be given.

    Attributes:
        gpus: those that the launcher sees.
        per_task: how many each task that computes is to have; None spreads those that there are,
            and leaves the tasks' environment alone where there is none.
        memory: MiB that a task may take of each of its GPUs; None where nothing limits it.
        are_own: whether a scheduler has chosen them for the tasks of this launcher alone, and not
            for all of the job's tasks on this machine.
    """

    gpus: tuple[Gpu, ...] = ()
    per_task: int | None = None
    memory: int | None = None
    are_own: bool = False

    def __post_init__(self) -> None:
        if self.per_task is not None and self.per_task < 0:
            raise ClusterError(f"{self.per_task} GPUs per task; give 0 (the CPU alone) or more")
        if self.memory is not None and self.memory < 1:
            raise ClusterError(f"a GPU memory of {self.memory} MiB; give 1 or more")

    @classmethod
    def here(
        cls, environ: Mapping[str, str], per_task: int | None = None, memory: int | None = None
    ) -> GpuSupply:
        """Finds what this machine, or its scheduler, has for a launcher.

        Args:
            environ: the launcher's variables.
            per_task: see above.
            memory: see above.
        """
        if per_task == 0:
            return cls(per_task=0, memory=memory)
        found = gpus_here(environ)
        if found.trouble:
            log.warning("%s: no task is given a GPU", found.trouble)
        return cls(found.gpus, per_task, memory, gpus_are_own(environ))


@dataclass(frozen=True)
class GpuShares:
    """Which of this launcher's tasks gets which GPUs.

    Attributes:
        of: the GPUs of each task; empty where nobody is told anything.
        are_shared: whether two tasks of this machine have the same GPU.
        supply: what they were taken from.
    """

    of: Mapping[Task, tuple[Gpu, ...]] = field(default_factory=lambda: MappingProxyType({}))
    are_shared: bool = False
    supply: GpuSupply = field(default_factory=GpuSupply)

    def variables(self, task: Task, environ: Mapping[str, str]) -> dict[str, str]:
        """Returns the environment variables by which a task gets what it is given.

        Args:
            task: which.
            environ: the launcher's own, which say how memory is taken where they do.
        """
        if task not in self.of:
            return {}
        gpus = self.of[task]
        told = {VISIBLE_VARIABLE: ",".join(gpu.id for gpu in gpus) or NO_GPU}
        if not gpus:
            return told
        if self.supply.per_task:
            told[GPUS_ASKED_VARIABLE] = str(len(gpus))
        if self.supply.memory is not None:
            told[GPU_MEMORY_VARIABLE] = str(self.supply.memory)
        elif self.are_shared and _GROWTH_VARIABLE not in environ:
            told[_GROWTH_VARIABLE] = "true"
        return told

    def describe(self) -> str:
        """Says who gets what, in one line; "" where there is nothing to say."""
        if not self.of:
            return ""
        if not any(self.of.values()):
            return "GPUs: none for any task"
        line = "GPUs: " + "; ".join(
            f"{task} {', '.join(f'{gpu.short} ({gpu.name})' for gpu in gpus)}"
            for task, gpus in self.of.items()
            if gpus
        )
        if without := [str(task) for task, gpus in self.of.items() if not gpus]:
            line += f"; none for {', '.join(without)}"
        if self.supply.memory is not None:
            line += f"; {self.supply.memory} MiB of a GPU for each task"
        elif self.are_shared:
            line += "; tasks that share one take its memory as they need it"
        return line


def share_out(
    supply: GpuSupply, here: Sequence[Task], own: Sequence[Task], *, has_servers: bool
) -> GpuShares:
    """Shares GPUs out.

    Args:
        supply: what there is.
        here: all tasks of the job on this machine, which share them, in the same order for every
            launcher of this machine.
        own: those of them that this launcher starts.
        has_servers: whether the job has parameter servers.

    Returns:
        The shares of the launcher's own tasks.

    Raises:
        ClusterError: there are not as many as were asked for.
    """
    gpus = supply.gpus
    if supply.per_task == 0:
        return GpuShares(dict.fromkeys(own, ()), supply=supply)
    computing = [
        task
        for task in here
        if task.type in _COMPUTE and not (has_servers and task.type == "chief")
    ]
    if not gpus and computing and (supply.per_task or supply.memory is not None):
        raise ClusterError(
            "GPUs were asked for, but there is none that nvidia-smi lists and "
            "CUDA_VISIBLE_DEVICES leaves to this launcher; leave --gpus_per_task and --gpu_memory "
            "out to compute on the CPU"
        )
    if not gpus:
        return GpuShares()
    each, most = _each(supply, len(computing), has_servers)
    of: dict[Task, tuple[Gpu, ...]] = dict.fromkeys(here, ())
    for number, task in enumerate(computing):
        first = number * each if most else number * len(gpus) // len(computing)
        of[task] = gpus[first : first + each]
    left = [gpu for gpu in gpus if not any(gpu in given for given in of.values())]
    for task in here:
        if task.type == "evaluator" and left:
            of[task] = (left.pop(0),)
    return GpuShares({task: of[task] for task in own}, bool(computing) and not most, supply)


def together(shares: Sequence[GpuShares], tasks: Sequence[Task]) -> GpuShares:
    """Says in one of the shares of several hosts who gets what.

    Args:
        shares: of each host's tasks; empty where it has no GPU.
        tasks: of all hosts, in order.
    """
    of = {task: gpus for one in shares for task, gpus in one.of.items()}
    some = [one for one in shares if one.of]
    if not some:
        return GpuShares()
    told = {task: of.get(task, ()) for task in tasks}
    return GpuShares(told, any(one.are_shared for one in some), some[0].supply)


def _each(supply: GpuSupply, tasks: int, has_servers: bool) -> tuple[int, int]:
    """How many GPUs each of so many tasks gets, and how many of its own each could have."""
    there = len(supply.gpus)
    most = there // max(1, tasks)
    sliced = any(gpu.is_slice for gpu in supply.gpus)
    each = supply.per_task or max(1, 1 if sliced or has_servers else most)
    if tasks and each > 1 and has_servers:
        raise ClusterError(
            f"{each} GPUs for each task, but a worker of parameter servers computes on one; give "
            "--gpus_per_task 1, and as many workers as there are GPUs"
        )
    if tasks and each > 1 and sliced:
        raise ClusterError(
            f"{each} GPUs for each task, but those here are MIG slices, of which CUDA shows a "
            "process one; give --gpus_per_task 1"
        )
    if tasks and each > max(1, most):
        raise ClusterError(
            f"{each} GPUs for each of {tasks} tasks, but this machine has {there}; give "
            f"--gpus_per_task {max(1, most)}, or 0 for the CPU alone"
        )
    return each, most
