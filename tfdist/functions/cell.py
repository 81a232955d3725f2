"""A notebook's cell as a script: what `%%tfdist` has every task run."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from tfdist.errors import LaunchError
from tfdist.functions.sources import remember

__all__ = ["check_cell", "run_cell"]


def check_cell(text: str, name: str) -> None:
    """Refuses a cell that is no Python, before anything starts.

    Args:
        text: The cell.
        name: What tracebacks call it.

    Raises:
        LaunchError: It has commands of the notebook's own.
        SyntaxError: It is none otherwise.
    """
    try:
        compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()
        if line.startswith(("!", "%", "?")):
            raise LaunchError(
                f"line {error.lineno} of the cell, {line!r}, is a command of the notebook, which a "
                "script has not: put it into a cell of its own"
            ) from None
        raise


def run_cell(
    text: str, name: str, variables: Mapping[str, Any], wanted: Sequence[str]
) -> dict[str, Any]:
    """Runs a cell as `__main__` of this process.

    Args:
        text: The cell.
        name: What tracebacks call it.
        variables: What it finds defined.
        wanted: The names of what is to be brought back.

    Returns:
        What was wanted, by its names.

    Raises:
        LaunchError: The cell has not defined what is wanted.
    """
    remember({name: text.splitlines(keepends=True)})
    module = types.ModuleType("__main__")
    vars(module).update(variables)
    sys.modules["__main__"] = module
    try:
        exec(compile(text, name, "exec", dont_inherit=True), vars(module))
    except SystemExit as end:  # without a code it is a script's good end
        if end.code not in (None, 0) or any(one not in vars(module) for one in wanted):
            raise
    missing = [one for one in wanted if one not in vars(module)]
    if missing:
        raise LaunchError(f"-o {','.join(missing)}: the cell has not defined {missing[0]!r}")
    return {one: vars(module)[one] for one in wanted}
