"""The command `tfdist verify`."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfdist import command_line
from tfdist.errors import LaunchError

if TYPE_CHECKING:
    from tfdist.diagnose.verify.orders import Asked
    from tfdist.diagnose.verify.verdict import Verdict

__all__ = ["main", "make_private", "verify"]

_EXAMPLES = """\
examples:
  tfdist verify --workers 2 train.py --epochs 5
      what follows the script is the script's own
  tfdist verify --steps 20 --json -m package.module
"""

_EPILOG = """\
exit codes:
    0  equal, but for rounding
    1  nothing to compare: the script fails in one process, too, or takes no training step;
       or one process does not repeat itself
    2  it differs: the first step, variable and layer are told, and the cause
   64  the command line is wrong
"""


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist verify`.

    Returns:
        The exit code; see the command's help.
    """
    parser = verify_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    parser.check_script(command)
    if options.workers < 2:
        parser.error(f"--workers {options.workers}: one process is compared with 2 or more")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps {options.steps}: give at least 1, or all")

    from tfdist.diagnose.verify.orders import Asked

    asked = Asked(tuple(command), options.workers, options.steps, options.seed, options.timeout)
    (verdict,) = verify([asked], Path(options.keep) if options.keep else None)
    sys.stdout.write((verdict.to_json() if options.json else verdict.text()) + "\n")
    return verdict.code


def verify(scripts: Sequence[Asked], keep: Path | None = None) -> list[Verdict]:
    """Trains scripts in one process and on workers, one after the other, and compares.

    Args:
        scripts: what to verify, with the same number of workers each.
        keep: a folder for records and logs, which stay there; None for none.

    Raises:
        LaunchError: the folder is not this user's alone, or not empty; a task could not be
            started, or ended before the last verdict.
    """
    from tfdist.diagnose.verify.conductor import VERDICT
    from tfdist.diagnose.verify.verdict import Verdict
    from tfdist.launch import local_cluster, run_job

    with tempfile.TemporaryDirectory(prefix="tfdist-verify-") as scratch:
        folder = keep or Path(scratch)
        make_private(folder)
        places = [folder / f"script-{i}" for i in range(len(scripts))]
        for place, asked in zip(places, scripts, strict=True):
            place.mkdir()
            asked.write(place)
        out = io.StringIO()
        environ = {"TFDIST_STALL_TIMEOUT": "20", **os.environ}
        with local_cluster(workers=scripts[0].workers) as cluster:
            ended = run_job(
                ["-m", "tfdist.diagnose.verify.forking_task", str(folder.resolve())],
                cluster,
                environ=environ,
                log_dir=folder / "logs",
                out=out,
                err=out,
            )
        if ended.returncode > 128 and ended.failure is None:  # by Ctrl-C, or SIGTERM
            raise SystemExit(ended.returncode)
        paths = [place / VERDICT for place in places]
        if not all(path.exists() for path in paths):
            end = "\n".join(out.getvalue().splitlines()[-15:])
            raise LaunchError(
                f"a task of verify has ended before its verdict (exit code {ended.returncode}); "
                f"the end of the output:\n{end}"
            )
        return [Verdict.from_json(path.read_text()) for path in paths]


def make_private(folder: Path) -> None:
    """Makes an empty folder that nobody else reads or writes: records are unpickled from it.

    Args:
        folder: it, there or not.

    Raises:
        LaunchError: it is another user's, others may write there, or it is not empty.
    """
    folder.mkdir(0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise LaunchError(
            f"--keep {folder}: it belongs to another user (uid {found.st_uid}), who could put "
            "records there; give a new folder"
        )
    if found.st_mode & 0o022:
        raise LaunchError(
            f"--keep {folder}: others may write there (mode {found.st_mode & 0o777:o}), and could "
            f"put records there; give a new folder, or run chmod 700 {folder}"
        )
    if any(folder.iterdir()):
        raise LaunchError(f"--keep {folder}: it is not empty; give another folder")
    folder.chmod(0o700)


def _steps(text: str) -> int | None:
    return None if text == "all" else command_line.number(text)


def verify_parser() -> command_line.Parser:
    """Returns the parser of `tfdist verify`."""
    parser = command_line.Parser(
        prog="tfdist verify",
        usage="tfdist verify [options] (script.py | -m package.module) [its own arguments...]",
        description="Train a script in one process and on N workers, on the same data and seed, "
        "and compare each\nstep. Where they differ by more than rounding, find the cause by "
        "experiments.",
        examples=_EXAMPLES,
        epilog=_EPILOG,
    )
    how = parser.add_argument_group("how it is compared")
    number = command_line.number
    parser.option(
        how,
        "--workers",
        "how many workers (2)",
        type=number,
        default=2,
        metavar="N",
        help="how many workers (default: 2)",
    )
    parser.option(
        how,
        "--steps",
        "training steps to compare (8), or all",
        type=_steps,
        default=8,
        metavar="N",
        help="training steps to compare, in two short epochs (default: 8); all: the whole script, "
        "with its own epochs",
    )
    parser.option(
        how,
        "--seed",
        type=number,
        default=1,
        metavar="N",
        help="of what the script does not seed itself (default: 1)",
    )
    parser.option(
        how,
        "--timeout",
        type=command_line.seconds,
        default=600.0,
        metavar="SECONDS",
        help="for each run of the script (default: 600)",
    )
    parser.option(how, "--json", True, action="store_true", help="tell the verdict as JSON")
    parser.option(
        how, "--keep", metavar="DIR", help="leave the records and the script's output there"
    )
    return parser
