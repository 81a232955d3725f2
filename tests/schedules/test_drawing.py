"""Pictures of schedules, planned and measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import all_of_it_is_seen
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
def test_a_picture_is_written(
    what: str | Timings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    all_of_it_is_seen(monkeypatch)
    path = tmp_path / "picture.png"
    draw(what, 4, 8, path=path)
    assert path.read_bytes()[1:4] == b"PNG"


def test_a_name_without_its_size_is_refused() -> None:
    with pytest.raises(StrategyError, match="without its size"):
        draw("gpipe")


def bars(axes: Any) -> list[tuple[float, float, float, str]]:
    """The bars of a picture: row, left end, width, and colour."""
    return [
        (bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width(), to_hex(bar))
        for container in axes.containers
        for bar in container
    ]


def to_hex(bar: Any) -> str:
    colors = pytest.importorskip("matplotlib.colors")
    return str(colors.to_hex(bar.get_facecolor())).upper()


def figure_axes() -> Any:
    return pytest.importorskip("matplotlib.figure").Figure().subplots()


FORWARD, BACKWARD, WEIGHTS = "#56B4E9", "#E69F00", "#009E73"


def test_a_picture_of_a_plan_has_a_bar_for_each_slot() -> None:
    axes = figure_axes()
    text = draw("gpipe", 2, 2, axes=axes)
    assert axes.get_title(loc="left") == text.splitlines()[0] == "gpipe, bubble 33 %"
    assert bars(axes) == [
        (0, 0, 1, FORWARD),
        (0, 1, 1, FORWARD),
        (0, 4, 1, BACKWARD),
        (0, 5, 1, BACKWARD),
        (1, 1, 1, FORWARD),
        (1, 2, 1, FORWARD),
        (1, 3, 1, BACKWARD),
        (1, 4, 1, BACKWARD),
    ]
    assert [one.get_text() for one in axes.texts] == ["0", "1", "0", "1"] * 2
    assert [one.get_position() for one in axes.texts][:3] == [(0.5, 0), (1.5, 0), (4.5, 0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stage 0", "stage 1"]
    assert axes.get_xlim() == (0, 6)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first stage is at the top
    assert axes.get_xlabel() == "clock"
    legend = axes.get_legend()
    assert [one.get_text() for one in legend.get_texts()] == ["forward", "backward"]
    assert not axes.spines["top"].get_visible()
    assert not axes.spines["right"].get_visible()
    assert axes.spines["left"].get_visible()


def test_a_picture_of_a_measured_step_is_in_milliseconds_with_its_tasks() -> None:
    axes = figure_axes()
    draw(MEASURED, axes=axes)
    found = [(row, round(left), round(width), colour) for row, left, width, colour in bars(axes)]
    assert found == [
        (0, 0, 10, FORWARD),
        (0, 30, 10, BACKWARD),
        (1, 10, 10, FORWARD),
        (1, 20, 10, BACKWARD),
    ]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["stage 0 (worker:0)", "stage 1 (worker:1)"]
    assert axes.get_xlim() == (0, 40)
    assert axes.get_xlabel() == "milliseconds"
    assert [one.get_text() for one in axes.texts] == ["0"] * 4  # all are wide enough
    assert axes.get_title(loc="left") == "pipeline, 40.0 ms, bubble 50 %"


def later(seconds: float) -> Timings:
    """The measured step, when the clocks began at another time."""
    return Timings(
        tuple(
            dataclasses.replace(t, begin=t.begin + seconds, end=t.end + seconds)
            for t in MEASURED.slots
        ),
        MEASURED.tasks,
    )


def test_a_step_is_drawn_from_its_first_slot_on() -> None:
    one, other = figure_axes(), figure_axes()
    assert draw(later(1.0), axes=other) == draw(MEASURED, axes=one)
    for (_, left, *_), (_, others, *_) in zip(bars(one), bars(other), strict=True):
        assert left == pytest.approx(others, abs=1e-6)


REPLICAS = Timings(
    (
        Timing(Slot(0, 0, 0, "forward"), 0.0, 0.5, 0),
        Timing(Slot(1, 0, 0, "backward"), 0.5, 1.0, 0),
        Timing(Slot(0, 0, 11, "forward"), 0.0, 0.49, 1),
        Timing(Slot(1, 0, 11, "weights"), 0.985, 1.0, 1),
    ),
    ("worker:0",),
)


def test_replicas_are_drawn_apart() -> None:
    axes = figure_axes()
    lines = draw(REPLICAS, axes=axes).splitlines()
    assert lines[0] == "pipeline, 1000.0 ms, bubble 25 %"
    assert lines[1] == "replica 0 stage 0 | " + "0" * 48 + "a" * 48
    assert lines[2] == "replica 1 stage 0 | " + "1" * 47 + "." * 47 + "B" * 2
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["replica 0, stage 0", "replica 1, stage 0"]
    assert [one.get_text() for one in axes.texts] == ["0", "0", "11"]  # the last is too narrow
    assert [bar[-1] for bar in bars(axes)] == [FORWARD, BACKWARD, FORWARD, WEIGHTS]


def test_a_slot_that_took_no_time_is_seen_in_the_text() -> None:
    slots = (Timing(Slot(0, 0, 0, "forward"), 0.0, 0.0), Timing(Slot(1, 0, 1, "forward"), 0.5, 1.0))
    assert draw(Timings(slots)).splitlines()[1] == "stage 0 | 0" + "." * 47 + "1" * 48


@pytest.mark.parametrize(("stages", "microbatches"), [(None, 4), (3, None)])
def test_a_name_needs_both_sizes(stages: int | None, microbatches: int | None) -> None:
    with pytest.raises(StrategyError) as caught:
        draw("1f1b", stages, microbatches)
    assert str(caught.value) == (
        "draw('1f1b') without its size: draw('1f1b', stages, microbatches)"
    )


def test_timings_know_their_stages_their_length_and_what_is_idle() -> None:
    assert (MEASURED.stages, later(2.0).stages) == (2, 2)
    assert later(2.0).seconds == pytest.approx(0.04)
    assert later(2.0).bubble == pytest.approx(0.5)
    assert REPLICAS.bubble == pytest.approx(1 - 1.505 / 2)
    overlapping = Timings(tuple(dataclasses.replace(t, begin=0.0) for t in MEASURED.slots[2:]))
    assert Timings((*overlapping.slots, *overlapping.slots)).bubble == 0.0  # and not below


def test_a_plan_takes_a_second_a_slot() -> None:
    planned = Timings.planned([Slot(2, 1, 0, "forward")])
    assert planned.slots == (Timing(Slot(2, 1, 0, "forward"), 2.0, 3.0, 0),)
    assert planned.tasks == ()


def test_a_step_that_took_no_time_is_drawn_too() -> None:
    timings = Timings((Timing(Slot(0, 0, 3, "forward"), 0.25, 0.25),))
    assert draw(timings).splitlines() == [
        "pipeline, 0.0 ms, bubble 0 %",
        "stage 0 | 3" + "." * 95,
    ]


def test_the_bubble_is_told_in_hundredths() -> None:
    assert draw("gpipe", 5, 1).startswith("gpipe, bubble 80 %\n")


def test_axes_that_are_given_are_written_to_no_file(tmp_path: Path) -> None:
    draw("gpipe", 2, 2, axes=figure_axes(), path=tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_timings_are_values() -> None:
    for value, name in ((MEASURED, "slots"), (MEASURED.slots[0], "begin")):
        with pytest.raises(AttributeError):
            setattr(value, name, None)
