"""A job of launchers that exist on paper only, for what the foreman decides of it."""

from __future__ import annotations

from typing import Any

from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import Size
from tfdist.launch.crew.cause import Cause
from tfdist.launch.crew.foreman import Foreman
from tfdist.launch.crew.foreman_link import join_message
from tfdist.launch.crew.roll import OWN
from tfdist.launch.crew.strength import Strength
from tfdist.launch.restarts import Restarts

__all__ = [
    "FAILED",
    "FOLLOWS",
    "PATIENCE",
    "SETTLE",
    "Play",
    "lost",
    "on_hosts",
    "on_one_machine",
    "with_servers",
]

SETTLE, PATIENCE = 10.0, 120.0


class Play:
    """A job of launchers that do what they are told, and a clock that is set by hand."""

    def __init__(
        self,
        workers: int,
        size: tuple[int, int],
        max_restarts: int | None = None,
        servers: tuple[int, int] | None = None,
        **others: tuple[str, ...],
    ) -> None:
        ports = range(41001, 41001 + workers)
        self.cluster = Cluster({"worker": tuple(f"127.0.0.1:{port}" for port in ports), **others})
        ranges = {"worker": Size(*size)}
        if servers is not None:
            ranges["ps"] = Size(*servers, "ps")
        self.strength = Strength(self.cluster, ranges)
        self.restarts = Restarts(
            3 if max_restarts is None else max_restarts, False, max_restarts is not None
        )
        self.now = 0.0
        self.foreman = Foreman(self.strength, self.restarts, SETTLE, PATIENCE, self.now)
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.silent: set[str] = set()
        self.generation = 0
        self.tasks: dict[str, dict[str, str]] = {}  # of each launcher's places, now

    def come(self, who: str, *places: str, **changed: Any) -> None:
        tasks = [Task.parse(place) for place in places]
        message = join_message(self.strength, tasks, self.restarts.most)
        self.told[who] = []
        self.foreman.hear(who, {**message, **changed})

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.5, until)
            for who in set(self.told) - self.silent:
                self.foreman.hear(who, {"say": "alive"})
            self.foreman.tick(self.now)
            self.deliver()

    def deliver(self) -> None:
        for who, message in self.foreman.orders:
            self.told.setdefault(who, []).append(message)
            if message["say"] == "start":
                if message["generation"] > self.generation:
                    self.tasks.clear()
                self.generation = message["generation"]
                self.tasks[who] = message["tasks"]
        self.foreman.orders.clear()

    def say(self, who: str, say: str, **more: Any) -> None:
        self.foreman.hear(who, {"say": say, **more})
        self.deliver()

    def ends(self, who: str, *causes: Cause, well: bool = False) -> None:
        """A launcher's tasks end, and it says first why."""
        trees = [one.to_tree() for one in causes]
        if causes:
            self.say(who, "failed", generation=self.generation, causes=trees)
        self.say(who, "at rest", generation=self.generation, causes=trees, well=well)

    def the_others_end(self, *but: str) -> None:
        """All launchers of the generation that are here end, as they have lost another one."""
        for who in [who for who in self.tasks if who in self.told and who not in but]:
            self.ends(who, FOLLOWS)

    def all_saved(self) -> None:
        for who in list(self.tasks):
            self.ends(who, Cause("follows", 75, "saved"))

    def gone(self, who: str) -> None:
        del self.told[who]
        self.foreman.gone(who)
        self.deliver()

    def last(self, who: str) -> dict[str, Any]:
        return self.told[who][-1]

    @property
    def said(self) -> str:
        return "\n".join(self.foreman.notes)

    @property
    def members(self) -> dict[str, str]:
        """The task of each place that takes part."""
        return {place: task for own in self.tasks.values() for place, task in own.items()}


def lost(place: str) -> Cause:
    return Cause("lost", 137, f"{place} was ended by SIGKILL", Task.parse(place))


FOLLOWS = Cause("follows", 75, "worker:0 has lost another task")
FAILED = Cause("failed", 1, "worker:1 ended with exit code 1", Task("worker", 1))


def on_one_machine(size: tuple[int, int] = (1, 3), max_restarts: int | None = None) -> Play:
    play = Play(size[1], size, max_restarts)
    play.come(OWN, *(f"worker:{k}" for k in range(size[1])))
    play.wait(1)
    return play


def on_hosts(
    count: int, size: tuple[int, int] | None = None, max_restarts: int | None = None
) -> Play:
    play = Play(count, size or (count, count), max_restarts)
    play.come(OWN, "worker:0")
    for k in range(1, count):
        play.come(f"host{k}", f"worker:{k}")
    play.wait(1)
    return play


def with_servers(max_restarts: int = 1) -> Play:
    play = Play(2, (2, 2), max_restarts, chief=("127.0.0.1:42001",), ps=("127.0.0.1:43001",))
    play.come(OWN, "chief:0")
    for place in ("worker:0", "worker:1", "ps:0"):
        play.come(place, place)
    play.wait(1)
    assert play.generation == 1
    return play
