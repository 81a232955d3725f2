"""What tasks tell makes a job: how far it is, who lags, who waits, who is gone."""

from __future__ import annotations

import pytest

from tfdist.progress import JobProgress, PhaseSeconds, Record, TaskView

TASKS = ("worker:0", "worker:1")


def record(at: float, *seconds: float | None, **about: object) -> Record:
    known = {"fit": 1, "phase": "compute", "epochs": 4, "steps": 100, "batch": 32}
    return Record(at, seconds=PhaseSeconds(*seconds), **{**known, **about})  # type: ignore[arg-type]


def heard(**tasks: list[Record]) -> JobProgress:
    """A job whose tasks told something the moment it was true."""
    progress = JobProgress(TASKS, "worker:0")
    for name, records in tasks.items():
        for one in records:
            progress.hear(name.replace("_", ":"), [one], one.at)
    return progress


def task(progress: JobProgress, name: str, now: float) -> TaskView:
    return next(one for one in progress.view(now).tasks if one.name == name)


def test_the_chief_tells_how_far_the_job_is() -> None:
    chief = [record(10, 0, 0, epoch=1, step=0), record(20, 0, 10, epoch=1, step=50)]
    other = [record(20, 0, 10, epoch=1, step=49)]
    view = heard(worker_0=chief, worker_1=other).view(20)
    assert (view.done, view.total) == (150, 400)
    assert view.steps_per_second == 5
    assert view.examples_per_second == 160
    assert view.seconds_left == 50
    assert view.is_training


def test_nothing_is_said_of_what_nobody_knows() -> None:
    view = heard().view(1)
    assert (view.record, view.total, view.seconds_left, view.is_training) == (
        None,
        None,
        None,
        False,
    )
    view = heard(worker_0=[record(10, 0, 0, steps=None, batch=None)]).view(10)
    assert (view.total, view.seconds_left, view.examples_per_second) == (None, None, None)


def test_who_waits_least_for_the_others_lags() -> None:
    progress = heard(
        worker_0=[record(0), record(10, 0.5, 2.5, 7, 0, 0)],
        worker_1=[record(0), record(10, 7, 2.5, 0.5, 0, 0)],
    )
    assert task(progress, "worker:0", 10).state == "trains"
    slow = task(progress, "worker:1", 10)
    assert (slow.state, slow.why) == ("lags", "by its input")
    assert slow.shares["input"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        ((0, 9, 1, 0, 0), "by its compute"),
        ((0, 3, 1, 6, 0), "by its callbacks"),
        ((0, 3, 1, 0, 6), "by its save"),
    ],
)
def test_what_it_does_longer_than_the_others_is_to_blame(
    seconds: tuple[float, ...], why: str
) -> None:
    progress = heard(
        worker_0=[record(0), record(10, 0, 3, 7, 0, 0)], worker_1=[record(0), record(10, *seconds)]
    )
    assert task(progress, "worker:1", 10).why == why


def test_workers_that_wait_for_each_other_alike_do_not_lag() -> None:
    progress = heard(
        worker_0=[record(0), record(10, 0, 4, 6)], worker_1=[record(0), record(10, 0, 5, 5)]
    )
    assert {one.state for one in progress.view(10).tasks} == {"trains"}


def test_nobody_lags_where_the_exchange_is_not_measured() -> None:
    progress = heard(
        worker_0=[record(0, 0, 0, None), record(10, 0, 10, None)],
        worker_1=[record(0, 0, 0, None), record(10, 9, 1, None)],
    )
    assert {one.state for one in progress.view(10).tasks} == {"trains"}


def test_a_second_of_training_says_nothing_of_who_lags() -> None:
    progress = heard(worker_0=[record(1, 0, 0.1, 0.9)], worker_1=[record(1, 0.9, 0.1, 0)])
    assert {one.state for one in progress.view(1).tasks} == {"trains"}


def test_a_task_that_tells_nothing_more_is_silent() -> None:
    progress = heard(worker_0=[record(10)])
    assert task(progress, "worker:0", 14).state == "trains"
    silent = task(progress, "worker:0", 16)
    assert (silent.state, silent.why) == ("silent", "says nothing for 6 s")


def test_a_server_is_not_in_fit_while_others_are() -> None:
    progress = heard(worker_0=[record(10)])
    assert task(progress, "worker:1", 10).why == "not in fit"
    assert task(heard(), "worker:1", 10).why == ""


def test_outside_of_fit_nobody_need_tell_anything() -> None:
    progress = heard(worker_0=[record(10, phase="")])
    assert task(progress, "worker:0", 60).why == "outside of fit"


def test_where_nothing_moves_it_is_said_who_waits() -> None:
    progress = heard(
        worker_0=[record(10, still=8.0)], worker_1=[record(10, phase="callbacks", still=9.0)]
    )
    assert task(progress, "worker:0", 10).state == "waits"
    assert task(progress, "worker:1", 10).why == "callbacks for 9 s"


def test_a_task_that_has_ended_says_how() -> None:
    progress = heard(worker_0=[record(10)], worker_1=[record(10)])
    progress.ended("worker:0", False)
    progress.ended("worker:1", True, "was ended by SIGKILL")
    assert [(one.state, one.why) for one in progress.view(60).tasks] == [
        ("ended", ""),
        ("failed", "was ended by SIGKILL"),
    ]


def test_a_task_that_is_started_again_begins_anew() -> None:
    progress = heard(worker_0=[record(10)])
    progress.ended("worker:0", True, "was ended by SIGKILL")
    progress.began("worker:0")
    assert task(progress, "worker:0", 11).state == "starts"


def test_another_fit_has_a_speed_of_its_own() -> None:
    first = [record(0, epoch=3, step=0), record(10, epoch=3, step=100)]
    second = [record(11 + n, fit=2, step=step) for n, step in enumerate((0, 2, 4))]
    view = heard(worker_0=[*first, *second]).view(13)
    assert (view.done, view.steps_per_second) == (4, 2)


def test_the_steps_that_are_traced_say_nothing_of_the_others() -> None:
    steps = {0: 0, 10: 1, 11: 21, 12: 41}
    view = heard(worker_0=[record(at, step=step) for at, step in steps.items()]).view(12)
    assert view.steps_per_second == 20


def test_what_a_fit_tells_apart_only_later_is_told_apart() -> None:
    early = [record(0, None, 0, None), record(5, None, 5, None)]
    late = [record(6, 0, 5, 1), record(10, 2, 5, 3)]
    shares = task(heard(worker_0=[*early, *late]), "worker:0", 10).shares
    assert shares == {"input": 0.5, "compute": 0, "exchange": 0.5, "callbacks": 0, "save": 0}


def test_shares_are_those_of_the_last_seconds() -> None:
    early = [record(float(second), 0, second) for second in range(100)]
    late = [record(100.0 + second, second, 99) for second in range(20)]
    progress = heard(worker_0=[*early, *late])
    assert task(progress, "worker:0", 119).shares["input"] == pytest.approx(1)


def test_times_of_other_machines_are_brought_here_by_the_quickest_way() -> None:
    progress = JobProgress(TASKS)
    for at, late in ((1000.0, 0.5), (1001.0, 0.1), (1002.0, 0.9)):
        progress.hear("worker:0", [record(at)], at - 990 + late, here=False)
    progress.hear("worker:2", [record(5.0)], 5.3)
    assert progress.offset("worker:2") == 0  # one clock
    assert progress.offset("worker:0") == pytest.approx(-989.9)
    assert progress.offset("worker:1") == 0
