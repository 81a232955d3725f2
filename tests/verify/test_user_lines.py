"""Lines are those of the user's program, not of the libraries that it calls."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.verify.fault import job
from tfdist.diagnose.verify import user_lines


def told(ask: Callable[[], str]) -> str:
    return ask()


def test_the_innermost_line_is_told() -> None:
    line = told(lambda: user_lines.line_of())
    assert line.startswith("test_user_lines.py, line ")
    assert line.endswith("in <lambda>")


def test_a_line_in_another_file_is_told_with_its_caller() -> None:
    found: list[str] = []
    kind = type(os.environ)
    original = kind.__getitem__

    def read(environ: object, name: str) -> str:
        if name == "TF_CONFIG":
            found.append(user_lines.asker())
        return original(environ, name)  # type: ignore[arg-type]

    kind.__getitem__ = read  # type: ignore[method-assign]
    try:
        job()
    finally:
        kind.__getitem__ = original  # type: ignore[method-assign]
    (line,) = found
    assert line.startswith("fault.py, line ")
    assert "in job, called in test_user_lines.py, line " in line


def test_who_asks_for_somebody_else_is_not_named() -> None:
    asked: list[str] = []

    class Numbers(random.Random):
        def seed(self, *_: object) -> None:
            asked.append(user_lines.asker(1))

    Numbers(1)
    assert asked[0].startswith("test_user_lines.py")
    assert not user_lines.is_users(os.__file__)
    assert not user_lines.is_users(user_lines.__file__)
    assert user_lines.is_users(__file__)


def test_where_a_class_is_written() -> None:
    assert user_lines.line_of_object(told).endswith("in told")
    assert user_lines.line_of_object(random.Random) == ""
    assert user_lines.line_of_object(3) == ""


def test_the_line_of_an_error() -> None:
    with pytest.raises(IndexError) as caught:
        told(lambda: [][0])
    assert "in <lambda>" in user_lines.line_of_error(caught.tb)
