"""What a launcher knows of its hosts, also while one of them is lost."""

from __future__ import annotations

from typing import Any

from tfdist.cluster import Cluster, Task
from tfdist.launch.gpu_shares import GpuSupply
from tfdist.launch.guardian import Guardian
from tfdist.launch.hosts.host_ground import Connecting, HostGround
from tfdist.launch.hosts.host_list import Host
from tfdist.launch.hosts.spread import Spread
from tfdist.launch.plan import JobPlan, make_plan


class FakeLink:
    """A host that has answered."""

    def __init__(self, number: int) -> None:
        self.host = Host(f"h{number}")
        self.answers: dict[str, dict[str, Any]] = {
            "survey": {
                "address": f"10.0.0.{number}",
                "ports": [4000 + number],
                "cores": 4,
                "environ": {},
                "gpus": [],
                "gpus_are_own": False,
            }
        }


def plan(cluster: Cluster, *, tasks: Any, cores: int, gpus: GpuSupply, **more: Any) -> JobPlan:
    return make_plan(["train.py"], cluster, tasks=tasks, cores=cores, gpus=gpus, **more)


def test_a_job_is_planned_anew_while_a_host_is_connected_to_again() -> None:
    spread = Spread.of([Host("h1"), Host("h2")])
    with Guardian("0" * 16) as guardian:
        ground = HostGround(spread, ["train.py"], Connecting(), guardian)
        links: list[Any] = [FakeLink(1), FakeLink(2)]
        ground.links = links
        cluster = ground.cluster()
        links[1].answers = {}
        made = ground.plan(cluster, cluster.tasks, plan)
    assert [one.task for one in made.tasks] == [Task("worker", 0), Task("worker", 1)]
