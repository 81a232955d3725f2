"""Where a cluster comes from: one small file for each way in which a machine tells of it.

The order in which they are asked is here, in `_SPECS` and `_SCHEDULERS`, and so are
TFDIST_ENVIRONMENT and the refusal of a spec of fewer tasks than a scheduler has started. Nothing
imports TensorFlow.

`base.py`: what an environment is: a name, whether it is there, the cluster.
`tf_config.py`: TF_CONFIG; a cluster in a variable of nearly that name.
`file.py`: TFDIST_CLUSTER, a JSON file, and TFDIST_TASK.
`hosts_variable.py`: TFDIST_HOSTS with a rank of Open MPI, an indexed Job or TFDIST_RANK; the
    refusal of a rank that nothing tells hosts of.
`kubernetes.py`: Kubeflow Trainer's TrainJob and Volcano.
`skypilot.py`: SkyPilot's nodes.
`slurm.py`: srun's tasks, their distribution over nodes; whether their GPUs are bound; why a process
    that trains alone may not be meant to.
`open_mpi.py`: what mpirun tells of ranks, and the job's port.
`local.py`: counts, as "2 workers here": asked for and never found.
`ranks.py`: which rank is chief, worker, ps or evaluator (TFDIST_PS, TFDIST_EVALUATOR); ports from
    20000.
`node_list.py`: "node[1-3,7]" as names. Pure text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.environments import slurm
from tfdist.environments.base import Environment
from tfdist.environments.file import FileEnvironment
from tfdist.environments.hosts_variable import HostsEnvironment, RanksEnvironment
from tfdist.environments.kubernetes import TrainJobEnvironment, VolcanoEnvironment
from tfdist.environments.local import LocalEnvironment
from tfdist.environments.skypilot import SkyPilotEnvironment
from tfdist.environments.slurm import SlurmEnvironment
from tfdist.environments.tf_config import TFConfigEnvironment, check_spelling
from tfdist.errors import ClusterError

__all__ = [
    "ENVIRONMENTS",
    "LAUNCHED_VARIABLE",
    "Environment",
    "FileEnvironment",
    "HostsEnvironment",
    "LocalEnvironment",
    "RanksEnvironment",
    "SkyPilotEnvironment",
    "SlurmEnvironment",
    "TFConfigEnvironment",
    "TrainJobEnvironment",
    "VolcanoEnvironment",
    "detect_cluster",
    "gpus_are_own",
    "scheduler_of",
    "why_not_alone",
]

_SPECS: tuple[Environment, ...] = (TFConfigEnvironment(), FileEnvironment())
_SCHEDULERS: tuple[Environment, ...] = (
    # mpirun under Slurm starts its own daemons by srun: its word is the nearer one.
    HostsEnvironment(),
    TrainJobEnvironment(),
    VolcanoEnvironment(),
    SkyPilotEnvironment(),
    SlurmEnvironment(),
    RanksEnvironment(),
)
ENVIRONMENTS: tuple[Environment, ...] = (*_SPECS, *_SCHEDULERS)
"""The environments that are looked for: specs that somebody wrote, then what schedulers tell.

The first one found is taken. TF_CONFIG comes first: the launcher sets it for each of its processes,
which inherit a TFDIST_CLUSTER from the shell that the launcher was started in.
"""

LAUNCHED_VARIABLE = "TFDIST_LAUNCHED"
"""Set in what `tfdist run` has started, which has looked at all this before."""

_CHOICE = "TFDIST_ENVIRONMENT"
_ALONE = "alone"


def detect_cluster(environ: Mapping[str, str] | None = None) -> Cluster | None:
    """Finds the cluster that this process belongs to.

    TFDIST_ENVIRONMENT names the one environment that counts, or is "alone" for none.

    Args:
        environ: The variables to look in; those of this process by default.

    Returns:
        The cluster, with the task that this process is; None where no environment is there, so
        that the process is alone.

    Raises:
        ClusterError: The first environment that is there says something wrong, a spec and a
            scheduler disagree on how many tasks there are, or the name of TF_CONFIG is misspelt.
    """
    variables = os.environ if environ is None else environ
    choice = variables.get(_CHOICE, "").strip()
    if choice and LAUNCHED_VARIABLE not in variables:
        return None if choice == _ALONE else _chosen(choice).cluster(variables)
    found = next((one for one in ENVIRONMENTS if one.detect(variables)), None)
    if found is None:
        check_spelling(variables)
        return None
    cluster = found.cluster(variables)
    if found in _SPECS and LAUNCHED_VARIABLE not in variables:
        _check_agreement(found, cluster, variables)
    return cluster


def scheduler_of(environ: Mapping[str, str]) -> Environment | None:
    """Returns the scheduler that has started this process as one of several; None without one.

    Args:
        environ: The variables of the process; where they choose an environment, or are those of a
            task that `tfdist run` has started, there is no scheduler to heed. A mere rank is none:
            it may be that of one job among many.
    """
    if environ.get(_CHOICE, "").strip() or LAUNCHED_VARIABLE in environ:
        return None
    return next((one for one in _SCHEDULERS[:-1] if one.detect(environ)), None)


def _chosen(name: str) -> Environment:
    for environment in ENVIRONMENTS:
        if environment.name.lower() == name.lower():
            return environment
    names = ", ".join([_ALONE, *(one.name for one in ENVIRONMENTS)])
    raise ClusterError(f"{_CHOICE}: {name!r}; it is one of {names}")


def _check_agreement(spec: Environment, cluster: Cluster, environ: Mapping[str, str]) -> None:
    """Refuses a spec of fewer tasks than the scheduler has started.

    Else some of the scheduler's would train alone. One may start several tasks of a spec; and an
    evaluator beside parameter servers stands in no spec.
    """
    scheduler = scheduler_of(environ)
    if scheduler is None:
        return
    try:
        started = len(scheduler.cluster(environ))
    except ClusterError:
        return  # ranks that nothing tells more about: the spec does
    if started - int("ps" in cluster.jobs) > len(cluster):
        raise ClusterError(
            f"{spec.name} has {len(cluster)} tasks, but {scheduler.name} has started {started}: "
            f'say which counts: {_CHOICE}="{spec.name}" or {_CHOICE}="{scheduler.name}"'
        )


def gpus_are_own(environ: Mapping[str, str]) -> bool:
    """Whether a scheduler lets this process see the GPUs of its own task alone.

    Args:
        environ: The variables of the process.
    """
    return slurm.gives_gpus(environ)


def why_not_alone(environ: Mapping[str, str]) -> str:
    """Why a process that trains alone may not be meant to; "" where nothing says so."""
    return "" if environ.get(_CHOICE, "").strip() else slurm.why_not_alone(environ)
