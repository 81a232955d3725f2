"""A cell that ends itself, as scripts do, has ended well where it has what is wanted."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tfdist.functions.cell import run_cell


@pytest.fixture(autouse=True)
def _main_comes_back() -> Iterator[None]:
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def test_a_cell_may_end_itself_once_it_has_what_is_wanted() -> None:
    ends = "import sys\ny = x + 1\nsys.exit()\nz = 1\n"
    assert run_cell(ends, "<cell>", {"x": 1}, ["y"]) == {"y": 2}
    with pytest.raises(SystemExit):
        run_cell(ends, "<cell>", {"x": 1}, ["y", "z"])
    with pytest.raises(SystemExit) as caught:
        run_cell("raise SystemExit(3)\n", "<cell>", {}, [])
    assert caught.value.code == 3
