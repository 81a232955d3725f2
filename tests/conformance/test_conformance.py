"""What `scripts/conformance` makes of what Keras' tests did; the run itself is too long for CI."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.conformance import differences, source
from tests.conformance.__main__ import STRATEGIES
from tests.conformance.differences import Difference
from tests.conformance.report import table, told
from tests.conformance.results import Result, Results
from tests.conformance.verdict import comparable, judge

PASSED = Result("passed", models=1)
KNOWN = Difference(("a_test.py::A::test_x*",), ("mirrored",), "6 != 5", "batches are numbered")


def failed(why: str) -> Result:
    return Result("failed", models=1, why=why)


def write(path: Path, **changed: object) -> Path:
    entry = {"tests": ["a*"], "on": ["mirrored"], "says": "no", "because": "it is so", **changed}
    path.write_text(json.dumps([entry]))
    return path


def test_the_committed_list_can_be_read() -> None:
    for difference in differences.read(differences.LIST, STRATEGIES):
        assert difference.because.endswith(".")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"why": "so"}, "because, on, says, tests"),
        ({"on": ["tpu"]}, "tpu"),
        ({"says": ""}, "empty"),
    ],
)
def test_a_wrong_list_is_refused(changed: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        differences.read(write(tmp_path / "list.json", **changed), STRATEGIES)


def test_a_difference_explains_its_tests_on_its_strategies_with_its_error() -> None:
    assert KNOWN.explains("a_test.py::A::test_x_1", "mirrored", "AssertionError: 6 != 5")
    assert not KNOWN.explains("a_test.py::A::test_y", "mirrored", "AssertionError: 6 != 5")
    assert not KNOWN.explains("a_test.py::A::test_x_1", "one_device", "AssertionError: 6 != 5")
    assert not KNOWN.explains("a_test.py::A::test_x_1", "mirrored", "AssertionError: 7 != 5")


def test_only_tests_that_pass_in_plain_keras_and_use_a_model_count() -> None:
    plain = {
        "passes": PASSED,
        "fails": failed("no"),
        "skips": Result("skipped"),
        "has no model": Result("passed"),
    }
    assert comparable(plain) == ["passes"]


def test_failures_are_told_apart_by_the_list() -> None:
    results = {
        "a_test.py::A::test_w": PASSED,
        "a_test.py::A::test_x": failed("6 != 5"),
        "a_test.py::A::test_y": failed("None values"),
        "a_test.py::A::test_skips": Result("skipped"),
        # and test_lost did not run
    }
    tests = [*results, "a_test.py::A::test_lost"]
    other = Difference(("b*",), ("mirrored", "one_device"), "no", "it was so")
    verdict = judge("mirrored", tests, results, [KNOWN, other])
    assert verdict.passed == ["a_test.py::A::test_w"]
    assert verdict.explained == [("a_test.py::A::test_x", KNOWN)]
    assert [test.rpartition("_")[2] for test, _ in verdict.unexplained] == ["y", "skips", "lost"]
    assert verdict.stale == [other]
    assert judge("mirrored", tests, results, [KNOWN, other], whole=False).stale == []
    assert table([verdict])[1].split() == ["mirrored", "1", "1", "3"]
    lines = "\n".join(told([verdict]))
    for expected in (
        "explained, 1: batches are numbered",
        "NOT EXPLAINED: a_test.py::A::test_y\n    None values",
        "no longer seen, take it off the list: it was so",
    ):
        assert expected in lines


def test_the_test_that_a_run_died_in_is_known_and_so_are_those_it_did_not_come_to() -> None:
    results = Results.of(
        [
            '{"collected": ["a", "b", "c"]}',
            '{"begins": "a"}',
            '{"test": "a", "outcome": "passed", "models": 2, "why": "", "seconds": 1}',
            '{"begins": "b"}',
            '{"test": "b", "outc',
        ]
    )
    assert results.done == {"a": Result("passed", 2)}
    assert results.current == "b"
    assert results.left == ["b", "c"]


def pack(archive: Path, *files: str) -> None:
    with tarfile.open(archive, "w:gz") as packed:
        for file in files:
            packed.addfile(tarfile.TarInfo(file), io.BytesIO())


def test_the_tests_of_the_nearest_version_stand_in_for_those_that_were_not_packed(
    tmp_path: Path,
) -> None:
    code = "keras-{}/keras/src/trainers/trainer.py"
    pack(tmp_path / "keras-3.14.0.tar.gz", code.format("3.14.0"))
    nearest = source.NEAREST
    test = code.format(nearest).replace(".py", "_test.py")
    pack(tmp_path / f"keras-{nearest}.tar.gz", code.format(nearest), test)
    tests, whose = source.fetch("3.14.0", tmp_path)
    assert whose == nearest
    assert [str(path.relative_to(tests)) for path in tests.rglob("*.py")] == [
        "trainers/trainer_test.py"
    ]
