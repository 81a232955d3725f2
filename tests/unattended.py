"""A job without `tfdist run`, which would itself end the tasks that are left when one is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tfdist.cluster import Cluster


def run_unattended(cluster: Cluster, script: Path, folder: Path, timeout: float) -> dict[str, int]:
    """Runs a script as every task of a cluster; kills what is left at the end.

    Args:
        cluster: the job.
        script: takes the folder as its argument.
        folder: where each task's output goes, to `TASK.log`.
        timeout: seconds to wait for each task.

    Returns:
        The tasks' exit codes, by their names.
    """
    with contextlib.ExitStack() as stack:
        processes = {}
        for task in cluster.tasks:
            log = stack.enter_context(Path(folder, f"{task}.log").open("w"))
            variables = {**os.environ, "TF_CONFIG": cluster.to_tf_config(task)}
            command = [sys.executable, str(script), str(folder)]
            process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes[str(task)] = process
        return {name: process.wait(timeout) for name, process in processes.items()}
