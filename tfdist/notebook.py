"""tfdist in a notebook: `run` calls a function as a job, `%%tfdist` runs a cell as one.

    %load_ext tfdist
    %%tfdist --workers 2 -i images,labels -o history

The first makes the second known; it stands at the top of a cell.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfdist import command_line
from tfdist.cluster.task import nearest
from tfdist.errors import TfdistError
from tfdist.functions.call import Call
from tfdist.functions.cell import check_cell, run_cell
from tfdist.functions.job_options import JobOptions
from tfdist.functions.run_function import run, run_call

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "run"]

_BROUGHT = ("i", "o", "debug")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext tfdist` does: from then on there is `%%tfdist`.

    Args:
        shell: The notebook's.
    """

    def tfdist(line: str, cell: str) -> None:
        _run_cell(shell, line, cell)

    tfdist.__doc__ = cell_parser().format_help()
    register: Any = shell.register_magic_function
    register(tfdist, "cell", "tfdist")


def cell_parser() -> command_line.Parser:
    """The parser of `%%tfdist`; the options are those of `tfdist.run`."""
    parser = command_line.Parser(
        prog="%%tfdist",
        usage="%%tfdist [options]",
        description="Run this cell as a script, in every task of a job on this machine.",
        examples="example:\n  %%tfdist --workers 2 -i images,labels -o history\n",
    )

    def option(name: str, text: str, **settings: Any) -> None:
        settings.setdefault("default", None)
        parser.option(parser, name, help=text, **settings)

    names, number = {"type": _names, "metavar": "NAMES"}, {"type": command_line.number}
    option("-i", "variables of this notebook that the cell finds defined, as -i x,y", **names)
    option("-o", "variables of the cell that the chief brings back, as -o history", **names)
    option("--workers", "how many workers (2)", **number)
    option("--ps", "how many parameter servers; they bring a chief (0)", **number)
    option("--chief", "a chief beside the workers", action="store_const", const=True)
    option("--strategy", "a kind of strategy, in whose scope the cell runs", metavar="KIND")
    option("--plug", "every model is plugged", action="store_const", const=True)
    option("--timeout", "when the job is ended", type=command_line.seconds, metavar="SECONDS")
    option("--show", "bar, lines or none (bar)", metavar="HOW")
    option("--threads", "of each chief and worker", type=command_line.threads, metavar="N")
    option("--gpus_per_task", "of each task that computes", **number)
    option("--max_restarts", "how many restarts the job has", **number)
    option("--log_dir", "where the logs go", metavar="DIR")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(one for one in text.split(",") if one)


def _run_cell(shell: InteractiveShell, line: str, cell: str) -> None:
    """Runs a cell, and puts what it brings back among the notebook's variables."""
    from IPython.core.error import UsageError

    parser = cell_parser()
    try:
        own, rest = parser.split(shlex.split(line))
        try:
            given = {k: v for k, v in vars(parser.parse_args(own)).items() if v is not None}
        except SystemExit:  # --help, which is no end of a notebook
            return
        if rest:
            parser.error(f"{rest[0]!r} is no option")
        name = f"<cell In[{shell.execution_count}]>"
        check_cell(cell, name)
        variables = _found(shell.user_ns, given.get("i", ()))
        options = JobOptions(**{k: v for k, v in given.items() if k not in _BROUGHT})
    except (TfdistError, ValueError) as error:  # shlex: an open quote
        raise UsageError(str(error).replace("; see %%tfdist --help", "")) from None
    call = Call(run_cell, (cell, name, variables, given.get("o", ())))
    brought: dict[str, Any] = run_call(call, options, prints=True)
    shell.user_ns.update(brought)


def _found(known: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The variables of those names.

    Raises:
        TfdistError: There is none of one of them.
    """
    for name in names:
        if name not in known:
            hint = nearest(name, [one for one in known if not one.startswith("_")])
            raise TfdistError(f"-i {name}: this notebook has no {name!r}{hint}")
    return {name: known[name] for name in names}
