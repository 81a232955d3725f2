"""Who may take part next, of places that are here and of places that were lost."""

from __future__ import annotations

import dataclasses

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import Size
from tfdist.launch.crew.foreman_link import join_message
from tfdist.launch.crew.muster import Muster
from tfdist.launch.crew.roll import OWN, Roll, wanted_alike
from tfdist.launch.crew.strength import Strength
from tfdist.launch.restarts import Restarts

CLUSTER = Cluster({"chief": ("a:1",), "worker": ("a:2", "b:2", "c:2"), "ps": ("a:3", "b:3")})
CHIEF, PS = Task("chief", 0), (Task("ps", 0), Task("ps", 1))
WORKERS = tuple(Task("worker", k) for k in range(3))


def muster(restarts: int, own: tuple[Task, ...] = (CHIEF,), ps: tuple[int, int] = (2, 2)) -> Muster:
    """All places are here at the time 1, those of the chief's launcher first."""
    strength = Strength(CLUSTER, {"worker": Size(1, 3), "ps": Size(*ps, "ps")})
    roll = Roll(CLUSTER.tasks_that_meet, wanted_alike(strength, restarts))
    for who, places in ((OWN, own), ("other", set(CLUSTER.tasks).difference(own))):
        roll.come(who, join_message(strength, sorted(places), restarts), 1.0)
    roll.admit(1.0)
    return Muster(strength, roll, Restarts(restarts, True))


@pytest.mark.parametrize(("restarts", "back"), [(0, 0), (1, 1), (2, 2)])
def test_each_place_that_is_needed_takes_a_restart(restarts: int, back: int) -> None:
    """At once, and no more of them than there are restarts."""
    one = muster(restarts)
    for place in PS:
        one.rest(place, 9.0)
    assert len(set(PS) & one.fit(1.0)) == back
    assert one.ready(1.0)
    assert one.strength.is_enough(one.ready(1.0)) == (back == 2)


def test_who_is_needed_comes_before_who_has_rested() -> None:
    one = muster(1)
    one.rest(WORKERS[0], 0.5)  # its time has come, and that of the server not yet
    one.rest(PS[1], 9.0)
    assert set(PS) < one.fit(1.0)
    assert WORKERS[0] not in one.fit(1.0)
    one = muster(2)
    one.rest(WORKERS[0], 0.5)
    one.rest(PS[1], 9.0)
    assert one.fit(1.0) == set(CLUSTER.tasks)
    members = one.ready(1.0)
    assert (one.begin(members), one.restarts.used) == ([WORKERS[0], PS[1]], 2)
    assert (one.begin(members), one.restarts.used) == ([], 2)  # they rest no more


@pytest.mark.parametrize(("restarts", "may"), [(0, False), (1, True)])
def test_nobody_waits_for_a_chiefs_launcher_whose_places_are_lost_for_good(
    restarts: int, may: bool
) -> None:
    """Though there are workers enough at the others."""
    cluster = Cluster({"worker": ("a:2", "b:2", "c:2")})
    strength = Strength(cluster, {"worker": Size(1, 3)})
    roll = Roll(cluster.tasks_that_meet, wanted_alike(strength, restarts))
    for who, places in ((OWN, WORKERS[:1]), ("other", WORKERS[1:])):
        roll.come(who, join_message(strength, places, restarts), 1.0)
    roll.admit(1.0)
    one = Muster(strength, roll, Restarts(restarts, False))
    assert one.may_come(1.0)
    one.rest(WORKERS[0], 9.0)
    assert one.may_come(1.0) is may
    assert bool(one.ready(1.0)) is may


def test_before_the_chiefs_launcher_is_here_it_may_come() -> None:
    strength = Strength(CLUSTER)
    one = Muster(strength, Roll(CLUSTER.tasks_that_meet, {}), Restarts(0, True))
    assert one.may_come(1.0)
    assert one.ready(1.0) == ()
    assert one.missing(1.0) == CLUSTER.tasks_that_meet


def test_a_full_generation_has_no_room() -> None:
    strength = Strength(CLUSTER, {"worker": Size(1, 2)})
    assert strength.has_room_for(WORKERS[2], WORKERS[:1])
    assert not strength.has_room_for(WORKERS[2], WORKERS[:2])


def test_what_a_job_needs_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Strength(CLUSTER).ranges = {}  # type: ignore[misc]
