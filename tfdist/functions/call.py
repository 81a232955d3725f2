"""What a job of a function is to call, checked and packed before anything starts."""

from __future__ import annotations

import functools
import importlib.machinery
import inspect
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from tfdist.cluster.task import nearest
from tfdist.errors import LaunchError
from tfdist.functions.pickling import Packer, Unpackable, pack

__all__ = ["CALL_FILE", "SOURCES_FILE", "Call", "Header", "name_of", "write_call"]

CALL_FILE = "call.pickle"
"""In the folder that the caller and the tasks share: a `Header`, then the function and the rest."""

_one_at_a_time = threading.Lock()  # what cloudpickle packs by value holds for all threads

SOURCES_FILE = "sources.pickle"
"""Beside it: the lines of what was defined in no file."""


@dataclass(frozen=True)
class Header:
    """What a task must know before it reads the function.

    Attributes:
        path: Where modules are looked for, `sys.path` of the caller.
        strategy: The kind of strategy that is made first, in whose scope all else happens; None
            where the function makes its own.
        returns: Whose values are wanted: "chief" or "all".
        deadline: By the clock of `time.monotonic`, when the caller ends the job; None for never.
    """

    path: tuple[str, ...]
    strategy: str | None = None
    returns: str = "chief"
    deadline: float | None = None


@dataclass(frozen=True)
class Call:
    """A function and its arguments.

    Attributes:
        function: What is called in each task.
        args: Its positional arguments.
        kwargs: Its arguments by name.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What it is called in errors: "train"."""
        return name_of(self.function)

    def check(self, options: Sequence[str] = ()) -> None:
        """Refuses what could not be called, before seconds go into starting tasks.

        Args:
            options: The names that tfdist.run itself takes.

        Raises:
            LaunchError: It is no function, or its arguments do not fit.
        """
        if not callable(self.function):
            raise LaunchError(
                f"tfdist.run({self.function!r}): give a function, and its arguments after it, as "
                "tfdist.run(train, 3, workers=2)"
            )
        if inspect.iscoroutinefunction(self.function):
            raise LaunchError(
                f"{self.name} is a coroutine function: give an ordinary one, which may call "
                "asyncio.run"
            )
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # of one that is written in C: it says so itself
            return
        try:
            signature.bind(*self.args, **(self.kwargs or {}))
        except TypeError as error:
            hints = [nearest(name, options) for name in self.kwargs or () if name not in options]
            unknown = "unexpected keyword" in str(error)
            hint = next((one for one in hints if one), "") if unknown else ""
            raise LaunchError(
                f"{self.name}{signature} cannot be called so: {error}{hint}"
            ) from None


def name_of(function: object) -> str:
    """What a function is called in errors: "train"."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__name__)
    return name.rpartition("<locals>.")[2]


def write_call(path: Path, header: Header, call: Call, *, scoped: bool) -> None:
    """Packs a call into the file that each task reads.

    Args:
        path: The file.
        header: What comes first in it.
        call: The function and its arguments.
        scoped: Whether the tasks are in a strategy's scope when they read them.

    Raises:
        Unpackable: Something cannot go to another process; the message names it.
        LaunchError: The file cannot be written.
    """
    name = call.name
    try:
        with _one_at_a_time, path.open("wb") as file, _by_value(call.function):
            pack(header, file, "there", "the job")
            body = (call.function, call.args, dict(call.kwargs or {}))
            try:
                packer = pack(body, file, "there", name)
            except Unpackable as error:
                raise _located(call, error) from None
            if packer.needs_scope and not scoped:
                culprit = _first(call, lambda part: _needs_scope(part)) or name
                raise Unpackable(
                    f"{culprit} holds a Keras model, layer, optimizer or metric, whose variables a "
                    'task can make only in its strategy\'s scope: give strategy="auto" (or '
                    f"plug=True), or make it inside of {name}"
                )
        with path.with_name(SOURCES_FILE).open("wb") as file:
            pickle.dump(packer.sources, file)
    except OSError as error:
        raise LaunchError(f"{path} cannot be written: {error.strerror or error}") from None


def _located(call: Call, error: Unpackable) -> Unpackable:
    """The same error, with the variable or the argument that it is about."""
    found: list[Unpackable] = []

    def fails(part: tuple[str, object]) -> bool:
        try:
            _pack_away(part)
        except Unpackable as own:
            found.append(own)
            return True
        except LaunchError:
            return False
        return False

    return found[0] if _first(call, fails) and found else error


def _needs_scope(part: tuple[str, object]) -> bool:
    return _pack_away(part).needs_scope


def _pack_away(part: tuple[str, object]) -> Packer:
    with open(os.devnull, "wb") as nowhere:
        return pack(part[1], nowhere, "there", part[0])


def _first(call: Call, is_it: Callable[[tuple[str, object]], bool]) -> str:
    """The name of the first argument or variable of a call of which something is true."""
    return next((part[0] for part in _parts(call) if is_it(part)), "")


def _parts(call: Call) -> Iterator[tuple[str, object]]:
    """Each value that a call holds, with its name in errors."""
    for number, value in enumerate(call.args, 1):
        yield f"argument {number} of {call.name}", value
    for name, value in (call.kwargs or {}).items():
        yield f"argument {name!r} of {call.name}", value
    inner = call.function
    while isinstance(inner, functools.partial):
        for value in (*inner.args, *inner.keywords.values()):
            yield f"an argument of {call.name}", value
        inner = inner.func
    yield from _variables(inner, call.name, set())


def _variables(function: object, name: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """What a function refers to, then what functions of the same module refer to that it calls."""
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type | ModuleType):
        yield f"the object of {name}", owner
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function) or id(function) in seen:
        return
    seen.add(id(function))
    found = inspect.getclosurevars(function)
    called = []
    for variable, value in {**found.nonlocals, **found.globals}.items():
        if inspect.isfunction(value) and value.__module__ == function.__module__:
            called.append((value, variable))
        else:
            yield f"{variable!r}, which {name} uses,", value
    for default in function.__defaults__ or ():
        yield f"a default of {name}", default
    for value, variable in called:
        yield from _variables(value, variable, seen)


class _by_value:  # noqa: N801 a context manager
    """Has cloudpickle pack a function's module by value where the tasks would not find it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        name = "" if module is None else module.__name__
        hidden = module is not None and name != "__main__" and not _is_found(name)
        self._module = module if hidden else None
        if module is not None and name in cloudpickle.list_registry_pickle_by_value():
            self._module = None

    def __enter__(self) -> None:
        if self._module is not None:
            cloudpickle.register_pickle_by_value(self._module)

    def __exit__(self, *_: object) -> None:
        if self._module is not None:
            cloudpickle.unregister_pickle_by_value(self._module)


def _is_found(name: str) -> bool:
    """Whether a fresh interpreter with the same path would find a module."""
    if name in sys.builtin_module_names:
        return True
    path: Sequence[str] | None = None
    words = name.split(".")
    for number in range(len(words)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(words[: number + 1]), path)
        if spec is None:
            # An editable install may have a finder of its own, which knows all that it has.
            return _is_known_to_a_finder(words[0]) if number == 0 else False
        path = list(spec.submodule_search_locations or ())
    return True


def _is_known_to_a_finder(name: str) -> bool:
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder or not hasattr(finder, "find_spec"):
            continue
        if type(finder).__module__.startswith("_pytest") or "pytest" in type(finder).__module__:
            continue
        if finder.find_spec(name, None) is not None:
            return True
    return False
