"""The rendezvous: the tasks of a job meet before TensorFlow opens a port.

TensorFlow waits in silence for a task that never comes, and trains alone or hangs where the tasks
do not agree. So they meet first, over plain TCP at the chief's own address:

    worker:0 ──hello──►┐
    worker:1 ──hello──►│ chief:0 ──status (who is missing)──► all, every second; they answer "here"
    worker:2 ──hello──►┘         ──go (seed), or stop (why)──► all

The chief listens at its port only while they meet, then leaves it to TensorFlow. Where the other
tasks are servers (`stay`), it keeps the port, and they their connections, to the end of the job:
see `membership.py` (the chief's side) and `session.py` (a server's).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType

from absl import logging

from tfdist import process
from tfdist.cluster.address import Address
from tfdist.cluster.secret import Secret
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.errors import ClusterError, PortInUse, TfdistError
from tfdist.machine.hosts import look_up
from tfdist.machine.places import check_own_port
from tfdist.machine.ports import Reservation, listen, shareable
from tfdist.rendezvous.cards import Holding, holding_of
from tfdist.rendezvous.coordinator import Coordinator
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.in_touch import InTouch
from tfdist.rendezvous.membership import Membership
from tfdist.rendezvous.participant import Participant
from tfdist.rendezvous.session import Session
from tfdist.rendezvous.wording import Log

__all__ = ["Agreement", "listening", "meet", "refusals_told"]

_UNPROVEN = (
    "no secret: whoever reaches {} can come as a task of this job, or end it; give every task the "
    "same TFDIST_SECRET or TFDIST_SECRET_FILE (a word of 16 characters or more)"
)
_REFUSAL = 0.5  # seconds for telling the others that one cannot come


@dataclass(frozen=True)
class Agreement:
    """What the tasks of a job have agreed on.

    Close it, or leave its `with` block, once TensorFlow has opened its port: until then it holds
    the port against other programs, where the system lets TensorFlow share it (`ports.shareable`).

    Attributes:
        seed: The job's random seed, 31 bits, the same on every task.
        tasks: Those who met, in the cluster's order.
        waited: How long this task waited, in seconds.
        held: The task's port, where it is held.
        membership: Who is here, on the chief of those who stay; None elsewhere.
        session: The wait for the end, on the servers of those who stay; None elsewhere.
        touch: What tasks in step know of each other; None elsewhere.
        holding: How the tasks hold the job's GPUs, where they have told of them.
    """

    seed: int
    tasks: tuple[Task, ...]
    waited: float
    held: Reservation = field(default_factory=Reservation, repr=False, compare=False)
    membership: Membership | None = field(default=None, repr=False, compare=False)
    session: Session | None = field(default=None, repr=False, compare=False)
    touch: InTouch | None = field(default=None, repr=False, compare=False)
    holding: Holding = "none"

    def wait_for_the_end(self) -> None:
        """On a server that listens: tells the chief so, and returns once the job has ended well.

        A signal that asks for the end is told to the chief, which has the job saved first.

        Raises:
            ClusterError: This task is no server of a job whose tasks stay.
            TaskLost: The job has ended badly, or the chief has died.
        """
        if self.session is None:
            raise ClusterError("no chief to wait for; meet(..., stay=True) on a server task")
        with self.session.asking_to_end():
            self.session.wait()

    def close(self) -> None:
        """Lets go of the task's port. Those who stay go on staying."""
        self.held.close()

    def __enter__(self) -> Agreement:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def refusals_told(cluster: Cluster, kind: str = "") -> Iterator[None]:
    """Tells the tasks that wait for this one, where it finds its port taken, that it cannot come.

    Args:
        cluster: The job, with the task that this process is.
        kind: As of `meet`.

    Raises:
        PortInUse: As it is raised in the block, after the others have been told.
    """
    try:
        yield
    except PortInUse as error:
        if cluster.task is not None and not cluster.is_chief and cluster.task.type != "evaluator":
            refusal = Handshake(str(cluster.task), cluster.jobs, kind, {}, 0.0, 0.0)
            refusal = replace(refusal, refusal=str(error))
            until = time.monotonic() + _REFUSAL
            with contextlib.suppress(TfdistError):
                secret = process.secret()
                Participant(cluster, refusal, until, lambda _: None, secret=secret).run()
        raise


