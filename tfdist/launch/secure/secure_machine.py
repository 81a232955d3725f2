"""This machine as a ground for tasks that reach all others through tunnels alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfdist import process
from tfdist.cluster import Task
from tfdist.cluster.address import Address
from tfdist.errors import ClusterError, LaunchError, TaskLost
from tfdist.launch.ground import Witness, marked
from tfdist.launch.guardian import Guardian
from tfdist.launch.network import NotAllowed, namespace
from tfdist.launch.plan import JobPlan, TaskPlan
from tfdist.launch.running_task import RunningTask
from tfdist.launch.secure.passages import Passages
from tfdist.launch.secure.stunnel_program import NoStunnel, find_stunnel
from tfdist.launch.secure.tunnel import Tunnel
from tfdist.launch.task_process import LocalStarter, TaskProcess
from tfdist.machine.hosts import look_up
from tfdist.machine.places import LOOK_UP_SECONDS

__all__ = ["SecureMachine", "check_secret", "reason_against"]


@dataclass(frozen=True)
class SecureMachine:
    """The tasks run here, where only the job's own tunnels reach them, and end with this process.

    Attributes:
        own: Where the tasks of this machine listen; None for those of the plan.
        others: Where all others do; None for the rest of the plan's cluster.
        chief: Where the chief listens; None for that of the plan's cluster, "" where there is none.
        keeps_logs: Whether the tasks' logs lie here; else somebody else keeps them.
    """

    own: tuple[str, ...] | None = None
    others: tuple[str, ...] | None = None
    chief: str | None = None
    keeps_logs: bool = True

    @contextlib.contextmanager
    def open(
        self, plan: JobPlan, log_dir: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> Iterator[SecureStarter]:
        """See `Ground`.

        Raises:
            ClusterError: There is no secret, or a host of the cluster does not resolve.
            LaunchError: The system does not allow it, or there is no stunnel that would do.
        """
        check_secret(environ)
        passages = self._passages(plan)
        mark, variables = marked(environ, log_dir)
        # The tunnels listen at the addresses of others, who may have the same port as a task here.
        variables |= {"TF_GRPC_REUSE_PORT": "1", process.SECURE_VARIABLE: "1"}
        if passages.coordinator_port is not None:
            variables[process.COORDINATOR_VARIABLE] = str(passages.coordinator_port)
        with Guardian(mark) as guardian, contextlib.ExitStack() as stack:
            try:
                insider = stack.enter_context(
                    namespace((), guardian, passages.ips, passages.host_names)
                )
            except NotAllowed as error:
                raise LaunchError(
                    f"--secure, but this system allows no network of the job's own ({error})"
                ) from None
            within = process.stall_timeout(environ)
            secret = process.secret(environ)
            tunnel = Tunnel(passages, secret, insider, log_dir, guardian, within)
            stack.callback(tunnel.close)
            tunnel.open()
            if self.keeps_logs:
                say(_what(passages))
            others = tuple(dict.fromkeys(one.ip for one in passages.others))
            local = LocalStarter(
                mark, log_dir, variables, guardian, insider, others, self.keeps_logs
            )
            yield SecureStarter(local, tunnel, say)
            for report in tunnel.hear():  # nobody has looked since
                say(report.text)

    def _passages(self, plan: JobPlan) -> Passages:
        here = {task.task for task in plan.tasks}
        by_place: dict[bool, list[str]] = {True: [], False: []}
        for task in plan.cluster.tasks:
            by_place[task in here].append(plan.cluster.address(task))
        own = [Address.parse(one) for one in (by_place[True] if self.own is None else self.own)]
        rest = by_place[False] if self.others is None else self.others
        others = [Address.parse(one) for one in rest]
        found = look_up([one.host for one in (*own, *others)], LOOK_UP_SECONDS)
        jobs = plan.cluster.jobs
        chief = jobs.get("chief", ("",))[0] if self.chief is None else self.chief
        return Passages.between(own, others, Address.parse(chief) if chief else None, found)


@dataclass
class SecureStarter:
    """Starts tasks in the network of a job's own.

    Attributes:
        local: Starts them.
        tunnel: Carries what they say to all others, and hear of them.
        say: Shows a line.
        tasks: Those that were started.
    """

    local: LocalStarter
    tunnel: Tunnel
    say: Callable[[str], None]
    tasks: list[TaskProcess] = field(default_factory=list)

    def start(self, plan: TaskPlan) -> TaskProcess:
        """Starts a task; where the tunnel has broken, it is opened again first."""
        if self.tunnel.trouble:
            self.tunnel.open()
        self.tasks = [one for one in self.tasks if not one.gone]
        self.tasks.append(self.local.start(plan))
        return self.tasks[-1]

    def forget(self, task: RunningTask) -> None:
        """Takes note that nothing of a task is left."""
        self.local.forget(task)

    def witness(self, plan: JobPlan) -> SecureWitness:
        """Who sees which of the tasks that are started take part."""
        return SecureWitness(self.local.witness(plan), self)

    def remains(self) -> Mapping[str, Mapping[int, str]]:
        """What the job has left running."""
        return self.local.remains()


@dataclass
class SecureWitness:
    """Sees who takes part, and whether they can reach each other.

    Attributes:
        local: Sees the first.
        starter: Has started the tasks, which end where the tunnel does.
    """

    local: Witness
    starter: SecureStarter

    def look(self) -> None:
        """Looks, where it is time to."""
        self.local.look()
        had = self.starter.tunnel.trouble
        for report in self.starter.tunnel.look():
            if report.ends:
                self._lose(report.text, ClusterError.exit_code)
            else:
                self.starter.say(report.text)
        if self.starter.tunnel.trouble and not had:
            self._lose(self.starter.tunnel.trouble, TaskLost.exit_code)

    def _lose(self, why: str, code: int) -> None:
        for task in self.starter.tasks:
            task.lose(why, code)

    def absent(self) -> tuple[Task, ...]:
        """The tasks that were never seen, of those that should have been."""
        return self.local.absent()


def check_secret(environ: Mapping[str, str]) -> None:
    """Refuses a job over several hosts without a secret.

    Args:
        environ: The variables of its tasks.

    Raises:
        ClusterError: There is none, or none that is good.
    """
    if not process.secret(environ):
        raise ClusterError(
            "--secure without a secret, from which the keys of the tunnels are made; give every "
            "host the same in TFDIST_SECRET or TFDIST_SECRET_FILE, as openssl rand -hex 32 makes it"
        )


def reason_against() -> str:
    """Why this machine cannot have such tasks; "" where it can."""
    if not sys.platform.startswith("linux"):
        return "--secure, but only Linux has network namespaces"
    try:
        find_stunnel()
        with Guardian("none") as guardian, namespace((), guardian):
            return ""
    except NoStunnel as error:
        return f"--secure, but {error}"
    except NotAllowed as error:
        return f"--secure, but this system allows no network of the job's own ({error})"


def _what(passages: Passages) -> str:
    alone = "the tasks have a network of their own, where nobody else reaches them"
    if not passages.others:
        return alone
    places: Sequence[str] = [str(one.address) for one in passages.own if not one.server_name]
    comes = f", and others come at {', '.join(places)}" if places else ""
    return f"{alone} but by TLS with the job's secret (stunnel){comes}"
