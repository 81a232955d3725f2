"""Every moment of a fit is of one phase."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.progress import PHASES, PhaseClock, PhaseSeconds


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> PhaseClock:
    clock = PhaseClock(time)
    assert clock.start("callbacks")
    return clock


def test_a_phase_lasts_until_the_next_one_begins(clock: PhaseClock, time: Time) -> None:
    time.now += 2
    clock.enter("input")
    time.now += 3
    clock.enter("compute")
    time.now += 4
    found = clock.seconds()
    assert (found["callbacks"], found["input"], found["compute"]) == (2, 3, 4)
    clock.stop()
    time.now += 5
    assert clock.seconds() == found
    assert clock.phase is None


def test_what_lasts_for_a_block_gives_back_to_the_phase_before(
    clock: PhaseClock, time: Time
) -> None:
    with pytest.raises(KeyError), clock.during("save"):
        time.now += 1
        raise KeyError
    time.now += 2
    assert (clock.seconds()["save"], clock.seconds()["callbacks"]) == (1, 2)


def test_what_runs_inside_of_a_callback_is_the_callbacks(clock: PhaseClock, time: Time) -> None:
    with clock.held() as holds, clock.held() as again, clock.during("save"):
        clock.enter("compute")
        assert not clock.start("input")
        time.now += 7
    assert (holds, again) == (True, False)
    assert clock.seconds()["callbacks"] == 7
    clock.enter("compute")
    assert clock.phase == "compute"


def test_another_thread_moves_nothing(clock: PhaseClock) -> None:
    def other() -> None:
        clock.enter("save")
        with clock.during("input"), clock.held() as holds:
            assert not holds

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert clock.phase == "callbacks"


def test_before_the_start_nothing_is_counted(time: Time) -> None:
    clock = PhaseClock(time)
    clock.enter("compute")
    with clock.during("save"):
        time.now += 1
    assert sum(clock.seconds().values()) == 0


def test_whoever_listens_is_told_each_phase_that_ends(clock: PhaseClock, time: Time) -> None:
    told: list[tuple[str, float, float]] = []
    clock.on_end = lambda *one: told.append(one)
    time.now += 1
    clock.enter("compute")
    time.now += 1
    clock.stop()
    assert told == [("callbacks", 100, 101), ("compute", 101, 102)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PHASES), st.floats(0, 1e4)), min_size=1))
def test_the_shares_add_up_to_one(moves: list[tuple[str, float]]) -> None:
    time = Time()
    clock = PhaseClock(time)
    clock.start("callbacks")
    for phase, seconds in moves:
        clock.enter(phase)  # type: ignore[arg-type]
        time.now += seconds
    found = PhaseSeconds(**clock.seconds())
    assert found.total == pytest.approx(time.now - 100, abs=1e-6)
    assert sum(found.shares().values()) == pytest.approx(1 if found.total else 0)


def test_what_is_not_told_apart_is_computing() -> None:
    whole = PhaseSeconds(1, 2, 3, 4, 5)
    apart = whole.together({"input", "callbacks", "save"})
    assert apart == PhaseSeconds(1, 5, None, 4, 5)
    assert "exchange" not in apart.shares()
    assert sum(apart.shares().values()) == pytest.approx(1)
    assert whole.since(apart) == PhaseSeconds(0, 0, None, 0, 0)
    assert apart.since(PhaseSeconds(1, 1, 1, 1, 1)) == PhaseSeconds(0, 3, None, 3, 4)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_what_are_no_seconds_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds of save"):
        PhaseSeconds(save=seconds)
