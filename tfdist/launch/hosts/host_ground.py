"""All hosts of a job as the ground on which its tasks run."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.errors import ClusterError, RendezvousError, TfdistError
from tfdist.launch.gpu_shares import GpuSupply, together
from tfdist.launch.ground import FOLDER_VARIABLE
from tfdist.launch.guardian import Guardian
from tfdist.launch.hosts.carried import carried, wished
from tfdist.launch.hosts.host_link import HostLink
from tfdist.launch.hosts.host_task import HostTask
from tfdist.launch.hosts.host_witness import HostWitness
from tfdist.launch.hosts.spread import Spread
from tfdist.launch.hosts.ssh_command import Trouble, remote_command, ssh_command, trouble_of
from tfdist.launch.hosts.survey import Survey, arguments_that_are_paths
from tfdist.launch.plan import JobPlan, TaskPlan
from tfdist.launch.running_task import RunningTask
from tfdist.launch.task_process import begin_log
from tfdist.machine.gpus import ORDER_VARIABLE, VISIBLE_VARIABLE, Gpu
from tfdist.machine.signals import DEFAULT_GRACE
from tfdist.rendezvous.message_forms import Message

__all__ = ["Connecting", "HostGround", "Planner"]

_AFTER_A_FAILURE_SECONDS = 5.0  # to find out what is wrong with the other hosts, too
_QUIET_SECONDS, _GOODBYE_SECONDS = 3.0, 3.0
_CHOOSES_GPUS = {VISIBLE_VARIABLE, ORDER_VARIABLE}


class Planner(Protocol):
    """Plans tasks of one host: `make_plan`, with the script and its options."""

    def __call__(
        self,
        cluster: Cluster,
        *,
        tasks: Sequence[Task],
        cores: int,
        gpus: GpuSupply,
        environ: Mapping[str, str],
        python: str,
    ) -> JobPlan:
        """See `make_plan`."""


@dataclass(frozen=True)
class Connecting:
    """How hosts are connected to.

    Attributes:
        ssh: The SSH client, with options of its own.
        python: The interpreter on each host.
        env: Variables that go along besides, as "NAME" or "NAME=value".
        patience: Seconds for which all hosts are waited for.
        grace: Seconds between SIGTERM and SIGKILL for tasks whose launcher is gone.
        again: Seconds for which a lost host is tried where tasks are started there again.
        gpus_per_task: See `GpuSupply`.
        gpu_memory: See `GpuSupply`.
        secure: Whether the tasks reach each other through tunnels alone.
    """

    ssh: str = "ssh"
    python: str = sys.executable
    env: tuple[str, ...] = ()
    patience: float = 120.0
    grace: float = DEFAULT_GRACE
    again: float = 0.0
    gpus_per_task: int | None = None
    gpu_memory: int | None = None
    secure: bool = False


class HostGround:
    """Hosts with an agent on each, for one job; see `connected`."""

    def __init__(
        self, spread: Spread, command: Sequence[str], how: Connecting, guardian: Guardian
    ) -> None:
        self.spread = spread
        self.how = how
        self._command = tuple(command)
        self._guardian = guardian
        self._environ = carried(os.environ, how.env)
        self._here = Survey.here(command)
        self._paths = arguments_that_are_paths(command)
        self._notes: list[str] = []
        self._ports: list[list[int]] = []
        self._surveys: list[Message] = []  # of each host, also while it is connected to again
        self._places: dict[str, int] = {}  # of addresses
        self._chief = ""  # its address
        self.links: list[HostLink] = []

    @classmethod
    @contextlib.contextmanager
    def connected(
        cls, spread: Spread, command: Sequence[str], how: Connecting
    ) -> Iterator[HostGround]:
        """Connects to all hosts, and looks whether the job can run there; nothing starts yet.

        Args:
            spread: The tasks and their hosts.
            command: The script's.
            how: How to connect.

        Yields:
            The hosts, until the end of the block.

        Raises:
            ClusterError: A host cannot be used before somebody has mended something.
            RendezvousError: A host does not answer.
        """
        with Guardian(secrets.token_hex(8)) as guardian:
            ground = cls(spread, command, how, guardian)
            try:
                for place in range(len(spread.hosts)):
                    ground.links.append(ground._link(place, ground._hello(spread.ports_of(place))))
                ground._wait_for_all()
                yield ground
            finally:
                for link in ground.links:
                    link.hang_up()
                for link in ground.links:
                    link.close()

    # ------------------------------------------------------------ before the job

    def cluster(self) -> Cluster:
        """The job's cluster, with ports that its hosts hold.

        Raises:
            ClusterError: The hosts would not find each other at their addresses.
        """
        self._surveys = [link.answers["survey"] for link in self.links]
        addresses = []
        for link, survey in zip(self.links, self._surveys, strict=True):
            name = link.host.name.rpartition("@")[2]
            addresses.append(link.host.address or str(survey["address"]) or name)
        inner = [Address(address, 1).is_loopback for address in addresses]
        if any(inner) and not all(inner):
            host = self.spread.hosts[inner.index(True)].name
            raise ClusterError(
                f"host {host} is at {addresses[inner.index(True)]} from here, where the others do "
                f"not find it; name it as they know it, or give address=A in a hosts file"
            )
        self._ports = [[int(port) for port in survey["ports"]] for survey in self._surveys]
        for place, ports in enumerate(self._ports):
            at = {str(Address(addresses[place], port)): place for port in ports}
            self._places |= at
        cluster = self.spread.cluster(addresses, self._ports)
        self._chief = cluster.jobs.get("chief", ("",))[0]
        return cluster

    def plan(self, cluster: Cluster, tasks: Sequence[Task], make: Planner) -> JobPlan:
        """Plans tasks, each for its host.

        Args:
            cluster: That of `cluster`, or a part of it.
            tasks: Its tasks.
            make: Plans those of one host.
        """
        parts = []
        for place, survey in enumerate(self._surveys):
            own = [task for task in tasks if self._place_of(cluster.jobs, task) == place]
            if own:
                parts.append(
                    make(
                        cluster,
                        tasks=own,
                        cores=int(survey["cores"]),
                        gpus=self._gpus(survey),
                        environ={**survey["environ"], **self._environ},
                        python=self.how.python,
                    )
                )
        plans = {plan.task: plan for part in parts for plan in part.tasks}
        threads = {part.threads for part in parts}
        alike = threads.pop() if len(threads) == 1 else None
        in_order = tuple(plans[task] for task in tasks)
        gpus = together([part.gpus for part in parts], tasks)
        return JobPlan(cluster, in_order, alike, parts[0].plugged, gpus)

    def _gpus(self, survey: Message) -> GpuSupply:
        """What a host has for its tasks."""
        if self.how.gpus_per_task == 0:
            return GpuSupply(per_task=0, memory=self.how.gpu_memory)
        gpus = tuple(Gpu(str(uuid), str(name)) for uuid, name in survey["gpus"])
        how = self.how
        return GpuSupply(gpus, how.gpus_per_task, how.gpu_memory, bool(survey["gpus_are_own"]))

    def _link(self, place: int, hello: Message, keeps_trying: float = 0.0) -> HostLink:
        host, python = self.spread.hosts[place], self.how.python
        path = {name: self._environ[name] for name in ("PYTHONPATH",) if name in self._environ}
        remote = remote_command(python, os.getcwd(), path)
        command = ssh_command(self.how.ssh, host.name, remote)
        return HostLink(host, command, self._guardian, hello, keeps_trying)

    def _hello(self, count: int, ports: Sequence[int] = ()) -> Message:
        return {
            "say": "hello",
            "command": list(self._command),
            "paths": self._paths,
            "count": count,
            "ports": list(ports),
            "grace": self.how.grace,
            "secure": self.how.secure,
            "environ": {name: self._environ[name] for name in _CHOOSES_GPUS & {*self._environ}},
        }

    def _wait_for_all(self) -> None:
        began = time.monotonic()
        until, told = began + self.how.patience, False
        while waits := [link for link in self.links if not _has_answered(link)]:
            now = time.monotonic()
            if now > until:
                break
            if now > began + _QUIET_SECONDS and not told:
                told = True
                names = ", ".join(link.host.name for link in waits)
                sys.stderr.write(f"[tfdist] waiting for an answer of {names}\n")
            _tick(waits)
            if any(self._troubles(link) for link in self.links):
                until = min(until, time.monotonic() + _AFTER_A_FAILURE_SECONDS)
        troubles = [one for link in self.links for one in self._troubles(link)]
        troubles += [
            Trouble(f"host {link.host.name} has not answered within {now - began:.0f} s", False)
            for link in self.links
            if not _has_answered(link)
        ]
        if troubles:
            raise _error(troubles)
        for link in self.links:
            if trouble := link.answers["survey"]["gpu_trouble"]:
                self._notes.append(f"host {link.host.name}: {trouble}: no task is given a GPU")
            if missing := link.answers["survey"]["missing"]:
                names = ", ".join(map(str, missing))
                self._notes.append(
                    f"host {link.host.name} has no {names}, which is here and an argument of the "
                    "script; put it there if the script reads it"
                )

    def _troubles(self, link: HostLink) -> list[Trouble]:
        host = link.host.name
        if link.lost and "survey" not in link.answers:
            said = link.said.decode(errors="replace")
            python, folder = self.how.python, os.getcwd()
            return [trouble_of(host, link.code, said, python=python, folder=folder)]
        if failed := link.answers.get("failed"):
            return [Trouble(f"host {host}: {failed['text']}")]
        if survey := link.answers.get("survey"):
            found = Survey.from_tree(survey).faults(host, self._here, self._command)
            return [Trouble(text) for text in found]
        return []

    def _place_of(self, jobs: Mapping[str, Sequence[str]], task: Task) -> int:
        if task.type not in jobs:  # an evaluator beside the cluster
            return self.spread.places[task]
        return self._places[jobs[task.type][task.index]]

    # ------------------------------------------------------------ while the job runs

    @contextlib.contextmanager
    def open(
        self, plan: JobPlan, log_dir: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> Iterator[HostStarter]:
        """See `Ground`."""
        for note in self._notes:
            say(note)
        say(f"hosts: {self.spread.text()}")
        variables = {**self._environ, **wished(environ), FOLDER_VARIABLE: str(log_dir.resolve())}
        if secret := process.secret(environ):
            variables[process.SECRET_VARIABLE] = secret.word
        if self.how.secure:
            say("tasks of different hosts reach each other by TLS with the job's secret (stunnel)")
        starter = HostStarter(self, log_dir, variables, say)
        for place in range(len(self.links)):
            starter.secure(place)
        yield starter

    def place_and_jobs(self, plan: TaskPlan) -> tuple[int, dict[str, list[str]]]:
        """The number of a task's host, and the jobs of its cluster."""
        jobs = json.loads(plan.environment["TF_CONFIG"])["cluster"]
        return self._place_of(jobs, plan.task), jobs

    def secure_message(self, place: int, secret: str) -> Message:
        """What a host is told before its first task, where it makes tunnels.

        Args:
            place: The number of the host.
            secret: The job's.
        """
        own = [at for at, host in self._places.items() if host == place]
        others = [at for at, host in self._places.items() if host != place]
        return {
            "say": "secure",
            "own": own,
            "others": others,
            "chief": self._chief,
            "secret": secret,
        }

    def connect_again(self, place: int) -> None:
        """Begins to connect to a host that was lost, for the same ports; see `Connecting.again`."""
        self.links[place].close()
        self.links[place] = self._link(place, self._hello(0, self._ports[place]), self.how.again)


