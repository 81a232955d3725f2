"""The command `tfdist submit`: which scheduler a job is for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfdist import command_line
from tfdist.cluster.task import nearest
from tfdist.errors import ClusterError
from tfdist.submit import kubernetes_command, slurm_command

__all__ = ["main"]

_SCHEDULERS = ("slurm", "kubernetes")

_HELP = """\
usage: tfdist submit SCHEDULER [options] (script.py | -m module) ...

schedulers:
  slurm        a batch script, handed in by sbatch
  kubernetes   manifests of a Job, a JobSet or a TrainJob, handed in by kubectl

example:
  tfdist submit slurm --nodes 2 --time 1:00:00 train.py

`tfdist submit SCHEDULER --help` tells more about one.
"""


def main(given: Sequence[str], run: command_line.Parser) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist submit`.
        run: reads the options of `tfdist run`.

    Returns:
        0, or the job's exit code where it was followed to its end.
    """
    words = list(given)
    if words[:1] == ["slurm"]:
        return slurm_command.main(words[1:], run)
    if words[:1] == ["kubernetes"]:
        return kubernetes_command.main(words[1:], run)
    if command_line.spelt(words[:1]) in (["-h"], ["--help"], ["--help_all"]):
        sys.stdout.write(_HELP)
        return 0
    what = f"{words[0]!r}{nearest(words[0], _SCHEDULERS)}" if words else "nothing"
    raise ClusterError(
        f"submit to {what}; the schedulers are slurm and kubernetes; see tfdist submit --help"
    )
