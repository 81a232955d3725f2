"""The tasks of a job prove to each other that they know its secret, and nobody else gets in."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tests.machine.names import Names
from tests.rendezvous.meeting import Coming, a_cluster, a_handshake, come, hosting, speaking
from tests.rendezvous.test_membership import Waiting, door, until
from tests.rendezvous.test_messages import frame
from tests.rendezvous.test_rendezvous_trouble import connect
from tfdist.cluster import Cluster
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.errors import RendezvousMismatch
from tfdist.rendezvous.agreement import Agreement
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import crowded_out
from tfdist.rendezvous.messages import MAGIC, Connection, Gone, Refusal, Stranger

pytestmark = pytest.mark.timeout(40)
OURS, THEIRS = Secret("our own secret word"), Secret("another secret word")
ADVICE = "; give every task the same TFDIST_SECRET or TFDIST_SECRET_FILE"


def refusals(coming: Coming) -> list[str]:
    return [line for line in coming.log if line.startswith("refused a connection from ")]


def test_tasks_with_one_secret_meet_and_hear_how_the_job_ended() -> None:
    with a_cluster(1, ps=1) as cluster:
        coming = {
            str(task): come(cluster, str(task), stay=True, secret=OURS) for task in cluster.tasks
        }
        agreements = {task: one.join().agreement for task, one in coming.items()}
        assert len({one.seed for one in agreements.values()}) == 1
        waiting = [Waiting(agreements[task]) for task in ("worker:0", "ps:0")]
        door(agreements).wait_for_servers(5)
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None]


@pytest.mark.parametrize(
    ("chiefs", "others", "how"),
    [
        (OURS, THEIRS, "came with another secret than worker:0's"),
        (OURS, NO_SECRET, "came without a secret, worker:0 has one"),
    ],
)
def test_who_does_not_know_the_secret_fails_alone(chiefs: Secret, others: Secret, how: str) -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", secret=chiefs)
        for _ in range(3):
            said = come(cluster, "worker:1", secret=others).join().failed(RendezvousMismatch)
            assert said.startswith(
                f"worker:0 ({cluster.address('worker:0')}) and worker:1 do not belong together: "
                "worker:1 (process "
            )
            assert said.endswith(how + ADVICE)
        other = come(cluster, "worker:1", secret=chiefs).join()
        assert chief.join().agreement.seed == other.agreement.seed
    (line,) = refusals(chief)
    assert line.endswith(how + ADVICE)
    assert not any(word in line + said for word in (OURS.word, THEIRS.word))


def test_who_has_a_secret_that_the_chief_has_not_is_told_to_all() -> None:
    with a_cluster(3) as cluster:
        here = [come(cluster, task) for task in ("worker:0", "worker:1")]
        other = come(cluster, "worker:2", secret=OURS)
        (said,) = {one.join().failed(RendezvousMismatch) for one in here}
        assert said.startswith("worker:2 (process ")
        assert said.endswith(" came with a secret, worker:0 has none" + ADVICE)
        assert said in other.join().failed(RendezvousMismatch)


def test_who_does_not_know_the_secret_comes_not_back_either() -> None:
    with a_cluster(1, ps=1) as cluster:
        coming = {
            str(task): come(cluster, str(task), stay=True, secret=OURS) for task in cluster.tasks
        }
        agreements: dict[str, Agreement] = {t: c.join().agreement for t, c in coming.items()}
        session = agreements["ps:0"].session
        assert session is not None
        session.close()
        for secret in (THEIRS, NO_SECRET):
            come(cluster, "ps:0", stay=True, secret=secret).join().failed(RendezvousMismatch)
        assert len(refusals(coming["chief:0"])) == 1  # of one host, one line
        back = come(cluster, "ps:0", stay=True, secret=OURS).join().agreement
        waiting = [Waiting(back), Waiting(agreements["worker:0"])]
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None]


def test_a_chief_that_does_not_know_the_secret_is_not_believed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, a_cluster(2) as spare:
        chief = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster({"worker": (chief, spare.address("worker:1"))})
        other = come(cluster, "worker:1", secret=OURS)
        false = Connection(server.accept()[0])
        while not false.receive():
            time.sleep(0.01)
        false.send({"say": "challenge", "nonce": "0" * 32})
        while not (proof := false.receive()):
            time.sleep(0.01)
        assert proof[0]["say"] == "proof"
        false.send({"say": "proven", "proof": proof[0]["proof"]})  # its own, sent back
        false.send({"say": "go", "seed": 7})
        assert other.join().failed(RendezvousMismatch) == (
            f"worker:0 ({chief}) and worker:1 do not belong together: it does not know this task's "
            "secret" + ADVICE
        )
        false.close()


# ---------------------------------------------------------------- version 1


def version_1(cluster: Cluster) -> dict[str, Any]:
    return {**a_handshake(cluster, "worker:1").to_message(), "protocol": 1}


def test_a_task_of_version_1_is_named_and_told() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", secret=OURS)
        old = Connection(connect(cluster))
        old.send(version_1(cluster))
        until(lambda: refusals(chief))
        (told,) = old.receive()
        assert told["say"] == "stop"
        assert told["text"].endswith(
            " speaks version 1 of the rendezvous, worker:0 version 3; install the same tfdist on "
            "every machine"
        )
        assert refusals(chief)[0].endswith(told["text"])
        other = come(cluster, "worker:1", secret=OURS).join()
        assert chief.join().agreement.seed == other.agreement.seed
        old.close()


def test_without_a_secret_a_task_of_version_1_is_told_to_all() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        old = Connection(connect(cluster))
        old.send(version_1(cluster))
        assert "speaks version 1 of the rendezvous" in chief.join().failed(RendezvousMismatch)
        old.close()


def test_a_chief_of_version_1_can_read_the_hello_and_is_believed_on_the_version() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, a_cluster(2) as spare:
        chief = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster({"worker": (chief, spare.address("worker:1"))})
        other = come(cluster, "worker:1", secret=OURS)
        old = Connection(server.accept()[0])
        while not (messages := old.receive()):
            time.sleep(0.01)
        # What version 1 reads of a hello, as it did.
        fields = {"task", "jobs", "kind", "versions", "timeout", "remaining", "pid", "host"}
        assert fields | {"token", "protocol"} <= set(messages[0])
        assert messages[0]["protocol"] == 3
        text = "worker:1 speaks version 3 of the rendezvous, worker:0 version 1; install"
        old.send({"say": "stop", "error": "mismatch", "text": text})
        assert text in other.join().failed(RendezvousMismatch)
        old.close()


# ---------------------------------------------------------------- on the way


class Tap:
    """Somebody between the tasks and the chief, who may change what goes to the chief."""

    def __init__(self, at: int, to: int) -> None:
        self.sent: list[bytes] = []
        self._to = to
        self._server = socket.create_server(("127.0.0.1", at))
        self._server.settimeout(0.1)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def change(self, data: bytes) -> bytes:
        return data

    def _serve(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                near, _ = self._server.accept()
                with near, socket.create_connection(("127.0.0.1", self._to), 5) as far:
                    back = threading.Thread(target=self._back, args=(far, near))
                    back.start()
                    while data := near.recv(65536):
                        self.sent.append(data)
                        far.sendall(self.change(data))
                    far.shutdown(socket.SHUT_WR)
                    back.join(5)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(10)
        self._server.close()


@contextlib.contextmanager
def through(tap: type[Tap]) -> Iterator[tuple[Cluster, Cluster, Tap]]:
    """A cluster as the chief knows it, and as a task that is led through the tap does."""
    with a_cluster(2) as cluster, a_cluster(1) as spare:
        port = [int(at.rpartition(":")[2]) for at in cluster.jobs["worker"]]
        (way,) = (int(at.rpartition(":")[2]) for at in spare.jobs["worker"])
        with tap(way, port[0]) as tapped:
            yield cluster, Cluster({"worker": (f"127.0.0.1:{way}", f"127.0.0.1:{port[1]}")}), tapped


def test_what_was_recorded_of_one_meeting_opens_no_other() -> None:
    with through(Tap) as (cluster, led, tap):
        chief = come(cluster, "worker:0", secret=OURS)
        # The clusters differ, so the chief's refusal tells that the sealed hello was read.
        said = come(led, "worker:1", secret=OURS).join().failed(RendezvousMismatch)
        assert "was started with another cluster spec" in said
        assert chief.join().failed(RendezvousMismatch) == said
        recorded = list(tap.sent)
        assert sum(data.count(MAGIC) for data in recorded) >= 3  # hello, proof, sealed hello
        again = come(cluster, "worker:0", secret=OURS)
        with connect(cluster) as replay:
            for data in recorded[:3]:
                replay.sendall(data)
                time.sleep(0.05)
            heard = b""
            with contextlib.suppress(ConnectionError):
                while data := replay.recv(65536):
                    heard += data
        assert b'"stop"' in heard
        assert b'"proven"' not in heard
        other = come(cluster, "worker:1", secret=OURS).join()
        assert again.join().agreement.seed == other.agreement.seed


def test_a_message_that_was_changed_on_the_way_is_refused() -> None:
    class Changing(Tap):
        def change(self, data: bytes) -> bytes:
            return re.sub(rb'"token": "[0-9a-f]', b'"token": "x', data)  # none is in the opening

    with through(Changing) as (cluster, led, _):
        chief = come(cluster, "worker:0", secret=OURS)
        other = come(led, "worker:1", secret=OURS, kind="", timeout=2.0)
        until(lambda: any("a message without the job's seal" in line for line in chief.log))
        direct = come(cluster, "worker:1", secret=OURS).join()
        assert chief.join().agreement.seed == direct.agreement.seed
        other.join()


def test_words_that_a_signal_handler_says_keep_their_place() -> None:
    """A server tells the chief of a signal from inside of whatever it is saying."""
    with a_cluster(2) as cluster:
        near, far = socket.socketpair()
        ends: list[Connection] = []
        opening = threading.Thread(target=lambda: ends.append(hosting(far, cluster, OURS)))
        opening.start()
        speaker = speaking(near, cluster, secret=OURS)
        opening.join(10)
    heard: list[int] = []

    def interrupt(number: int, stack: FrameType | None) -> None:
        speaker.send({"say": "x", "by": "signal"})
        said.append(1)

    said: list[int] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            speaker.send({"say": "x", "by": "main"})
            said.append(0)
            heard += [1 for _ in ends[0].receive()]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    speaker.flush()
    time.sleep(0.1)
    heard += [1 for _ in ends[0].receive()]
    assert sum(said) > 100
    assert len(heard) == len(said)
    speaker.close()
    ends[0].close()


# ---------------------------------------------------------------- whoever has proven nothing


def test_who_has_proven_nothing_sends_little() -> None:
    with a_cluster(2) as cluster:
        near, far = socket.socketpair()
        with near, far:
            host = Connection(near, Host(a_handshake(cluster, "worker:0"), OURS))
            far.sendall(MAGIC + (70_000).to_bytes(4, "big"))
            with pytest.raises(Stranger, match="of 70000 bytes, where 65536 are the most"):
                host.receive()


@pytest.mark.parametrize(
    "opening",
    [
        {"say": "proof", "proof": "0" * 64},
        {"say": "hello"},
        {"nonce": "0" * 31},
        {"nonce": "G" * 32},
        {"nonce": ["0" * 32]},
        {"secret": 1},
        {"protocol": "2"},
        {"protocol": True},
    ],
)
def test_an_opening_that_is_none_is_a_strangers(opening: dict[str, Any]) -> None:
    with a_cluster(2) as cluster:
        hello = a_handshake(cluster, "worker:1").to_message()
    whole = {**hello, "nonce": "0" * 32, "secret": True}
    near, far = socket.socketpair()
    with near, far:
        host = Connection(near, Host(a_handshake(cluster, "worker:0"), OURS))
        message = {**whole, **opening} if len(opening) == 1 and "say" not in opening else opening
        far.sendall(frame(json.dumps(message).encode()))
        with pytest.raises(Stranger) as caught:
            host.receive()
        assert not isinstance(caught.value, Refusal)
        with pytest.raises((Gone, BlockingIOError)):
            far.setblocking(False)
            far.recv(10)


def test_a_host_with_many_guests_pushes_out_its_own() -> None:
    def guest(peer: str) -> Connection:
        near, far = socket.socketpair()
        far.close()
        one = Connection(near)
        one.peer = peer
        return one

    guests = {guest(peer): 0.0 for peer in ("a:1", "b:1", "b:2", "[::1]:5", "b:3", "a:2")}
    assert crowded_out(guests).peer == "b:1"
    for one in guests:
        one.close()


def test_a_chief_of_several_hosts_without_a_secret_says_so_once(names: Names) -> None:
    names({"node-1": "127.0.0.1", "node-2": "127.0.0.1"})
    with a_cluster(2) as local:
        ports = [at.rpartition(":")[2] for at in local.jobs["worker"]]
        cluster = Cluster({"worker": (f"node-1:{ports[0]}", f"node-2:{ports[1]}")})
        for secret, times in ((NO_SECRET, 1), (OURS, 0)):
            chief, other = [come(cluster, f"worker:{n}", secret=secret) for n in (0, 1)]
            assert chief.join().agreement.seed == other.join().agreement.seed
            told = [line for line in chief.log if line.startswith("no secret: ")]
            assert len(told) == times
            assert not any("no secret" in line for line in other.log)
            at = f"node-1:{ports[0]}"
            assert all(f"whoever reaches {at} can come as a task" in line for line in told)
