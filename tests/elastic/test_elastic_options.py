"""What `tfdist run` is told of the size of a job, and of the launchers of several hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdist import cli
from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import Size
from tfdist.errors import ClusterError
from tfdist.launch.crew.crew_options import CrewOptions
from tfdist.launch.crew.front_door import FrontDoor, meeting_place
from tfdist.launch.crew.strength import Strength

HOSTS = Cluster({"worker": ("a:2222", "b:2222", "a:2230")})


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["run", *arguments]) == 64
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "3:2"], "workers from 3 to 2; give the fewest, 1 or more, and then the"),
        (["--workers", "0:2"], "workers from 0 to 2; give the fewest"),
        (["--workers", "1:"], "'1:' is no range of workers; give 1:4, say"),
        (["--workers", "1:2:3"], "'1:2:3' is no range of workers"),
        (["--ps", "2:1"], "ps from 2 to 1; give the fewest, 1 or more, and then the"),
        (["--ps", "0:1"], "ps from 0 to 1; give the fewest"),
        (["--ps", "1:two"], "'1:two' is no range of ps; give 1:4, say"),
        (
            ["--rendezvous", "a:1", "--nnodes", "2", "--ps", "1:2"],
            "--rendezvous with a range of --ps; give their number, or --hosts",
        ),
        (["--workers", "1:2", "--settle", "-1"], "'-1' is not a number of seconds"),
        (["--crew_port", "70000"], "'70000' is no port; give 1 to 65535"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    assert message in said(capsys, *arguments, "train.py")


def test_a_range_goes_with_a_file_whose_places_are_enough(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    Path("spec.json").write_text(json.dumps({"cluster": {"worker": ["127.0.0.1:41801"]}}))
    message = "up to 4 workers, and 1 in the cluster; give at most these"
    assert message in said(capsys, "--cluster", "spec.json", "--workers", "1:4", "train.py")
    assert "--workers with --cluster" in (
        said(capsys, "--cluster", "spec.json", "--workers", "1", "train.py")
    )


def test_launchers_meet_behind_the_ports_of_the_chiefs_host() -> None:
    assert str(meeting_place(HOSTS)) == "a:2231"
    assert str(meeting_place(HOSTS, 99)) == "a:99"
    with pytest.raises(ClusterError, match="give --crew_port"):
        meeting_place(Cluster({"worker": ("a:65535", "b:1")}))


def test_a_meeting_place_that_is_taken_is_named() -> None:
    from tfdist.cluster.address import Address
    from tfdist.launch.crew.foreman import Foreman
    from tfdist.launch.restarts import Restarts
    from tfdist.machine.ports import listen

    with listen(0, host="127.0.0.1") as taken:
        port = taken.getsockname()[1]
        foreman = Foreman(Strength(HOSTS), Restarts(1, False), 1.0, 1.0, 0.0)
        with pytest.raises(ClusterError, match=f"port {port}, where the launchers of this job"):
            FrontDoor(foreman, Address("127.0.0.1", port))


def crew(size: Size | None, tasks: tuple[Task, ...], restarts: int | None) -> bool:
    ranges = {} if size is None else {"worker": size}
    return CrewOptions(ranges, restarts).are_needed(HOSTS, tasks)


def test_who_has_something_to_decide_together() -> None:
    own, every = (Task("worker", 1),), HOSTS.tasks
    assert crew(None, own, 3)
    assert crew(Size(1, 3), own, None)
    assert crew(Size(1, 3), every, None)
    assert not crew(None, own, None)
    assert not crew(None, own, 0)
    assert not crew(None, every, 3)  # one launcher has all
    for size in (None, Size(1, 3)):
        assert not crew(size, (Task("evaluator", 0),), 3)  # it works beside them


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ClusterError, match="settle of -1 s; give 0 or more"):
        CrewOptions(settle=-1)
    with pytest.raises(ClusterError, match="crew_port of 0; give a port"):
        CrewOptions(port=0)
