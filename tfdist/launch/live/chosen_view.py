"""From the options of `tfdist run` to who watches the job while it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from tfdist.errors import ClusterError

if TYPE_CHECKING:
    from tfdist.cluster import Cluster, Task
    from tfdist.launch.live import LiveView, Watcher
    from tfdist.launch.live.job_bar import JobBar

__all__ = ["live_view"]

_NEEDED = {
    "--progress bar": ("rich", "rich"),
    "--tensorboard": ("tensorboard", "tensorboard"),
    "--metrics_port": ("prometheus_client", "prometheus-client"),
}


def live_view(
    options: argparse.Namespace,
    cluster: Cluster,
    tasks: Sequence[Task],
    *,
    prefix: bool = True,
    out: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LiveView:
    """Makes what the options ask for.

    Args:
        options: Those of `tfdist run`.
        cluster: The job's.
        tasks: Those that this launcher starts.
        prefix: Whether each line of output names its task.
        out: Where the tasks' output goes; None for standard output.
        environ: The launcher's variables.

    Raises:
        ClusterError: Something is not installed, or there is no terminal for a bar.
    """
    from tfdist.launch.live import LiveView

    out = sys.stdout if out is None else out
    watchers: list[Watcher] = []
    kind = _kind(options.progress, out, environ, prefix)
    bar: JobBar | None = None
    if kind == "bar":
        from tfdist.launch.live.job_bar import JobBar

        bar = JobBar(out)
        watchers.append(bar)
    elif kind == "plain":
        from tfdist.launch.live.plain_lines import PlainLines

        watchers.append(PlainLines())
    if options.tensorboard is not None:
        _check_installed("--tensorboard")
        from pathlib import Path

        from tfdist.launch.live.tensorboard_files import TensorBoardFiles
        from tfdist.launch.live.trace_file import TraceFile

        folder = Path(options.tensorboard)
        others = set(cluster.tasks) - set(tasks)  # other launchers may write there, too
        name = str(tasks[0]) if others else ""
        watchers += [TensorBoardFiles(folder, cluster.chief in tasks), TraceFile(folder, name)]
    if options.metrics_port is not None:
        _check_installed("--metrics_port")
        from tfdist.launch.live.metrics_port import MetricsPort

        watchers.append(MetricsPort(options.metrics_port))
    return LiveView(watchers, bar)


def _kind(asked: str, out: TextIO, environ: Mapping[str, str], prefix: bool) -> str:
    """How the progress is to be shown: "bar", "plain" or "none"."""
    from tfdist.launch.output import is_terminal

    if asked == "bar":
        if not prefix:
            raise ClusterError(
                "--progress bar with a single task in the foreground, which has the terminal for "
                "itself; leave it out, or give plain"
            )
        if not is_terminal(out):
            raise ClusterError(
                "--progress bar where standard output is no terminal that can be drawn on; leave "
                "it out, or give plain"
            )
        _check_installed("--progress bar")
    if asked != "auto":
        return asked
    if not prefix:
        return "none"
    plain = environ.get("NO_COLOR") or environ.get("CI")
    return "bar" if is_terminal(out) and not plain and _is_there("rich") else "plain"


def _check_installed(option: str) -> None:
    module, package = _NEEDED[option]
    if not _is_there(module):
        raise ClusterError(
            f"{option} needs {package}, which is not installed; pip install {package}, or "
            "'tfdist[live]' for all of these"
        )


def _is_there(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
