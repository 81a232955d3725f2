"""Workers and parameter servers, one event after the other. Pure.

Every worker asks all servers for the weights, computes, sends all servers its gradients, and begins
again. A server answers and reads in the order in which it is asked, over one link that carries both
ways, and applies one worker's gradients after the other's. So workers meet where they ask the same
server, and where one may not be further ahead of the slowest: stale synchronous parallel (Ho et
al., "More effective distributed ML via a stale synchronous parallel parameter server", 2013), of
which 0 is in step, and no limit is Downpour (Dean et al., "Large scale distributed deep networks",
2012, section 4.1). As all servers are asked together, simulating the fullest one will do.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Sequence
from typing import Literal

from tfdist.given_numbers import is_count, is_number
from tfdist.scaling.link import Link

__all__ = ["ServerJob", "ServerRun"]

Asked = Literal["pull", "push"]


@dataclasses.dataclass(frozen=True)
class ServerRun:
    """What a simulation has seen.

    Attributes:
        steps: of each worker.
        seconds: until the last of them was applied.
    """

    steps: tuple[int, ...]
    seconds: float

    @property
    def steps_a_second(self) -> float:
        """Of all workers together."""
        return sum(self.steps) / self.seconds


@dataclasses.dataclass(frozen=True)
class ServerJob:
    """What all workers of a job share.

    Attributes:
        servers: how many hold the weights, at least 1.
        size: bytes of the weights, and of the gradients.
        link: of every task; it carries both ways at the same time.
        update: seconds in which one server alone would apply the gradients of all weights.
        every: steps between two messages (Downpour's n_push and n_fetch), at least 1.
        staleness: how many messages a worker may be ahead of the slowest; 0 is in step, None is no
            limit.
        fullest: the share of the bytes on the fullest server; by default they are spread evenly.
        hidden: the share of the last step's computing that is still to do when its gradients begin
            to travel, 0 to 1; 0 in tfdist, 2/3 where they are sent as the backward pass goes.

    Raises:
        ValueError: one is no such number.
    """

    servers: int
    size: float
    link: Link
    update: float = 0.0
    every: int = 1
    staleness: int | None = None
    fullest: float | None = None
    hidden: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("servers", self.servers), ("every", self.every)):
            if not is_count(value):
                raise ValueError(f"{name}={value!r}: give a number of at least 1")
        for name, number in (("size", self.size), ("update", self.update)):
            if number != 0 and not is_number(number, above=0):
                raise ValueError(f"{name}={number!r}: give a number of at least 0")
        if self.staleness is not None and not is_count(self.staleness, 0):
            raise ValueError(f"staleness={self.staleness!r}: give messages, at least 0, or None")
        if not 0 <= self.hidden <= 1:
            raise ValueError(f"hidden={self.hidden!r}: give a share of the computing, 0 to 1")
        least = 1 / self.servers
        if self.fullest is not None and not least - 1e-9 <= self.fullest <= 1:
            raise ValueError(
                f"fullest={self.fullest!r}: give a share of the bytes, {least:g} to 1, as there "
                f"are {self.servers} servers"
            )

    @property
    def share(self) -> float:
        """The share of the bytes on the fullest server."""
        return 1 / self.servers if self.fullest is None else self.fullest

    def bound(self) -> float:
        """Steps a second that the servers can take at most, however many workers there are."""
        busy = max(self.share * self.size / self.link.bandwidth, self.share * self.update)
        return self.every / busy if busy else float("inf")

    def run(self, paces: Sequence[float], rounds: int = 32) -> ServerRun:
        """Simulates the job from its start.

        Args:
            paces: seconds that each worker computes for a step.
            rounds: messages with gradients, of a worker on average, after which it ends.

        Raises:
            ValueError: a number is not what it should be.
        """
        if not paces or not all(0 <= pace < float("inf") for pace in paces):
            raise ValueError(f"paces={paces!r}: give seconds of a step for each worker")
        if not is_count(rounds):
            raise ValueError(f"rounds={rounds!r}: give a number of at least 1")
        return _Simulation(self, paces).until(rounds * len(paces))


class _Simulation:
    """The state of one run."""

    def __init__(self, job: ServerJob, paces: Sequence[float]) -> None:
        self._job, self._paces = job, paces
        self._answers = self._reads = self._applies = 0.0  # when the server is free to
        self._pushed = [0] * len(paces)
        self._computed = [0.0] * len(paces)  # when each has computed what it sends next
        self._slowest = 0
        self._waiting: list[int] = []
        self._number = itertools.count()  # whoever asked first comes first
        self._events: list[tuple[float, int, int, Asked]] = []
        for worker in range(len(paces)):
            self._ask(0.0, worker, "pull")

    def until(self, pushes: int) -> ServerRun:
        """Runs until so many gradients were applied."""
        end = 0.0
        for _ in range(pushes):
            while True:
                now, _, worker, asked = heapq.heappop(self._events)
                if asked == "push":
                    break
                pace = self._paces[worker]
                self._computed[worker] = self._answer(now) + self._job.every * pace
                self._ask(self._computed[worker] - self._job.hidden * pace, worker, "push")
            done = self._read(now, self._computed[worker])
            end = max(end, done)
            self._pushed[worker] += 1
            self._let_go(done, worker)
        steps = tuple(self._job.every * count for count in self._pushed)
        return ServerRun(steps, end)

    def _ask(self, now: float, worker: int, asked: Asked) -> None:
        heapq.heappush(self._events, (now, next(self._number), worker, asked))

    def _answer(self, now: float) -> float:
        """When a worker that asks now has all weights."""
        link, job = self._job.link, self._job
        asked = now + link.latency
        self._answers = max(asked, self._answers) + job.share * job.size / link.bandwidth
        return max(self._answers, asked + job.size / link.bandwidth) + link.latency

    def _read(self, now: float, computed: float) -> float:
        """When a worker that begins to send its gradients now knows that they are applied."""
        link, job = self._job.link, self._job
        sent = now + link.latency
        self._reads = max(sent, self._reads) + job.share * job.size / link.bandwidth
        last = max(sent + job.size / link.bandwidth, computed + link.latency)
        there = max(self._reads, last)
        self._applies = max(there, self._applies) + job.share * job.update
        return self._applies + link.latency

    def _let_go(self, now: float, worker: int) -> None:
        """Lets the worker begin again, and those that have waited for it, as far as they may."""
        limit = self._job.staleness
        if limit is None:
            self._ask(now, worker, "pull")
            return
        self._waiting.append(worker)
        before, self._slowest = self._slowest, min(self._pushed)
        asking = self._waiting if self._slowest > before else [worker]
        free = [one for one in asking if self._pushed[one] - self._slowest <= limit]
        for one in free:
            self._waiting.remove(one)
            self._ask(now, one, "pull")
