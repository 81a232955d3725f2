"""What the foreman decides in a job with parameter servers, on launchers that exist on paper."""

from __future__ import annotations

import pytest

from tests.elastic.play import FOLLOWS, PATIENCE, SETTLE, Play, lost, on_hosts, with_servers
from tfdist.launch.crew.roll import OWN


def test_servers_go_on_without_the_host_of_a_worker_which_comes_back_as_it_was() -> None:
    play = with_servers()
    play.gone("worker:1")
    play.wait(PATIENCE + 60)  # nobody waits for it
    assert "is gone: the others go on without it, and it may come back" in play.said
    assert [message["say"] for message in play.told["worker:0"]] == ["start"]
    play.come("again", "worker:1")
    play.wait(1)
    assert play.last("again")["say"] == "start"
    assert play.last("again")["tasks"] == {"worker:1": "worker:1"}
    assert (play.generation, play.restarts.used) == (1, 0)
    play.ends("again", well=True)
    play.wait(10)
    assert [message["say"] for message in play.told["again"]] == ["start"]  # once
    play.ends(OWN, well=True)
    assert play.last("again")["say"] == "end"
    assert play.last("ps:0")["say"] == "free"


@pytest.mark.parametrize("gone", [["ps:0"], ["worker:1", "worker:0"]])
def test_servers_do_not_go_on_without_a_ps_or_without_any_worker(gone: list[str]) -> None:
    play = with_servers()
    for place in gone:
        play.gone(place)
    assert play.last(OWN)["say"] == "hurry"
    play.ends(OWN, FOLLOWS)
    for place in {"worker:0", "worker:1", "ps:0"}.difference(gone):
        play.ends(place, FOLLOWS)
    play.wait(1)
    for place in gone:
        play.come(place, place)
    play.wait(1)
    assert (play.generation, play.restarts.used) == (2, 1)
    assert play.last("worker:0")["say"] == play.last("ps:0")["say"] == "start"


def elastic_servers(workers: tuple[int, int] = (2, 2)) -> Play:
    """Two workers, of which so many may be missing, and one to three ps; a host each."""
    ps = tuple(f"127.0.0.1:{43001 + k}" for k in range(3))
    play = Play(2, workers, None, (1, 3), chief=("127.0.0.1:42001",), ps=ps)
    play.come(OWN, "chief:0")
    for place in ("worker:0", "worker:1", "ps:0", "ps:1", "ps:2"):
        play.come(place, place)
    play.wait(1)
    assert play.generation == 1
    play.say(OWN, "saves", yes=True)
    return play


def test_a_job_goes_on_with_the_servers_that_are_left_and_takes_others_in() -> None:
    play = elastic_servers()
    play.ends("ps:1", lost("ps:1"))
    play.the_others_end("ps:1")
    play.wait(1)
    assert "going on with 2 of 3 ps, from the last checkpoint" in play.said
    assert (play.members["ps:0"], play.members["ps:2"]) == ("ps:0", "ps:1")
    assert len(play.last(OWN)["jobs"]["ps"]) == 2
    play.say(OWN, "saves", yes=True)
    play.wait(SETTLE + 1)
    assert play.last(OWN)["say"] == "save"
    assert "ps:1 can take part: all save, and go on with 3 instead of 2 ps" in play.said
    play.all_saved()
    play.wait(1)
    assert play.members["ps:1"] == "ps:1"
    assert play.restarts.used == 1  # for the process that was lost


def test_servers_that_may_change_never_go_on_without_the_chief_or_too_few_workers() -> None:
    play = elastic_servers()
    play.ends(OWN, lost("chief:0"))
    play.the_others_end(OWN)
    play.wait(1)
    assert (play.generation, play.restarts.used) == (2, 1)
    assert len(play.members) == 6
    play.gone("worker:1")  # the others do its work
    play.wait(SETTLE + 5)
    assert play.generation == 2
    play.gone("ps:0")
    play.the_others_end()
    play.wait(SETTLE + 5)
    assert play.generation == 2  # two workers were asked for
    assert [str(one) for one in play.foreman.missing()] == ["worker:1"]  # ps:1 would do
    play.come("again", "worker:1")
    play.wait(SETTLE + 1)
    assert play.generation == 3
    assert set(play.members) == {"chief:0", "worker:0", "worker:1", "ps:1", "ps:2"}


def test_a_host_with_a_worker_and_a_server_may_be_lost_where_both_may_change() -> None:
    play = elastic_servers((1, 2))
    play.gone("ps:2")
    play.the_others_end()
    play.gone("worker:0")
    play.wait(SETTLE + 1)
    assert play.members == {
        "chief:0": "chief:0",
        "worker:1": "worker:0",
        "ps:0": "ps:0",
        "ps:1": "ps:1",
    }
    play.say(OWN, "saves", yes=True)
    play.come("again", "worker:0", "ps:2")
    play.wait(SETTLE + 1)
    text = "worker:0, ps:2 can take part: all save, and go on with 2 instead of 1 workers and 3"
    assert text in play.said
    play.all_saved()
    play.wait(1)
    assert len(play.members) == 6


def test_a_server_that_goes_has_all_save_and_a_worker_that_is_needed_ends_the_job() -> None:
    play = elastic_servers()
    play.say("ps:1", "leave", code=143, text="SIGTERM at ps:1")
    assert play.last("worker:0")["say"] == "saving"
    play.all_saved()
    play.gone("ps:1")
    play.wait(SETTLE + 1)
    assert (play.generation, play.restarts.used) == (2, 0)
    play.say("worker:1", "leave", code=143, text="SIGTERM at worker:1")
    assert (play.last(OWN)["code"], play.last(OWN)["text"]) == (143, "SIGTERM at worker:1")


