"""Another Keras than the tested ones is refused in one sentence that names what has moved."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tfdist.compat import versions


@pytest.mark.parametrize("version", ["3.14.1", "3.15.0", "3.15.1", "3.16.0.dev2026102704"])
def test_a_tested_keras_where_nothing_has_moved_is_no_matter(version: str) -> None:
    assert versions.refusal(version, []) is None


@pytest.mark.parametrize("version", ["3.17.0", "3.17.0.dev2027010101", "3.100.1", "4.0.1", "new"])
def test_a_keras_that_nobody_has_tested_is_refused(version: str) -> None:
    said = versions.refusal(version, [])
    assert said == (
        f"Keras {version} is installed, and tfdist is tested with 3.14, 3.15 and 3.16 (nothing "
        "that tfdist uses of it has moved, but nobody has tested it): "
        'pip install "keras>=3.14,<3.16", or a tfdist that knows this Keras'
    )


@pytest.mark.parametrize("version", ["3.13.2", "3.9.0", "2.15.0"])
def test_a_keras_of_before_is_refused_with_the_reason(version: str) -> None:
    said = versions.refusal(version, ["there is no keras.src.trainers"])
    assert said == (
        f"Keras {version} is installed, and tfdist is tested with 3.14, 3.15 and 3.16 (before "
        "3.14 activity regularizers are summed over a batch, so N replicas cannot equal one): "
        'pip install "keras>=3.14,<3.16", or a tfdist that knows this Keras'
    )


def test_what_has_moved_is_named_and_the_rest_is_counted() -> None:
    moved = ["there is no keras.src.a", "keras.src.b has no c", "d takes (e)", "f", "g"]
    said = versions.refusal("3.17.0", moved)
    assert said is not None
    assert (
        "(what tfdist uses of it has moved: there is no keras.src.a; keras.src.b has no c; "
        "d takes (e); 2 more)"
    ) in said


def test_a_tested_keras_in_which_something_has_moved_is_refused_too() -> None:
    said = versions.refusal("3.16.2", ["keras.src.b has no c"])
    assert said == (
        "Keras 3.16.2 is installed (what tfdist uses of it has moved: keras.src.b has no c): "
        'pip install "keras>=3.14,<3.16", or a tfdist that knows this Keras'
    )


def test_what_pip_installs_has_been_tested() -> None:
    asked = re.search(r'"keras>=([\d.]+),<([\d.]+)"', (ROOT / "setup.py").read_text())
    assert asked is not None
    oldest, next_one = asked.groups()
    assert oldest == versions.TESTED[0]
    assert next_one == versions.TESTED[-1]  # a nightly only: pip must not install its release
    assert asked.group() in str(versions.refusal("3.17.0", []))


@pytest.mark.parametrize(
    ("version", "anew"),
    [("3.14.1", False), ("3.15.0", True), ("3.15.1", True), ("3.16.0.dev2026102704", True)],
)
def test_from_which_keras_on_a_single_batch_counts_anew(version: str, anew: bool) -> None:
    assert versions.batches_count_anew(version) is anew
