"""What a task leaves behind is read again as it was, an error as its type wherever that can be."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tfdist.cluster import Task
from tfdist.errors import LaunchError
from tfdist.functions import outcome

WORKER = Task("worker", 1)


class Wants(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("wants")
        self.code = code


class Speaks(ValueError):
    """Says what only its task has."""

    def __init__(self) -> None:
        super().__init__("speaks")
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return f"speaks while locked: {self.lock.locked()}"


def come_back(raise_it: Callable[[], object], folder: Path) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        outcome.write_error(folder, WORKER, error)
    left = outcome.read(folder, WORKER, Path("worker-1.log"))
    assert left is not None
    assert left.error is not None
    return left.error


def thrower(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


@pytest.mark.parametrize(
    ("raise_it", "kind", "text"),
    [
        (thrower(KeyError("x")), KeyError, "'x'"),
        (lambda: json.loads("{"), json.JSONDecodeError, "Expecting property name"),
        (lambda: b"\xff".decode(), UnicodeDecodeError, "invalid start byte"),
        (thrower(ExceptionGroup("both", [ValueError(1)])), ExceptionGroup, "both (1 sub-exc"),
        (thrower(Wants(code=3)), Wants, "wants"),
        (thrower(ValueError(threading.Lock())), ValueError, "lock"),
        (thrower(Speaks()), ValueError, "Speaks: speaks while locked: False"),
        (thrower(OSError(2, "gone", "file")), FileNotFoundError, "gone: 'file'"),
    ],
)
def test_an_error_comes_back_as_what_it_was(
    raise_it: Callable[[], object], kind: type, text: str, tmp_path: Path
) -> None:
    error = come_back(raise_it, tmp_path)
    assert type(error) is kind
    assert text in str(error)
    assert "Traceback (most recent call last)" in str(error.__cause__)
    assert error.__notes__ == ["raised in worker:1, whose log is worker-1.log"]


def test_what_an_error_carries_comes_back(tmp_path: Path) -> None:
    error = come_back(thrower(Wants(code=3)), tmp_path)
    assert isinstance(error, Wants)
    assert error.code == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_caller_comes_back_as_an_error(
    error: BaseException, tmp_path: Path
) -> None:
    found = come_back(thrower(error), tmp_path)
    assert type(found) is LaunchError
    assert str(found).startswith(f"worker:1 ended by {type(error).__name__}")


def test_a_value_comes_back_and_a_new_life_forgets_it(tmp_path: Path) -> None:
    outcome.write_value(tmp_path, WORKER, {"a": [1]}, "what f has returned")
    left = outcome.read(tmp_path, WORKER, Path("log"))
    assert left is not None
    assert (left.value, left.error) == ({"a": [1]}, None)
    outcome.forget(tmp_path, WORKER)
    assert outcome.read(tmp_path, WORKER, Path("log")) is None
    outcome.forget(tmp_path, WORKER)


def test_a_value_that_is_half_written_is_none(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="what f has returned cannot go to another process"):
        outcome.write_value(tmp_path, WORKER, threading.Lock(), "what f has returned")
    assert outcome.read(tmp_path, WORKER, Path("log")) is None
