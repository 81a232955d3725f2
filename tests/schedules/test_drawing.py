"""Pictures of schedules, planned and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfdist.errors import StrategyError
from tfdist.pipeline import Slot, Timing, Timings, draw

MEASURED = Timings(
    (
        Timing(Slot(0, 0, 0, "forward"), 0.0, 0.01),
        Timing(Slot(1, 1, 0, "forward"), 0.01, 0.02),
        Timing(Slot(2, 1, 0, "backward"), 0.02, 0.03),
        Timing(Slot(3, 0, 0, "backward"), 0.03, 0.04),
    ),
    ("worker:0", "worker:1"),
)


def test_a_planned_schedule_is_drawn_with_its_bubble() -> None:
    lines = draw("gpipe", 2, 3).splitlines()
    assert lines[0] == "gpipe, bubble 25 %"
    assert lines[1:] == [
        "stage 0 | F0 F1 F2 .  .  B0 B1 B2",
        "stage 1 | .  F0 F1 F2 B0 B1 B2 .",
    ]


def test_measured_timings_are_drawn_to_scale() -> None:
    lines = draw(MEASURED, title="a step").splitlines()
    assert lines[0] == "a step, 40.0 ms, bubble 50 %"
    assert lines[1] == "stage 0 | " + "0" * 24 + "." * 48 + "a" * 24
    assert lines[2] == "stage 1 | " + "." * 24 + "0" * 24 + "a" * 24 + "." * 24


@pytest.mark.parametrize("what", ["1f1b", MEASURED], ids=["planned", "measured"])
def test_a_picture_is_written(what: str | Timings, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    draw(what, 4, 8, path=path)
    assert path.read_bytes()[1:4] == b"PNG"


def test_a_name_without_its_size_is_refused() -> None:
    with pytest.raises(StrategyError, match="without its size"):
        draw("gpipe")
