"""The secret that the launcher hands to a job's tasks, in their environment and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

from tfdist import process
from tfdist.cluster.secret import Secret
from tfdist.launch.plan import JobPlan

__all__ = ["secret_variables"]


def secret_variables(plan: JobPlan, environ: Mapping[str, str]) -> dict[str, str]:
    """Decides which secret the tasks get.

    Args:
        plan: What will run.
        environ: The variables that the tasks start from; a secret that the user has given is handed
            on with them.

    Returns:
        Else a new one, where all tasks that meet are started here; no variables where others are
        started elsewhere, which could not know it.

    Raises:
        ClusterError: The user's secret is none.
    """
    here = {task.task for task in plan.tasks}
    elsewhere = set(plan.cluster.tasks_that_meet) - here
    if process.secret(environ) or elsewhere:
        return {}
    return {process.SECRET_VARIABLE: Secret.random().word}
