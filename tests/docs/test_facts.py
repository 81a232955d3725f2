"""What the pages list is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docs.pages import DOCS
from tfdist import cli, errors
from tfdist.strategies.strategy_options import KINDS, Options
from tfdist.training.plug_options import TrainingOptions


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the tables under a heading, by what stands in their first cells."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row for row in cells}


def default(row: list[str]) -> str:
    return row[2].strip("`")


@pytest.mark.parametrize(("heading", "options"), [("strategy", Options), ("plug", TrainingOptions)])
def test_every_option_is_there_with_its_default(heading: str, options: Any) -> None:
    told = rows("options.md", heading)
    told.pop("kind", None), told.pop("cluster", None)
    fields = {field.name: field.default for field in dataclasses.fields(options)}
    assert told.keys() == fields.keys()
    for name, value in fields.items():
        wanted = f'"{value}"' if isinstance(value, str) else str(value)
        if name != "rendezvous_timeout":  # None stands for what the environment says
            assert default(told[name]) == wanted, name


def test_every_kind_of_strategy_is_there() -> None:
    text = (DOCS / "strategies" / "index.md").read_text()
    assert set(re.findall(r'^\| \[`"(\w+)"`\]', text, re.MULTILINE)) == {*KINDS} - {"auto"}


@pytest.mark.parametrize(
    ("command", "page"), [("run", "running.md"), ("submit kubernetes", "kubernetes.md")]
)
def test_every_option_of_a_command_is_there(
    command: str, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help-all"])
    there = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
    assert {name.split()[0] for name in rows(page, "Options")} == there - {"--help_all", "--debug"}


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    tree = "\n".join(
        line[4:] for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")
    )
    assert f"```text\n{tree}\n```" in (DOCS / "errors.md").read_text()


def test_the_exit_codes_are_those_of_the_code() -> None:
    text = (DOCS / "errors.md").read_text()
    lines = re.findall(r"^\| (\d+) \| (.+?) \| (.*?) ?\|$", text, re.MULTILINE)
    assert {int(code): meaning for code, meaning, _ in lines} == errors.EXIT_CODES
    for code, _, names in lines:
        for name in re.findall(r"`(\w+)`", names):
            assert getattr(errors, name).exit_code == int(code), name
    told = {name for _, _, names in lines for name in re.findall(r"`(\w+)`", names)}
    there = {name for name, one in vars(errors).items() if inspect.isclass(one)}
    assert told == there - {"TfdistError"}


def test_what_the_architecture_points_to_is_there() -> None:
    text = (DOCS / "architecture.md").read_text().split("\n## Where to look for\n")[1]
    paths = re.findall(r"`(tfdist/\S+)`", text.split("\n## ")[0])
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