def meet(
    cluster: Cluster,
    *,
    timeout: float = 120.0,
    versions: Mapping[str, str] = MappingProxyType({}),
    kind: str = "",
    stay: bool = False,
    secret: Secret | None = None,
    in_step: bool = False,
    cards: tuple[str, ...] | None = None,
    log: Log = logging.info,
) -> Agreement:
    """Waits until all tasks of a job are here and agree.

    An evaluator works beside the others and does not come. A job of one task meets nobody and
    opens no port.

    Args:
        cluster: The job, with the task that this process is.
        timeout: How long to wait, in seconds. Whoever has the earliest deadline ends the wait for
            all who are here.
        versions: Of what must be the same on all tasks, by name.
        kind: The kind of strategy that the task is going to make, which must be the same too.
        stay: Whether the chief keeps its port and the tasks their connections until the job ends,
            for kinds whose other tasks are servers. A server that has died may then come back.
        secret: What the tasks prove to each other to know; None for this process' own
            (`tfdist.process.secret`).
        in_step: Whether the tasks keep their connections, but the chief not its port: nobody may
            come back; see `in_touch`.
        cards: The GPUs that this task computes on, by names that are the same for all tasks; None
            where their number does not matter to the others.
        log: Takes one line an event.

    Returns:
        What the tasks agreed on.

    Raises:
        ClusterError: The cluster has no task for this process.
        PortInUse: The task's port is taken; the others hear it at once.
        RendezvousTimeout: Somebody was missing at the deadline; the message names them all.
        RendezvousMismatch: Somebody came with another cluster spec, version, kind or name.
        RendezvousError: Something that is no tfdist task is at the chief's address.
    """
    start = time.monotonic()
    if not timeout > 0:
        raise ClusterError(f"rendezvous timeout of {timeout} s; give the longest wait in seconds")
    if cluster.task is None:
        raise ClusterError("cluster without a task; say which one this process is: with_task(...)")
    tasks = cluster.tasks_that_meet
    if cluster.task not in tasks:
        raise ClusterError(f"task {cluster.task}, which works beside the others and meets nobody")
    if len(tasks) == 1:
        return Agreement(secrets.randbits(31), tasks, 0.0, holding=holding_of([cards]))
    secret = process.secret() if secret is None else secret
    with refusals_told(cluster, kind):
        check_own_port(cluster)
    own = Address.parse(cluster.address(cluster.task))
    held = Reservation(ports=(own.port,) if shareable() else ())
    membership, session, touch = None, None, None
    parted = stay or in_step
    try:
        handshake = Handshake(
            str(cluster.task), cluster.jobs, kind, versions, timeout, timeout, cards=cards
        )
        if cluster.is_chief:
            if not secret and not _is_of_one_host(cluster):
                log(_UNPROVEN.format(own))
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(listening(cluster, own))
                coordinator = Coordinator(
                    cluster, tasks, handshake, server, start + timeout, log, parted, secret
                )
                seed = coordinator.run()
                holding = coordinator.holding
                if stay:
                    membership = Membership(
                        cluster, tasks, handshake, seed, server, coordinator.parted, log, secret
                    )
                    stack.pop_all()
                elif in_step:
                    connections = {task: one for task, (one, _) in coordinator.parted.items()}
                    touch = InTouch(cluster, connections)
        else:
            participant = Participant(cluster, handshake, start + timeout, log, parted, secret)
            seed = participant.run()
            holding = participant.holding
            if participant.parted is not None and in_step:
                touch = InTouch(cluster, {cluster.chief: participant.parted[0]})
            elif participant.parted is not None:
                session = Session(cluster, *participant.parted)
    except BaseException:
        held.close()
        raise
    waited = time.monotonic() - start
    return Agreement(seed, tasks, waited, held, membership, session, touch, holding)


def _is_of_one_host(cluster: Cluster) -> bool:
    return all(Address.parse(cluster.address(task)).is_loopback for task in cluster.tasks)


def listening(cluster: Cluster, own: Address) -> socket.socket:
    """Listens where a task does: at the loopback alone where that is its address.

    Args:
        cluster: The job, with the task that this process is.
        own: The task's address.

    Raises:
        PortInUse: The port is taken.
        ClusterError: This machine cannot listen there.
    """
    hosts: tuple[str | None, ...] = (None,)
    if own.is_loopback:  # then nobody needs to come from outside
        found = look_up([own.host], 1.0)[own.host]
        hosts = found if isinstance(found, tuple) else ("127.0.0.1",)
    for host in hosts:
        try:
            return listen(own.port, host=host, backlog=max(128, len(cluster)))
        except OSError as error:
            reason = error
    check_own_port(cluster)
    raise ClusterError(
        f"address {own} of {cluster.task}, where this machine cannot listen "
        f"({(reason.strerror or str(reason)).lower()}); give {cluster.task} another one"
    )
