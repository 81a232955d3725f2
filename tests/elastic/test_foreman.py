"""What the foreman decides, told of what happens by launchers that exist on paper only."""

from __future__ import annotations

from typing import Any

import pytest

from tests.elastic.play import (
    FAILED,
    FOLLOWS,
    PATIENCE,
    SETTLE,
    Play,
    lost,
    on_hosts,
    on_one_machine,
)
from tfdist.launch.crew.cause import Cause
from tfdist.launch.crew.roll import OWN, wanted_alike

ALIKE = wanted_alike(Play(2, (2, 2), 1).strength, 1)


def test_all_that_have_come_begin_at_once() -> None:
    play = on_one_machine()
    assert play.members == {"worker:0": "worker:0", "worker:1": "worker:1", "worker:2": "worker:2"}
    assert play.last(OWN)["jobs"]["worker"] == list(play.cluster.jobs["worker"])


def test_the_others_go_on_at_once_numbered_without_gaps() -> None:
    play = on_one_machine()
    play.ends(OWN, lost("worker:1"), FOLLOWS)
    play.wait(1)
    assert play.members == {"worker:0": "worker:0", "worker:2": "worker:1"}
    assert play.last(OWN)["jobs"]["worker"] == ["127.0.0.1:41001", "127.0.0.1:41003"]
    assert play.restarts.used == 0
    assert "worker:1 was ended by SIGKILL: going on with 2 of 3 workers" in play.said


def test_a_lost_worker_comes_back_at_a_border_as_one_restart() -> None:
    play = on_one_machine()
    play.ends(OWN, lost("worker:0"), FOLLOWS)
    play.wait(1)
    play.say(OWN, "saves", yes=True)
    play.wait(SETTLE - 2)
    assert play.last(OWN)["say"] == "start"
    play.wait(3)
    assert play.last(OWN)["say"] == "save"
    play.all_saved()
    play.wait(1)
    assert len(play.members) == 3
    assert play.last(OWN)["again"] == ["worker:0"]
    assert play.restarts.used == 1


def test_who_has_not_heard_that_it_is_to_save_is_asked_again() -> None:
    play = on_one_machine()
    play.ends(OWN, lost("worker:0"), FOLLOWS)
    play.wait(1)
    play.say(OWN, "saves", yes=True)
    play.wait(SETTLE + 100)
    assert [one["say"] for one in play.told[OWN]].count("save") == 2
    assert play.said.count("can take part: all save") == 1


def test_where_nothing_would_be_saved_nobody_is_taken_in() -> None:
    play = on_one_machine()
    play.ends(OWN, lost("worker:1"))
    play.wait(60)
    assert len(play.members) == 2
    assert play.said.count("can take part once a fit with tfdist.callbacks.Checkpoint runs") == 1


def test_without_restarts_a_lost_worker_stays_away_and_too_few_end_the_job() -> None:
    play = on_one_machine((2, 3), max_restarts=0)
    play.ends(OWN, lost("worker:1"))
    play.wait(1)
    play.say(OWN, "saves", yes=True)
    play.wait(60)
    assert len(play.members) == 2
    play.ends(OWN, lost("worker:2"))
    play.wait(1)
    assert play.last(OWN)["code"] == 137
    assert (
        "worker:2 was ended by SIGKILL, and 1 workers are left where 2 are the fewest"
        in (play.last(OWN)["text"])
    )


def test_too_few_do_not_wait_for_the_settling_time() -> None:
    play = on_one_machine((2, 2 + 1), max_restarts=2)
    play.ends(OWN, lost("worker:1"), lost("worker:2"))
    play.wait(1)
    assert play.members == {"worker:0": "worker:0", "worker:1": "worker:1"}
    assert play.restarts.used == 1


def test_two_that_are_lost_at_once_are_one_change() -> None:
    play = on_one_machine((1, 4))
    play.ends(OWN, lost("worker:1"), lost("worker:3"), FOLLOWS)
    play.wait(1)
    assert play.generation == 2
    assert len(play.members) == 2


