"""Every private name of Keras and TensorFlow that tfdist uses is looked for before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import pytest

from tests.conftest import ROOT
from tfdist.compat import installed, names, patches
from tfdist.errors import PlugError

PYTHONS_OWN = {
    "_ActionsContainer",
    "_ArgumentGroup",
    "_current_frames",
    "_exit",
    "_getframe",
    "_replace",
    "_urandom",
}


def sources() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in (ROOT / "tfdist").rglob("*.py")]


def private_names_used(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The private names that a file asks objects for, and whether it asks what it inherits from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name, of = node.attr, node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            asked = node.args[1]
            name, of = str(getattr(asked, "value", "")), node.args[0]
        else:
            continue
        if name.startswith("_") and not name.startswith(("__", "_tfdist")):
            yield name, isinstance(of, ast.Call) and getattr(of.func, "id", "") == "super"


def private_names_made(tree: ast.Module) -> Iterator[str]:
    """The private names of a file's own functions, classes, fields and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        yield part.id
                    elif (
                        isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "self"
                    ):
                        yield part.attr


def looked_for() -> set[str]:
    parts = {name for owner, those in names.PARTS for name in (owner.__name__, *those)}
    return parts | {point.name for point in patches.POINTS.values()}


def test_everything_is_where_it_is_looked_for() -> None:
    assert names.moved() == []


def test_no_private_name_is_used_that_is_not_looked_for() -> None:
    made = {name for tree in sources() for name in private_names_made(tree)}
    # By contract it imports neither Keras nor TensorFlow: what its classes inherit is its own.
    launch = [ast.parse(path.read_text()) for path in (ROOT / "tfdist" / "launch").rglob("*.py")]
    of_launch = {name for tree in launch for name in private_names_made(tree)}
    used = {
        name
        for tree in sources()
        for name, inherited in private_names_used(tree)
        if (inherited and name not in of_launch) or name not in made
    }
    assert sorted(used - looked_for() - PYTHONS_OWN) == []


def test_no_private_name_of_others_is_used_outside_of_compat() -> None:
    made = {name for tree in sources() for name in private_names_made(tree)}
    compat = ROOT / "tfdist" / "compat"
    outside = [path for path in (ROOT / "tfdist").rglob("*.py") if compat not in path.parents]
    used = {
        f"{path.name}: {name}"
        for path in outside
        for name, _ in private_names_used(ast.parse(path.read_text()))
        if name not in made | PYTHONS_OWN
    }
    assert sorted(used) == []


def test_no_private_name_is_looked_for_that_is_not_used() -> None:
    used = {name for tree in sources() for name, _ in private_names_used(tree)}
    trainer = ast.parse((ROOT / "tfdist" / "compat" / "keras_trainer.py").read_text())
    used |= {str(one.value) for one in ast.walk(trainer) if isinstance(one, ast.Constant)}
    private = {name for _, those in names.PARTS for name in those if name.startswith("_")}
    assert sorted(private - used) == []


class Made:
    kept = 1

    def __init__(self) -> None:
        self._given = 1

    def read(self) -> Any:
        return self._given, self._read_only  # type: ignore[attr-defined]


class Child(Made):
    pass


@pytest.mark.parametrize(("name", "there"), [("kept", True), ("_given", True), ("read", True)])
def test_what_a_class_gives_to_its_objects_counts_as_there(name: str, there: bool) -> None:
    assert names.has(Child, name) is there


def test_what_is_only_read_does_not_count_as_there() -> None:
    assert not names.has(Child, "_read_only")


def test_a_name_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(names.keras_masking, "get_keras_mask")
    assert names.moved() == ["keras.src.backend.common.masking has no get_keras_mask"]


def test_a_parameter_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "_symbolic_build", lambda self, iterator=None: None)
    assert names.moved() == ["keras.Model._symbolic_build takes no data_batch"]


def test_a_function_to_be_replaced_that_is_another_one_is_told() -> None:
    assert names.moved_parameters("a.b", lambda x, y: None, ("x",)) == ["a.b takes (x, y)"]
    assert names.moved_parameters("a.b", None, ("x",)) == ["there is no a.b"]


@pytest.mark.parametrize("version", ["3.13.2", "3.17.0", "4.0.0"])
def test_the_check_itself_refuses_another_keras(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.check_versions()
    monkeypatch.setattr(keras, "__version__", version)
    with pytest.raises(PlugError, match=f"^Keras {version} is installed, and tfdist is tested "):
        installed.check_versions()


MOVED = """
import sys
import keras, keras.src.losses.loss
import tfdist

def refused():
    try:
        tfdist.strategy("one_device")
    except tfdist.errors.PlugError as error:
        print("refused:", error)

del keras.src.losses.loss.scale_loss_for_distribution
refused()
keras.__version__ = "3.17.0"
refused()
"""


def test_a_strategy_is_refused_in_one_sentence_before_it_is_made() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", MOVED], capture_output=True, text=True, timeout=200, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stdout.splitlines() if line.startswith("refused: ")]
    assert len(told) == 2
    moved = (
        "what tfdist uses of it has moved: there is no "
        "keras.src.losses.loss.scale_loss_for_distribution): "
    )
    assert told[0].startswith(f"refused: Keras {keras.__version__} is installed ({moved}")
    assert told[1].startswith("refused: Keras 3.17.0 is installed, and tfdist is tested with 3.14")
    assert moved in told[1]
