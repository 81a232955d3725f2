"""What a task of a called function leaves behind: a value, or the error that has ended it.

Each task writes one file, whole or not at all, which the caller reads once the job has ended. The
caller trusts it: the tasks are processes of its own user, and the folder is that user's alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from tfdist.cluster import Task
from tfdist.errors import LaunchError
from tfdist.functions.pickling import pack, unpack

__all__ = ["Outcome", "RemoteTraceback", "forget", "read", "write_error", "write_value"]

_ENDS_THE_CALLER = (SystemExit, KeyboardInterrupt, GeneratorExit)


class RemoteTraceback(Exception):
    """The traceback of an error in the task where it was raised: the cause of the error here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True)
class Outcome:
    """What one task has left behind.

    Attributes:
        task: Which task.
        value: What the function has returned there.
        error: What it has raised instead, of the same type; None where it has returned.
        knows_keras: Whether Keras was imported there, so that it may have trained.
    """

    task: Task
    value: Any = None
    error: BaseException | None = None
    knows_keras: bool = False


def write_value(folder: Path, task: Task, value: object, what: str) -> None:
    """Leaves a value behind.

    Args:
        folder: That of the job's files.
        task: Which task has it.
        value: The value; nothing of it is kept by reference.
        what: Its name in errors.

    Raises:
        Unpackable: It cannot go to another process.
        LaunchError: It cannot be written.
    """
    path = _path(folder, task)
    try:
        with path.with_suffix(".part").open("wb") as file:
            pickle.dump("value", file)
            pickle.dump("keras" in sys.modules, file)
            pack(value, file, "back", what)
        path.with_suffix(".part").replace(path)
    except OSError as error:
        raise LaunchError(f"{what} cannot be written: {error.strerror or error}") from None


def write_error(folder: Path, task: Task, error: BaseException) -> None:
    """Leaves an error behind, as much of it as can go to another process.

    Args:
        folder: That of the job's files.
        task: Which task has raised it.
        error: What was raised.
    """
    text = "".join(traceback.format_exception(type(error), error, _own_frames(error)))
    path = _path(folder, task)
    with contextlib.suppress(OSError):  # a full disk: the log tells
        with path.with_suffix(".part").open("wb") as file:
            pickle.dump("error", file)
            pickle.dump(text, file)
            file.write(_packed_error(error))
        path.with_suffix(".part").replace(path)


def read(folder: Path, task: Task, log: Path) -> Outcome | None:
    """Reads what a task has left behind.

    Args:
        folder: That of the job's files.
        task: Which task.
        log: Of that task, for the error's notes.

    Returns:
        None where it was ended before it left anything, or has never called the function.

    Raises:
        LaunchError: Its value cannot be read here.
    """
    path = _path(folder, task)
    if not path.exists():
        return None
    with path.open("rb") as file:
        if pickle.load(file) == "value":
            knows_keras = pickle.load(file)
            try:
                return Outcome(task, unpack(file), knows_keras=knows_keras)
            except Exception as error:
                raise LaunchError(
                    f"what {task} has returned cannot be read here ({type(error).__name__}: "
                    f"{error}): return numbers, text, arrays, or objects of modules that are here"
                ) from error
        text: str = pickle.load(file)
        raised: BaseException
        try:
            raised = unpack(file)
        except Exception as wrong:
            raised = LaunchError(
                f"{text.strip().splitlines()[-1]} (cannot be read here: {type(wrong).__name__}: "
                f"{wrong})"
            )
    if isinstance(raised, _ENDS_THE_CALLER):
        return Outcome(task, error=_harmless(raised, task, text))
    raised.__cause__ = RemoteTraceback(text)
    raised.add_note(f"raised in {task}, whose log is {log}")
    return Outcome(task, error=raised)


def forget(folder: Path, task: Task) -> None:
    """Removes what a task that is started again has left behind before."""
    _path(folder, task).unlink(missing_ok=True)


def _path(folder: Path, task: Task) -> Path:
    return folder / f"{task.type}-{task.index}.outcome"


def _own_frames(error: BaseException) -> Any:
    """The frames of an error from the function on, without those that have called it."""
    trace = error.__traceback__
    while trace is not None and os.path.dirname(__file__) in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return trace or error.__traceback__


def _harmless(error: BaseException, task: Task, text: str) -> LaunchError:
    """An error for one that would end the caller's own process, or look like its user's Ctrl-C."""
    given = f"({error.code!r})" if isinstance(error, SystemExit) else ""
    wrapped = LaunchError(f"{task} ended by {type(error).__name__}{given}")
    wrapped.__cause__ = RemoteTraceback(text)
    return wrapped


def _packed_error(error: BaseException) -> bytes:
    """The bytes of the error, or of one of its type, or of the nearest type that can travel."""
    with contextlib.suppress(Exception):
        data = _packed(error)
        again = pickle.loads(data)
        if type(again) is type(error) and str(again) == str(error):
            return data
    args = tuple(one if _travels(one) else repr(one) for one in error.args)
    state = {name: one for name, one in vars(error).items() if _travels(one)}
    for kind in type(error).__mro__:
        with contextlib.suppress(Exception):
            said = args
            if kind is not type(error):
                said, state = (f"{type(error).__name__}: {error}",), {}
            data = _packed(_Remade(kind, said, state))
            if type(pickle.loads(data)) is kind:
                return data
    return _packed(RuntimeError(f"{type(error).__name__}: {error}"))


def _travels(value: object) -> bool:
    try:
        pickle.loads(_packed(value))
    except Exception:
        return False
    return True


def _packed(value: object) -> bytes:
    file = io.BytesIO()
    cloudpickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


@dataclass(frozen=True)
class _Remade:
    """Becomes an error when it is read, without a call of the class's own `__init__`."""

    kind: type[Any]
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.kind, self.args, self.state)


def _remake(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(state)
    str(error)  # where this fails, the one who has packed it takes the next kind
    return error
