"""What a task tells is a line; whoever hears it puts lines together, whatever comes between."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.progress import PHASES, PhaseSeconds, Record, RecordReader, Span

RECORD = Record(
    12.5,
    fit=1,
    phase="input",
    still=0.5,
    epoch=1,
    epochs=3,
    step=20,
    steps=100,
    batch=64,
    seconds=PhaseSeconds(1, 2, None, 4, 5),
    logs={"loss": 0.25, "accuracy": math.inf},
    validation={"val_loss": 0.5},
    saving=True,
    spans=(Span("compute", 11.0, 0.25, 19),),
)
_reals = st.floats(0, 1e6).map(lambda value: round(value, 6))
records = st.builds(
    Record,
    at=_reals,
    fit=st.integers(0, 9),
    phase=st.sampled_from(["", *PHASES]),
    step=st.integers(0, 10**9),
    steps=st.none() | st.integers(0, 10**9),
    seconds=st.builds(PhaseSeconds, st.none() | _reals, _reals, st.none() | _reals),
    logs=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    validation=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    spans=st.lists(st.builds(Span, st.sampled_from(PHASES), _reals, _reals)).map(tuple),
)


@settings(deadline=None)
@given(records)
def test_what_was_written_is_read(record: Record) -> None:
    assert Record.from_line(record.to_line()) == record


@settings(deadline=None)
@given(st.lists(records, max_size=3), st.data())
def test_records_are_put_together_however_they_are_cut(given: list[Record], data: Any) -> None:
    text = b"".join(one.to_line() for one in given)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    reader = RecordReader()
    found: list[Record] = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += reader.feed(text[begin:end])
    assert found == given


def test_a_number_that_is_none_comes_through() -> None:
    line = Record(1.0, logs={"loss": math.nan}).to_line()
    assert b"NaN" not in line  # which no other reader of JSON knows
    assert math.isnan(Record.from_line(line).logs["loss"])


@settings(deadline=None)
@given(st.binary())
def test_what_is_no_record_is_passed_over(noise: bytes) -> None:
    reader = RecordReader()
    assert reader.feed(noise.replace(b"\n", b"") + b"\n") == []
    assert reader.feed(RECORD.to_line()) == [RECORD]


def test_a_line_that_never_ends_fills_no_memory() -> None:
    reader = RecordReader()
    for _ in range(100):
        assert reader.feed(b"x" * 10_000) == []
    assert len(reader._read) <= 1 << 17
    assert reader.feed(b"\n" + RECORD.to_line()) == [RECORD]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phase": "lunch"}, "phase 'lunch'"),
        ({"step": -1}, "whole numbers"),
        ({"steps": 1.5}, "whole numbers"),
        ({"at": math.nan}, "a time of nan"),
    ],
)
def test_a_record_checks_itself(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Record(**{"at": 1.0, **change})


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b'{"at":1}', RECORD.to_line().replace(b"compute", b"lunch")]
)
def test_a_line_that_is_none_says_so(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"no record|phase|span"):
        Record.from_line(line)
