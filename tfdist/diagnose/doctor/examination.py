"""One doctor's whole work: look, meet the others, judge."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.diagnose.doctor import host_checks, job_checks, spec_checks
from tfdist.diagnose.doctor.chief_doctor import ChiefDoctor
from tfdist.diagnose.doctor.colleague import Attendance, Colleague
from tfdist.diagnose.doctor.door import Door
from tfdist.diagnose.doctor.exchange_job import Exchange
from tfdist.diagnose.doctor.finding import Finding, Report
from tfdist.diagnose.doctor.host_facts import HostFacts
from tfdist.diagnose.doctor.line import Caller
from tfdist.diagnose.doctor.looking_around import look_around, why_not_listen
from tfdist.diagnose.doctor.visit import Visit
from tfdist.errors import ClusterError, RendezvousTimeout
from tfdist.machine.hosts import is_local
from tfdist.machine.open_files import allow_open_files
from tfdist.machine.places import await_hosts
from tfdist.rendezvous.agreement import listening
from tfdist.rendezvous.handshake import Handshake

__all__ = ["Examination"]

_FILES_BESIDE = 200
_CHECKS = (
    job_checks.meeting,
    job_checks.names,
    job_checks.places,
    job_checks.ports,
    job_checks.reach,
    job_checks.versions,
    job_checks.clocks,
    host_checks.cores,
    host_checks.memory,
    host_checks.files,
    host_checks.folder,
    host_checks.gpus,
)


@dataclass
class Examination:
    """Examines a job from where this process is.

    Attributes:
        environ: The variables of the process.
        spec: The path of a cluster file; None for what the environment tells.
        task: The task that this machine has in it, as "worker:1"; None for the file's own.
        folder: The run folder.
        wait: How long the doctors wait for each other, in seconds.
        exchange: How long all-reduces are measured, in seconds; None for not at all.
        clock: The time of day, in seconds.
    """

    environ: Mapping[str, str]
    spec: str | None = None
    task: str | None = None
    folder: str = "."
    wait: float = 20.0
    exchange: float | None = None
    clock: Callable[[], float] = time.time
    _secret: Secret = field(default=NO_SECRET, init=False)

    def run(self) -> Report:
        """Returns the report."""
        cluster, findings = self._cluster()
        findings.append(spec_checks.secret(cluster, self.environ))
        with contextlib.suppress(ClusterError):  # among the findings
            self._secret = process.secret(self.environ)
        if cluster is not None and process.names_come_late():
            with contextlib.suppress(RendezvousTimeout):  # what is not known then is told
                await_hosts(cluster, self.wait)
        facts = look_around(cluster, self.folder, self.environ)
        if cluster is not None and cluster.task is not None and len(cluster.tasks) > 1:
            findings = self._in_company(cluster, facts, findings)
        else:
            visit = Visit(cluster, {facts.task: facts})
            if cluster is not None:
                visit = _from_here(cluster, facts, self._secret)
            findings += _judged(visit)
            if self.exchange is not None and not Report(findings).exit_code:
                findings.append(Exchange(cluster, self.exchange).measure())
        return Report(findings)

    def _cluster(self) -> tuple[Cluster | None, list[Finding]]:
        cluster, findings = spec_checks.environment(self.environ, self.spec is not None)
        try:
            if self.spec is not None:
                cluster = Cluster.from_file(self.spec)
            if self.task is not None and cluster is not None:
                cluster = cluster.with_task(self.task)
            if cluster is not None:
                findings.append(spec_checks.spec(cluster))
        except ClusterError as error:
            said, _, todo = str(error).rpartition("; ")
            todo = todo if said else "mend the spec, which must be the same for every task"
            return None, [*findings, Finding("bad", "spec", said or str(error), todo)]
        return cluster, findings

    def _in_company(
        self, cluster: Cluster, facts: HostFacts, before: list[Finding]
    ) -> list[Finding]:
        seconds = None
        with contextlib.ExitStack() as stack:
            handshake = Handshake(
                facts.task, cluster.jobs, "", facts.versions, self.wait, self.wait
            )
            door = self._door(cluster, facts, handshake, stack)
            if not cluster.is_chief:
                colleague = Colleague(cluster, facts, handshake, self._secret, self.clock)
                attendance = colleague.attend(self.wait)
                found = [*before, *_as_colleague(cluster, facts, attendance)]
                seconds = attendance.exchange
            elif door is None:
                found = [*before, *_judged(_from_here(cluster, facts, self._secret))]
            else:
                chief = ChiefDoctor(cluster, facts, handshake, self._secret, door, self.clock)
                found = [*before, *_judged(chief.hold(self.wait))]
                code = Report(found).exit_code
                seconds = None if code else self.exchange
                chief.conclude(code, seconds)
        if seconds is not None:  # at the ports that the doctors have left
            found.append(Exchange(cluster, seconds).measure())
        return found

    def _door(
        self,
        cluster: Cluster,
        facts: HostFacts,
        handshake: Handshake,
        stack: contextlib.ExitStack,
    ) -> Door | None:
        if facts.port or cluster.task not in cluster.tasks_that_meet:
            return None
        try:
            server = listening(cluster, Address.parse(cluster.address(facts.task)))
        except ClusterError:  # somebody has taken it just now
            return None
        allow_open_files(len(cluster) + _FILES_BESIDE)  # `host_checks.files` says where it cannot
        return stack.enter_context(Door(server, handshake, self._secret, self.clock))


def _judged(visit: Visit) -> list[Finding]:
    return [finding for check in _CHECKS for finding in check(visit)]


def _from_here(cluster: Cluster, facts: HostFacts, secret: Secret) -> Visit:
    """What can be seen of a job without the doctors of the other machines."""
    own = [task for task in cluster.tasks if task == cluster.task or _is_here(cluster, task, facts)]
    elsewhere = [str(task) for task in cluster.tasks_that_meet if task not in own]
    handshake = Handshake(facts.task, cluster.jobs, "", {}, 0.0, 0.0)
    reached = Caller(cluster, handshake, secret).reach_all(elsewhere)
    return Visit(
        cluster,
        {facts.task: facts},
        reached={(facts.task, to): found for to, found in reached.items()},
        ports={str(task): why_not_listen(cluster, task) for task in own},
    )


def _is_here(cluster: Cluster, task: Task, facts: HostFacts) -> bool:
    address = Address.parse(cluster.address(task))
    found = facts.names.get(address.host, ())
    return address.is_loopback or (isinstance(found, tuple) and any(map(is_local, found)))


def _as_colleague(cluster: Cluster, facts: HostFacts, met: Attendance) -> list[Finding]:
    """What the doctor of a task that is not the chief says itself."""
    chief = f"{cluster.chief} ({cluster.address(cluster.chief)})"
    found = _judged(Visit(cluster, {facts.task: facts}, is_whole=met.exit_code is not None))
    if met.exit_code is not None:
        own = [one for one in found if one.check not in ("meeting", "reach", "clocks")]
        text = f"the doctor of {chief} has put together what all have seen"
        todo = "read its report"
        if met.exit_code:
            return [*own, Finding("bad", "meeting", f"{text}, and found something bad", todo)]
        return [*own, Finding("good", "meeting", f"{text}, and found nothing bad")]
    if met.refusal:
        said, _, todo = met.refusal.rpartition("; ")
        text = f"the doctor of {chief} has refused this one: {said or met.refusal}"
        return [*found, Finding("bad", "meeting", text, todo if said else "mend it here")]
    assert met.reach is not None
    why, todo = job_checks.why_not_met(met.reach)
    if facts.task not in map(str, cluster.tasks):  # an evaluator, for which nobody waits
        todo = "start this one before theirs, which do not wait for it"
        return [*found, Finding("unchecked", "meeting", f"no doctor at {chief}: {why}", todo)]
    return [*found, Finding("bad", "meeting", f"no doctor at {chief}: {why}", todo)]
