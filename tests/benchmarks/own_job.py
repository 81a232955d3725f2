"""A benchmark's own module, run as the tasks of a job on this machine, and what it has told."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["run_own_job", "run_with_servers"]

ROOT = Path(__file__).parents[2]


def run_own_job(module: str, arguments: list[str], folder: Path, told: str, **counts: int) -> Any:
    """Runs a module of this package as a job.

    Args:
        module: its name, without the package's.
        arguments: what it is given after `--train` and the folder.
        folder: where its log goes, and the file that it leaves.
        told: the name of that file, of JSON.
        counts: of tasks, as `tfdist.launch.local_cluster` takes them.

    Returns:
        What the file holds.
    """
    launch: Any = importlib.import_module("tfdist.launch")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with launch.local_cluster(**counts) as cluster, Path(folder, "out").open("w") as out:
        launch.run_job(
            ["-m", f"tests.benchmarks.{module}", "--train", str(folder), *arguments],
            cluster,
            environ={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"},
            log_dir=Path(folder, "logs"),
            out=out,
            err=out,
        ).check()
    return json.loads(Path(folder, told).read_text())


def run_with_servers(module: str, workers: int, timeout: float, *arguments: object) -> Any:
    """Runs a module of this package as a chief with workers and one ps, its output shown.

    Args:
        module: its name, without the package's.
        workers: how many.
        timeout: seconds.
        arguments: what it is given after the path of the file that it leaves, of JSON.

    Returns:
        What the file holds.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "tfdist", "run", "--workers", str(workers), "--ps", "1"]
        command += ["-m", f"tests.benchmarks.{module}", str(file), *map(str, arguments)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(command, cwd=ROOT, check=True, timeout=timeout, env=environment)
        return json.loads(file.read_text())
