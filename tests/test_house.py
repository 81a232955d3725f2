"""The house is easy to find one's way in: small files with names of their own, rooms with doors."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import LEFT_TO_CI, LONGEST, NEAR_TWINS, ROOT, left_out

HOUSE = ROOT / "tfdist"
FILES = sorted(HOUSE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ROOMS = sorted(path.parent for path in FILES if path.name == "__init__.py")
INNER_ROOMS = [room for room in ROOMS if room != HOUSE]
MOST_LINES = 400


def test_no_two_files_have_one_name() -> None:
    names = Counter(path.name for path in FILES if not path.name.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (*FILES, *TESTS)}
    long = {str(path.relative_to(ROOT)): count for path, count in lines.items()}
    assert {name: count for name, count in long.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_has_a_door_that_says_what_it_is_for(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert said is not None
    assert said.partition("\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("room", INNER_ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_has_a_line_for_each_of_its_files_and_for_nothing_else(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    named = re.findall(r"^`([\w.]+/?)`: \S", said, re.MULTILINE)
    assert sorted(named) == sorted(_contents(room))


def test_the_plan_of_rooms_names_all_that_lies_in_the_house_and_nothing_else() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    plan = text.partition("## The plan of rooms")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", plan, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert [name for name in named if not (HOUSE / name).exists()] == []
    assert _contents(HOUSE) - set(named) == set()
    assert {name: n for name, n in Counter(named).items() if n > 1} == {}


def _contents(room: Path) -> set[str]:
    """The files of a room, and the rooms in it, as "job.py" and "hosts/"."""
    files = {path.name for path in room.glob("*.py")} - {"__init__.py"}
    return files | {f"{door.parent.name}/" for door in room.glob("*/__init__.py")}


def test_there_is_no_room_for_odds_and_ends() -> None:
    odd = {"utils", "util", "helpers", "misc", "common", "internals"}
    assert [path.name for path in FILES if path.stem in odd or path.parent.name in odd] == []


@pytest.mark.parametrize("room", ["", "training"])
def test_every_room_has_its_place_in_the_import_contracts(room: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    inside = ["tfdist.training"] if room else None
    (layers,) = [
        contract["layers"]
        for contract in settings["contracts"]
        if contract["type"] == "layers" and contract.get("containers") == inside
    ]
    placed = {name.removeprefix("tfdist.") for row in layers for name in re.split(r" [|:] ", row)}
    here = HOUSE / room
    files, doors = here.glob("*.py"), here.glob("*/__init__.py")
    there = {path.stem for path in files} | {path.parent.name for path in doors}
    assert there - {"__init__"} == placed


def test_the_files_that_the_tests_begin_with_are_there() -> None:
    listed = LONGEST.read_text().split()
    assert [name for name in listed if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("listed", [NEAR_TWINS, LEFT_TO_CI], ids=lambda path: path.stem)
def test_the_tests_that_are_left_out_are_there(listed: Path) -> None:
    gone = [
        f"{file} {name}"
        for file, names in left_out(listed).items()
        for name in names
        if name
        and f"def {name.removeprefix('@').partition('[')[0]}(" not in (ROOT / file).read_text()
    ]
    assert gone == []


def test_a_test_is_ended_by_itself_before_it_ends_the_session() -> None:
    """A session is ended where a test takes longer than `faulthandler_timeout`."""
    (longest,) = re.findall(r"faulthandler_timeout=(\d+)", (ROOT / "scripts" / "test").read_text())
    long = {
        path.name: seconds
        for path in TESTS
        for seconds in re.findall(r"pytest\.mark\.timeout\((\d+)", path.read_text())
        if int(seconds) > 0.8 * int(longest)
    }
    assert long == {}