@dataclass(frozen=True)
class HostStarter:
    """Starts tasks of a job on its hosts.

    Attributes:
        ground: The hosts.
        log_dir: The folder of the logs, which lie here.
        environ: The variables that the tasks get of here.
        say: Shows a line.
        logs: Those that were begun.
    """

    ground: HostGround
    log_dir: Path
    environ: Mapping[str, str]
    say: Callable[[str], None]
    logs: set[Path] = field(default_factory=set)

    def start(self, plan: TaskPlan) -> HostTask:
        """Starts a task; where it ran before, its log goes on."""
        ground = self.ground
        place, jobs = ground.place_and_jobs(plan)
        if ground.links[place].lost:
            self.say(f"connecting to {ground.links[place].host.name} again")
            ground.connect_again(place)
            self.secure(place)
        log = begin_log(plan.task, self.log_dir, self.logs)
        return HostTask(plan, log, ground.links[place], jobs, self.environ)

    def secure(self, place: int) -> None:
        """Has a host make tunnels before its first task, where the job is to have them."""
        if self.ground.how.secure:
            secret = self.environ[process.SECRET_VARIABLE]
            self.ground.links[place].say(self.ground.secure_message(place, secret))

    def forget(self, task: RunningTask) -> None:
        """The agent does it."""

    def witness(self, plan: JobPlan) -> HostWitness:
        """Who sees which of the tasks that are started take part."""
        for link in self.ground.links:
            link.absent = ()
        return HostWitness(self.ground.links, self.log_dir, self.say)

    def remains(self) -> dict[str, dict[int, str]]:
        """What the job has left running, by host."""
        links = [link for link in self.ground.links if link.is_there]
        for link in links:
            link.say({"say": "bye"})
        until = time.monotonic() + _GOODBYE_SECONDS
        while waits := [one for one in links if not one.lost and "remains" not in one.answers]:
            if time.monotonic() > until:
                break
            _tick(waits)
        found = {}
        for link in links:
            left = link.answers.get("remains", {}).get("processes", [])
            found[f"the job on {link.host.name}"] = {int(pid): str(name) for pid, name in left}
        return {whose: left for whose, left in found.items() if left}


def _has_answered(link: HostLink) -> bool:
    return bool(link.lost) or "survey" in link.answers or "failed" in link.answers


def _tick(links: Sequence[HostLink]) -> None:
    """Waits a little for what comes, and hears it."""
    poller = select.poll()
    for pipe in {link.pipe for link in links if link.pipe is not None}:
        poller.register(pipe, select.POLLIN)
    poller.poll(50)
    for link in links:
        link.tick()


def _error(troubles: Sequence[Trouble]) -> TfdistError:
    kind = ClusterError if any(one.lasts for one in troubles) else RendezvousError
    texts = [one.text for one in troubles]
    return kind("\n        ".join(texts))
