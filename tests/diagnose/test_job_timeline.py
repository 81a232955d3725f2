"""A moment of one run is found again in another one, which is faster or slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfdist.diagnose.job_timeline import Target, Timeline

# seconds, phase, epoch, stage, step, saving
TOLD = """\
10.0 tracing 0 0 0 0
12.0 training 0 0 0 0
12.5 between 0 0 0 0
13.0 between 0 0 0 1
13.5 training 0 0 4 1
14.0 training 0 0 4 0
15.0 validation 0 1 0 0
16.0 between 1 0 0 0
17.0 training 1 0 0 0
18.0 training 1 0 4 0
19.0 validation 1 1 0 0
20.0 between 1 1 0 0
"""
ALL = Timeline.of(TOLD)


def test_the_moments_are_those_that_there_were() -> None:
    assert ALL.moments() == (
        "start-up",
        "tracing",
        "mid-step",
        "mid-save",
        "validation",
        "last step",
    )
    assert Timeline.of(TOLD[:42]).moments() == ("start-up", "tracing")
    assert Timeline().moments() == ("any time",)
    assert ALL.began == 10.0
    assert Timeline().began is None


@pytest.mark.parametrize(
    ("moment", "when", "place", "delay"),
    [
        ("start-up", 0.5, None, 4.0),
        ("any time", 0.5, None, 9.5),
        ("tracing", 0.25, (0, 0, 0), 0.5),
        ("mid-step", 0.0, (0, 0, 0), 0.0),
        ("mid-step", 0.4, (0, 0, 4), 0.6),
        ("mid-save", 0.75, (0, 0, 4), 0.25),
        ("validation", 0.75, (1, 1, 0), 0.5),
        ("last step", 0.5, (1, 0, 4), 0.5),
    ],
)
def test_an_instant_is_chosen_of_all_the_time_in_a_moment(
    moment: str, when: float, place: tuple[int, int, int] | None, delay: float
) -> None:
    found = ALL.target(moment, when, 2.0, 21.0)
    assert (found.moment, found.place) == (moment, place)
    assert found.delay == pytest.approx(delay)


def test_it_is_there_when_the_job_has_come_to_its_place_in_that_phase() -> None:
    target = Target("mid-step", (0, 0, 4), 0.5)
    assert target.begun(Timeline.of("3 training 0 0 0 0\n")) is None
    assert target.begun(Timeline.of("3 training 0 0 0 0\n5 training 0 0 6 0\n")) == 5.0
    assert target.begun(Timeline.of("3 training 0 0 0 0\n5 validation 0 1 0 0\n")) == 5.0
    second = Target("mid-step", (0, 0, 0), 0.0, before=1)
    assert second.begun(Timeline.of("3 training 0 0 0 0\n4 tracing 0 0 0 0\n")) is None
    again = "3 training 0 0 0 0\n4 tracing 0 0 0 0\n5 training 0 0 0 0\n"
    assert second.begun(Timeline.of(again)) == 5.0
    save = Target("mid-save", (0, 0, 4), 0.0)
    assert save.begun(Timeline.of("3 validation 0 1 0 0\n5 training 1 0 0 1\n")) == 5.0


def test_the_phase_now_is_that_of_the_last_whole_line(tmp_path: Path) -> None:
    assert Timeline.read(tmp_path).now("mid-step") == "start-up"
    (tmp_path / "worker-1").write_text("1.0 validation 0 1 0 0\n")
    (tmp_path / "worker-0").write_text("1.0 training 0 0 0 0\n2.0 training 0 0 0 1\n3.0 trai")
    seen = Timeline.read(tmp_path)  # the chief tells
    found = [seen.now(moment) for moment in ("validation", "mid-step", "last step")]
    assert found == ["mid-save", "mid-step", "last step"]  # one saves while it trains
    (tmp_path / "chief-0").write_text("1.0 between 0 0 0 0\n")
    assert Timeline.read(tmp_path).now("mid-save") == "in between"
