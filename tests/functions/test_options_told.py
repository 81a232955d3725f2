"""What the page on functions and `tfdist.run` say of the options is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re

import tfdist
from tests.docs.pages import DOCS
from tfdist.functions.job_options import KINDS, OPTIONS, JobOptions
from tfdist.notebook import cell_parser
from tfdist.strategies import strategy_options


def test_run_takes_each_option_with_its_default() -> None:
    parameters = inspect.signature(tfdist.run).parameters
    for one in dataclasses.fields(JobOptions):
        assert parameters[one.name].default == one.default, one.name
    assert set(parameters) - set(OPTIONS) == {"function", "args", "kwargs"}


def test_the_page_lists_each_option() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", (DOCS / "functions.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(OPTIONS) <= listed


def test_the_kinds_are_those_of_strategy() -> None:
    assert set(KINDS) == set(strategy_options.KINDS)


def test_the_options_of_a_cell_are_those_of_run() -> None:
    names = {name.lstrip("-") for name in cell_parser().takes_value}
    assert names - {"h", "help", "help_all", "debug", "i", "o"} < set(OPTIONS)
