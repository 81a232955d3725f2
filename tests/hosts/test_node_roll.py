"""Which launchers come together, what becomes of each, and who cannot be one of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tfdist.launch.hosts.survey import Survey
from tfdist.launch.nodes.node import Node
from tfdist.launch.nodes.node_roll import NodeCounts, NodeRoll

COMMAND = ["train.py"]
VERSIONS = {"TensorFlow": "2.21"}


def node(number: int, workers: int = 1, **changed: Any) -> Node:
    ports = tuple(range(1000 * number + 1, 1000 * number + 9))
    survey = Survey(VERSIONS, "digest")
    at = f"10.0.0.{number}"
    made = Node(f"host{number}", number, at, workers, ports, {"--nnodes": "3"}, survey)
    return dataclasses.replace(made, **changed)


def test_the_first_node_leads_and_the_others_follow_in_the_order_of_their_hosts() -> None:
    roll = NodeRoll(NodeCounts(3), node(5, workers=2), COMMAND)
    complete = []
    for who, one in (("z", node(3)), ("y", node(2, workers=2))):
        assert roll.come(who, one) == ""
        complete.append(roll.is_complete)
    assert complete == [False, True]
    parts = roll.parts()
    tasks = {who: [str(task) for task in part.tasks] for who, part in parts.items()}
    assert tasks == {
        "": ["worker:0", "worker:1"],
        "y": ["worker:2", "worker:3"],
        "z": ["worker:4"],
    }
    (cluster,) = {part.cluster for part in parts.values()}
    assert cluster.jobs["worker"] == (
        "10.0.0.5:5001",
        "10.0.0.5:5002",
        "10.0.0.2:2001",
        "10.0.0.2:2002",
        "10.0.0.3:3001",
    )


@pytest.mark.parametrize("evaluator", [False, True])
@pytest.mark.parametrize("ps", [0, 1, 2, 3, 7])
def test_a_node_holds_ports_enough_whichever_it_becomes(ps: int, evaluator: bool) -> None:
    counts = NodeCounts(3, ps, chief=True, evaluator=evaluator)
    for workers in (1, 2):
        ports = counts.ports(workers)
        nodes = [node(number, workers, ports=tuple(range(1, ports + 1))) for number in (1, 2, 3)]
        roll = NodeRoll(counts, nodes[0], COMMAND)
        for one in nodes[1:]:
            assert roll.come(one.host, one) == ""
        tasks = [task for part in roll.parts().values() for task in part.tasks]
        assert len(tasks) == 1 + 3 * workers + ps + evaluator


def other(**versions: str) -> Survey:
    return Survey({**VERSIONS, **versions}, "digest")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"wants": {"--nnodes": "2"}}, "was started with --nnodes 2, host1 (10.0.0.1, process 1)"),
        ({"wants": {}}, "was started with --nnodes unset"),
        ({"survey": other(TensorFlow="1.0")}, "has TensorFlow 1.0, and TensorFlow 2.21 is on host"),
        ({"survey": Survey(VERSIONS, "old")}, "another script train.py than is on host host1"),
    ],
)
def test_who_was_started_otherwise_is_refused(changed: Mapping[str, Any], said: str) -> None:
    roll = NodeRoll(NodeCounts(3), node(1), COMMAND)
    assert said in roll.come("a", node(2, **changed))
    assert roll.nodes == {}


def test_one_too_many_is_refused() -> None:
    roll = NodeRoll(NodeCounts(1), node(1), COMMAND)
    assert roll.come("a", node(2)) == "host2 (10.0.0.2, process 2) is one too many for --nnodes 1"


def test_long_commands_that_are_alike_are_no_fault_and_others_are_shown_where_they_differ() -> None:
    long = "train.py " + "--path /data/file " * 1000
    first = node(1, wants={"the script": long + "--epochs 3 " + long})
    alike = Node.from_tree(json.loads(json.dumps(node(2, wants=first.wants).to_tree())))
    assert alike.fault(first, COMMAND) == ""
    other = node(2, wants={"the script": long + "--epochs 4 " + long})
    fault = other.fault(first, COMMAND)
    assert "/data/file --epochs 4 train.py" in fault
    assert "/data/file --epochs 3 train.py" in fault
    assert len(fault) < 700
    assert "with the script train.py, host1" in node(2, wants={"the script": "train.py"}).fault(
        first, COMMAND
    )


def test_a_node_comes_through_its_message() -> None:
    one = node(2)
    assert Node.from_tree(json.loads(json.dumps(one.to_tree()))) == one


@pytest.mark.parametrize(
    "changed",
    [
        {"workers": 0},
        {"workers": 9},
        {"ports": [0]},
        {"ports": [70000]},
        {"ports": list(range(1, 5000))},
        {"address": "a b"},
        {"wants": []},
        {"survey": {}},
        {"pid": "x"},
    ],
)
def test_nothing_of_a_message_is_believed(changed: Mapping[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Node.from_tree({**node(2).to_tree(), **changed})
