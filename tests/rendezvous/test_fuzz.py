"""Thousands of messages that no task sends, to every port: none is accepted, and nothing breaks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.rendezvous.hostile import framed, malformed, strange_bytes
from tests.rendezvous.meeting import a_cluster, a_handshake, come, hosting, speaking
from tests.rendezvous.test_membership import Waiting, door
from tests.rendezvous.test_rendezvous_trouble import connect
from tfdist.cluster import Cluster
from tfdist.cluster.secret import Secret
from tfdist.errors import RendezvousMismatch, TaskLost
from tfdist.rendezvous.greeting import Newcomer
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.message_forms import read_message
from tfdist.rendezvous.messages import Connection, Gone, Message
from tfdist.rendezvous.participant import Participant
from tfdist.rendezvous.session import Session

THOROUGH = bool(os.environ.get("TFDIST_TEST_THOROUGH"))
TIMES = 1000 if THOROUGH else 60
SEED = int(os.environ.get("TFDIST_TEST_FUZZ", "18"))
OURS = Secret("our own secret word")
TO_CHIEF = ("hello", "proof")
TO_OTHERS = ("status", "go", "stop", "ended", "challenge")

pytestmark = pytest.mark.timeout(300 if THOROUGH else 60)


def recorded_pieces(cluster: Cluster) -> list[bytes]:
    """What one newcomer has said to a chief of the same job on another connection."""
    near, far = socket.socketpair()
    with near, far:
        newcomer = Newcomer(a_handshake(cluster, "worker:1"), OURS)
        pieces = [framed(json.dumps(newcomer.begin()).encode())]
        guest = Connection(near, newcomer)
        host = hosting_in_thread(far, cluster)
        assert guest.flush()
        end = time.monotonic() + 10
        while guest.is_greeting and time.monotonic() < end:
            with contextlib.suppress(Gone):
                guest.receive()
        assert newcomer._keys is not None
        proof = {"say": "proof", "proof": newcomer._keys.newcomers}
        pieces.append(framed(json.dumps(proof).encode()))
        seals = guest._seals
        assert seals is not None
        body = json.dumps(a_handshake(cluster, "worker:1").to_message()).encode()
        pieces.append(framed(seals.seal(body) + body))
        host()
    return pieces


def hosting_in_thread(far: socket.socket, cluster: Cluster) -> Callable[[], None]:
    thread = threading.Thread(target=lambda: hosting(far, cluster, OURS))
    thread.start()
    return lambda: thread.join(10)


def answered(connected: socket.socket, seconds: float) -> bytes:
    """All that comes until the other side closes, or until so long has passed."""
    heard = b""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while (left := end - time.monotonic()) > 0 and select.select([connected], [], [], left)[0]:
            data = connected.recv(65536)
            if not data:
                break
            heard += data
    return heard


def bother_without_the_secret(cluster: Cluster, times: int) -> int:
    """Sends strange bytes, each on a connection of its own; returns how many were accepted."""
    chance = random.Random(SEED)
    recorded = recorded_pieces(cluster)
    newcomer = Newcomer(a_handshake(cluster, "worker:1"), OURS)
    accepted = 0
    for _ in range(times):
        with connect(cluster) as stranger:
            data = strange_bytes(chance, newcomer.begin(), TO_CHIEF, recorded)
            with contextlib.suppress(ConnectionError):
                stranger.sendall(data)
            heard = answered(stranger, 0.05)
            accepted += any(word in heard for word in (b'"proven"', b'"status"', b'"go"'))
    return accepted


def bother_with_the_secret(cluster: Cluster, times: int) -> int:
    """Does the same once the greeting is over, with right seals (mostly) around wrong bodies."""
    chance = random.Random(SEED)
    hello = a_handshake(cluster, "worker:1").to_message()
    accepted = 0
    for _ in range(times):
        guest = speaking(connect(cluster), cluster, secret=OURS)
        assert guest._seals is not None
        if chance.random() < 0.2:  # a right message with a wrong seal
            body = json.dumps(hello).encode()
            seal = bytearray(guest._seals.seal(body))
            seal[chance.randrange(32)] ^= 1 << chance.randrange(8)
            data = framed(bytes(seal) + body)
        else:
            body = malformed(chance, hello, ("hello",))
            data = framed(guest._seals.seal(body) + body)
        guest.socket.setblocking(True)
        guest.socket.settimeout(5)
        with contextlib.suppress(ConnectionError):
            guest.socket.sendall(data)
        accepted += answered(guest.socket, 5) != b""  # a refusal says nothing, and closes
        guest.close()
    return accepted


@pytest.mark.parametrize(
    "bother", [bother_without_the_secret, bother_with_the_secret], ids=["without", "with"]
)
def test_a_chief_that_waits_lets_none_in_and_goes_on(
    bother: Callable[[Cluster, int], int],
) -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", secret=OURS, timeout=250.0)
        assert bother(cluster, TIMES) == 0
        assert chief.outcome is None
        other = come(cluster, "worker:1", secret=OURS).join()
        assert chief.join().agreement.seed == other.agreement.seed
        assert len(chief.log) < 20


@pytest.mark.parametrize(
    "bother", [bother_without_the_secret, bother_with_the_secret], ids=["without", "with"]
)
def test_a_chief_with_servers_lets_none_in_and_ends_well(
    bother: Callable[[Cluster, int], int],
) -> None:
    with a_cluster(2, ps=1) as cluster:
        coming = {
            str(task): come(cluster, str(task), stay=True, secret=OURS) for task in cluster.tasks
        }
        agreements = {task: one.join().agreement for task, one in coming.items()}
        waiting = [Waiting(agreements[task]) for task in ("worker:0", "worker:1", "ps:0")]
        membership = door(agreements)
        membership.wait_for_servers(5)
        assert bother(cluster, TIMES) == 0
        assert membership._thread.is_alive()
        assert membership.present() == cluster.tasks
        membership.close(well=True)
        assert [one.join() for one in waiting] == [None, None, None]
        assert len(coming["chief:0"].log) < 20


# ---------------------------------------------------------------- a false chief


@contextlib.contextmanager
def a_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.mark.parametrize("knows", [False, True], ids=["without", "with"])
def test_a_task_believes_no_false_chief(knows: bool) -> None:
    chance = random.Random(SEED)
    with a_cluster(2) as cluster:
        recorded = [framed(json.dumps({"say": "proven", "proof": "0" * 64}).encode()) * 2]
    seen = cluster.with_task("worker:1")
    for _ in range(TIMES):
        with a_pair() as (near, far):
            task = Participant(
                seen,
                a_handshake(cluster, "worker:1"),
                time.monotonic() + 5,
                log=lambda _: None,
                secret=OURS,
            )
            connection = (
                guest_of_who_knows(near, far, cluster)
                if knows
                else Connection(near, Newcomer(task.handshake, OURS))
            )
            far.setblocking(True)
            far.sendall(false_words(chance, cluster, connection if knows else None, recorded))
            far.shutdown(socket.SHUT_WR)
            # Who has proven nothing may say that it belongs to another job: then this task ends.
            with contextlib.nullcontext() if knows else contextlib.suppress(RendezvousMismatch):
                assert task._converse(connection) is None


@pytest.mark.parametrize("knows", [False, True], ids=["without", "with"])
def test_a_server_takes_no_false_word_for_the_end(knows: bool) -> None:
    chance = random.Random(SEED)
    with a_cluster(1, ps=1) as cluster:
        seen = cluster.with_task("ps:0")
    recorded = [framed(json.dumps({"say": "ended", "well": True, "text": ""}).encode())]
    for _ in range(TIMES):
        with a_pair() as (near, far):
            connection = guest_of_who_knows(near, far, cluster)
            words = false_words(chance, cluster, connection if knows else None, recorded)
            far.setblocking(True)
            far.sendall(words)
            far.shutdown(socket.SHUT_WR)
            with pytest.raises(TaskLost) as lost:
                Session(seen, connection, []).wait()
            assert " has sent " in str(lost.value) or " closed its connection" in str(lost.value)


def guest_of_who_knows(near: socket.socket, far: socket.socket, cluster: Cluster) -> Connection:
    """A newcomer's connection to somebody who has proven to know the secret."""
    join = hosting_in_thread(far, cluster)
    guest = speaking(near, cluster, secret=OURS)
    join()
    return guest