def test_an_error_starts_all_again_only_where_restarts_were_asked_for() -> None:
    play = on_one_machine()
    play.ends(OWN, FAILED, FOLLOWS)
    play.wait(1)
    assert (play.last(OWN)["say"], play.last(OWN)["code"]) == ("end", 1)
    play = on_one_machine(max_restarts=1)
    play.ends(OWN, FAILED, FOLLOWS)
    play.wait(1)
    assert len(play.members) == 3
    assert play.restarts.used == 1
    assert "starting all tasks again (1 of 1)" in play.said


def test_a_wrong_spec_ends_the_job_however_many_restarts_are_left() -> None:
    play = on_hosts(3, max_restarts=5)
    play.ends("host2", Cause("hopeless", 64, "spec"))
    assert play.last(OWN) == {"say": "halt", "text": "spec"}
    play.ends(OWN)
    play.ends("host1")
    play.wait(1)
    for who in (OWN, "host1", "host2"):
        assert (play.last(who)["say"], play.last(who)["code"]) == ("end", 64)


def test_all_hosts_begin_again_together_as_one_restart() -> None:
    play = on_hosts(3, max_restarts=1)
    play.ends("host1", lost("worker:1"))
    for who in (OWN, "host2"):
        assert [one["say"] for one in play.told[who]] == ["start", "halt", "hurry"]
    assert play.last("host1")["say"] == "hurry"  # nothing is lost by killing who takes long
    play.ends(OWN, FOLLOWS)
    play.ends("host2", FOLLOWS)
    play.wait(1)
    assert len(play.members) == 3
    assert play.restarts.used == 1
    play.ends("host2", lost("worker:2"))
    play.ends(OWN)
    play.ends("host1")
    play.wait(1)
    assert {play.last(who)["code"] for who in play.told} == {137}  # used up: all hear it


def test_a_host_that_is_cut_is_waited_for() -> None:
    play = on_hosts(2, max_restarts=2)
    play.silent.add("host1")
    play.ends(OWN, FOLLOWS)
    play.wait(8)
    assert play.generation == 1  # nothing is begun with one of whom nothing is heard
    play.gone("host1")
    play.wait(5)
    assert [str(one) for one in play.foreman.missing()] == ["worker:1"]
    play.come("host1 again", "worker:1")
    play.wait(1)
    assert play.generation == 2
    assert play.restarts.used == 1


def test_a_host_that_does_not_come_back_ends_the_job_by_name() -> None:
    play = on_hosts(2, max_restarts=2)
    play.gone("host1")
    play.ends(OWN, FOLLOWS)
    play.wait(PATIENCE + 2)
    assert play.last(OWN)["code"] == 75
    assert "no launcher of worker:1 (127.0.0.1:41002)" in play.last(OWN)["text"]


def test_who_never_comes_is_named() -> None:
    play = Play(2, (2, 2), 1)
    play.come(OWN, "worker:0")
    play.wait(PATIENCE + 2)
    assert play.last(OWN)["code"] == 69


def test_a_host_that_goes_ends_a_job_of_one_size_for_all() -> None:
    play = on_hosts(3, max_restarts=3)
    play.say("host1", "leave", code=130, text="Ctrl-C at worker:1")
    for who in (OWN, "host2"):
        assert (play.last(who)["code"], play.last(who)["text"]) == (130, "Ctrl-C at worker:1")


def test_a_host_that_goes_from_an_elastic_job_has_all_save_first() -> None:
    play = on_hosts(3, (1, 3))
    play.say("host1", "leave", code=143, text="SIGTERM at worker:1")
    assert play.last("host2")["say"] == "saving"
    play.all_saved()
    play.gone("host1")
    play.wait(1)
    assert play.members == {"worker:0": "worker:0", "worker:2": "worker:1"}
    assert play.restarts.used == 0