def test_no_border_is_asked_for_beyond_which_nobody_could_go_on() -> None:
    """A worker's host is gone, whose work the others do; a new server would end all that."""
    play = elastic_servers()
    play.ends("ps:1", lost("ps:1"))
    play.the_others_end("ps:1")
    play.wait(1)
    play.say(OWN, "saves", yes=True)
    play.gone("worker:1")
    play.wait(PATIENCE)
    assert (play.generation, play.last(OWN)["say"]) == (2, "start")
    play.come("again", "worker:1")
    play.wait(1)
    assert play.last("again")["say"] == "start"  # as it was
    play.wait(SETTLE)
    assert play.last(OWN)["say"] == "save"


def test_a_worker_that_returns_while_all_save_takes_part_in_what_begins_then() -> None:
    play = elastic_servers()
    play.gone("worker:1")
    play.wait(1)
    play.say("ps:2", "leave", code=143, text="SIGTERM at ps:2")
    play.come("again", "worker:1")
    play.wait(2)
    assert play.told["again"] == []
    play.the_others_end()
    play.gone("ps:2")
    play.wait(SETTLE + 1)
    assert (play.generation, play.last("again")["say"]) == (2, "start")
    assert play.restarts.used == 0


def test_a_worker_that_returns_is_started_where_nobody_saves() -> None:
    """A host has gone, and a script without checkpoints goes on as if it had not."""
    play = Play(3, (1, 3), None, chief=("127.0.0.1:42001",), ps=("127.0.0.1:43001",))
    play.come(OWN, "chief:0", "ps:0")
    for place in ("worker:0", "worker:1", "worker:2"):
        play.come(place, place)
    play.wait(1)
    play.say("worker:1", "leave", code=143, text="SIGTERM at worker:1")
    play.ends("worker:1", FOLLOWS)
    play.gone("worker:1")
    play.gone("worker:2")
    play.come("again", "worker:2")
    play.wait(1)
    assert play.last("again")["say"] == "start"


@pytest.mark.parametrize("servers", [True, False])
def test_a_host_that_is_switched_off_while_all_save_is_not_waited_for(servers: bool) -> None:
    """It has said that it goes, and never that its tasks have ended."""
    play = elastic_servers() if servers else on_hosts(3, (1, 3))
    leaver = "ps:1" if servers else "host1"
    play.say(leaver, "leave", code=143, text=f"SIGTERM at {leaver}")
    play.the_others_end(leaver)
    play.gone(leaver)
    play.wait(SETTLE + 1)
    assert (play.generation, play.foreman.phase) == (2, "training")


def test_the_last_restart_is_for_whom_nobody_can_do_without() -> None:
    play = elastic_servers()
    play.restarts.used = 2
    play.ends("ps:1", lost("ps:1"))
    play.the_others_end("ps:1")
    play.wait(1)
    assert play.generation == 2
    play.ends(OWN, lost("chief:0"))  # while the server still rests
    play.the_others_end(OWN)
    play.wait(1)
    assert (play.generation, play.restarts.used) == (3, 3)
    assert {"chief:0", "ps:0", "ps:2"} < set(play.members)
    play.ends("ps:0", lost("ps:0"))
    play.the_others_end("ps:0")
    play.wait(1)
    assert play.generation == 4  # one server is enough
    play.ends(OWN, lost("chief:0"))
    play.the_others_end(OWN)
    play.wait(1)
    assert play.last(OWN)["text"].endswith(
        "chief:0 was ended by SIGKILL, and 0 chiefs are left where 1 are the fewest"
    )


def test_spare_places_are_not_needed_and_take_the_room_of_who_is_gone() -> None:
    ps = ("127.0.0.1:43001", "127.0.0.1:43002")
    play = Play(3, (1, 2), None, (1, 1), chief=("127.0.0.1:42001",), ps=ps)
    play.come(OWN, "chief:0")
    for place in ("worker:0", "worker:1", "ps:0", "ps:1"):
        play.come(place, place)
    play.wait(1)
    assert set(play.members) == {"chief:0", "worker:0", "worker:1", "ps:0"}
    play.say(OWN, "saves", yes=True)
    play.gone("worker:1")
    play.come("worker:2", "worker:2")
    play.wait(SETTLE + 1)
    assert "worker:2 can take part: all save, and go on with 2 instead of 1 workers" in play.said
    play.all_saved()
    play.wait(1)
    assert set(play.members) == {"chief:0", "worker:0", "worker:2", "ps:0"}
    play.say("ps:1", "leave", code=143, text="SIGTERM at ps:1")
    assert play.foreman.phase == "training"
    play.gone("ps:1")
    play.ends("ps:0", lost("ps:0"))
    play.the_others_end("ps:0")
    play.wait(1)
    assert play.generation == 3  # the only one comes back at once
    assert "going on with 2 of 2 workers and 1 of 1 ps, from the last checkpoint" in play.said
    assert play.members["ps:0"] == "ps:0"


def test_too_few_servers_end_the_job_in_a_sentence() -> None:
    play = elastic_servers()
    play.restarts.used = 3
    for place in ("ps:0", "ps:1", "ps:2"):
        play.ends(place, lost(place))
    play.the_others_end("ps:0", "ps:1", "ps:2")
    play.wait(1)
    assert play.last(OWN)["text"].endswith("and 0 ps are left where 1 are the fewest")