def false_words(
    chance: random.Random, cluster: Cluster, guest: Connection | None, recorded: list[bytes]
) -> bytes:
    """What a false chief says: strange bytes, or wrong bodies under right seals."""
    hello: Message = a_handshake(cluster, "worker:1").to_message()
    if guest is None:
        return strange_bytes(chance, hello, TO_OTHERS, recorded)
    body = malformed(chance, hello, TO_OTHERS[:-1])
    assert guest._seals is not None
    seals = type(guest._seals)(guest._seals._incoming, guest._seals._outgoing)
    return framed(seals.seal(body) + body)


def test_a_message_is_read_or_refused_and_nothing_else() -> None:
    """Whatever the reader lets through has the types that the rest believes it to have."""
    chance = random.Random(SEED)
    with a_cluster(2) as cluster:
        hello = a_handshake(cluster, "worker:1").to_message()
        own = a_handshake(cluster, "worker:0")
    for _ in range(TIMES * 3):
        body = malformed(chance, hello, (*TO_CHIEF, *TO_OTHERS))
        with contextlib.suppress(ValueError):
            message = read_message(body)
            read = Handshake.from_message(message)
            # What is left may be a task that the cluster has not; nothing else is read.
            assert read is None or read.task != "worker:1", body[:300]
            assert read is None or read.difference(own) is None