def test_one_to_four_to_two_to_three() -> None:
    play = Play(4, (1, 4))
    play.come(OWN, "worker:0")
    play.wait(SETTLE - 1)
    assert play.generation == 0  # others may come
    play.wait(2)
    sizes = [len(play.members)]
    play.say(OWN, "saves", yes=True)
    for k in (1, 2, 3):
        play.come(f"host{k}", f"worker:{k}")
    play.wait(SETTLE + 1)
    play.all_saved()
    play.wait(1)
    sizes.append(len(play.members))
    play.gone("host1")
    play.gone("host2")
    play.ends(OWN, FOLLOWS)
    play.ends("host3", FOLLOWS)
    play.wait(1)
    sizes.append(len(play.members))
    play.say(OWN, "saves", yes=True)
    play.come("host2 again", "worker:2")
    play.wait(SETTLE + 1)
    play.all_saved()
    play.wait(1)
    sizes.append(len(play.members))
    assert sizes == [1, 4, 2, 3]
    assert play.restarts.used == 0  # hosts that come and go are no restarts
    play.ends(OWN, well=True)
    assert play.foreman.phase == "over"
    assert play.last("host3") == {"say": "free", "well": True}


def test_the_chiefs_host_always_has_a_task() -> None:
    play = on_hosts(3, (1, 3))
    play.ends(OWN, lost("worker:0"))
    play.ends("host1", FOLLOWS)
    play.ends("host2", FOLLOWS)
    play.wait(1)
    assert play.members["worker:0"] == "worker:0"
    assert play.restarts.used == 1
    assert len(play.members) == 3


def test_a_chief_beside_the_workers_is_never_left_out() -> None:
    """Though there are enough others, at the same launcher."""
    play = Play(3, (1, 3), chief=("127.0.0.1:42001",))
    play.come(OWN, "chief:0", "worker:0", "worker:1", "worker:2")
    play.wait(1)
    play.ends(OWN, lost("chief:0"), FOLLOWS)
    play.wait(1)
    assert (play.generation, play.restarts.used) == (2, 1)
    assert play.members["chief:0"] == "chief:0"
    assert len(play.members) == 4


def test_a_second_launcher_of_a_place_is_refused_while_the_first_one_lives() -> None:
    play = on_hosts(2, (1, 2))
    play.come("other", "worker:1")
    play.wait(5)
    assert play.last("other")["code"] == 64
    assert "worker:1 is here already (process " in play.last("other")["text"]
    play.silent.add("host1")
    play.come("third", "worker:1")
    play.wait(5)
    assert play.told["third"] == []
    play.gone("host1")
    play.ends(OWN, FOLLOWS)
    play.wait(1)
    assert play.last("third")["say"] == "start"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"wants": {**ALIKE, "cluster": "other"}}, "another cluster (other) than the chief's"),
        ({"wants": {**ALIKE, "version of tfdist": "9"}}, "another version of tfdist (9) than"),
        ({"wants": {}}, "another version of tfdist (None)"),
        ({"places": ["worker:9"]}, "worker:9 in no place"),
    ],
)
def test_who_was_started_otherwise_is_refused(changed: dict[str, Any], named: str) -> None:
    play = Play(2, (2, 2), 1)
    play.come(OWN, "worker:0")
    play.come("host1", "worker:1", **changed)
    play.wait(1)
    assert play.last("host1")["code"] == 64
    assert named in play.last("host1")["text"]


@pytest.mark.parametrize(
    "message",
    [
        {"say": "join"},
        {"say": "join", "places": 3},
        {"say": "at rest"},
        {"say": "failed", "generation": 1, "causes": [{}], "well": 0},
        {"say": "failed", "generation": 1, "causes": 7},
        {"say": "leave"},
        {"say": "leave", "text": "", "code": "x"},
        {"say": "at rest", "generation": 0, "causes": [], "well": True},  # of an earlier one
    ],
)
def test_a_report_that_makes_no_sense_changes_nothing(message: dict[str, Any]) -> None:
    play = on_hosts(2, max_restarts=1)
    play.foreman.hear("host1", message)
    play.foreman.hear("stranger", message)
    play.wait(5)
    assert play.foreman.phase == "training"
    assert play.generation == 1
