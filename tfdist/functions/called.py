"""The program of each task of a called function: `python -m tfdist.functions.called FOLDER`.

It is a script like any other to the rest of tfdist: what the function raises is uncaught, its
traceback stands at the end of the log, and the exit code is the error's own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

from tfdist import process
from tfdist.exits import tell_by_exit_code
from tfdist.functions import outcome
from tfdist.functions.call import CALL_FILE, SOURCES_FILE, Header, name_of
from tfdist.functions.deadline import STACKS_SUFFIX
from tfdist.functions.pickling import unpack
from tfdist.functions.sources import remember

__all__ = ["main"]

_BEFORE_THE_DEADLINE = 0.3


def main(folder: Path) -> None:
    """Calls the function, and leaves its value or its error in the folder.

    Args:
        folder: Where the caller has put the call, and looks for what comes of it.
    """
    task = process.current().task
    assert task is not None
    outcome.forget(folder, task)
    try:
        with (folder / CALL_FILE).open("rb") as file:
            header: Header = unpack(file)
            _watch_the_deadline(header, folder / f"{task.type}-{task.index}{STACKS_SUFFIX}")
            remember(pickle.loads((folder / SOURCES_FILE).read_bytes()))
            sys.path[:] = [*header.path, *(one for one in sys.path if one not in header.path)]
            with _scope(header.strategy):
                function, args, kwargs = unpack(file)
                value = function(*args, **kwargs)
        if header.returns == "all" or process.current().is_chief:
            outcome.write_value(folder, task, value, f"what {name_of(function)} has returned")
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (None, 0)):
            outcome.write_error(folder, task, error)
        raise


def _scope(kind: str | None) -> contextlib.AbstractContextManager[Any]:
    if kind is None:
        return contextlib.nullcontext()
    import tfdist

    return tfdist.strategy(kind).scope()


def _watch_the_deadline(header: Header, path: Path) -> None:
    """Has this process write where its threads are, just before the caller ends it."""
    if header.deadline is None:
        return
    left = header.deadline - time.monotonic() - _BEFORE_THE_DEADLINE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    faulthandler.dump_traceback_later(max(0.05, left), file=descriptor)


if __name__ == "__main__":
    tell_by_exit_code()
    main(Path(sys.argv[1]))
