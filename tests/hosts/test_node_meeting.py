"""Launchers come together at one address, in one process here."""

from __future__ import annotations

import threading

import pytest

from tfdist.cluster.address import Address
from tfdist.cluster.secret import NO_SECRET
from tfdist.launch.hosts.survey import Survey
from tfdist.launch.nodes.node import Node
from tfdist.launch.nodes.node_meeting import NodeMeeting
from tfdist.launch.nodes.node_roll import NodeCounts, NodeRoll, Part
from tfdist.machine.ports import Reservation

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_launchers_of_one_machine_have_one_address_and_share_what_it_has(host: str) -> None:
    with Reservation(1) as free:
        (port,) = free.ports
    place, parts = Address(host, port), list[Part]()

    def meet(number: int) -> None:
        own = Node("h", number, host, 1, (4000 + number,), {}, Survey({}, ""))
        roll = NodeRoll(NodeCounts(2), own, ["train.py"])
        parts.append(NodeMeeting(place, roll, NO_SECRET, 20.0, lambda _: None).part())

    threads = [threading.Thread(target=meet, args=(number,), daemon=True) for number in (1, 2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(25)
    addresses = {at for part in parts for at in part.cluster.jobs["worker"]}
    assert {Address.parse(at).host for at in addresses} == {host}
    assert sorted(Address.parse(at).port for at in addresses) == [4001, 4002]
