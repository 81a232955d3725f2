"""The cluster: which tasks a job has, where they listen, and which of them this process is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfdist.cluster import checks
from tfdist.cluster.address import Address
from tfdist.cluster.parse import parse_config
from tfdist.cluster.task import Task
from tfdist.errors import ClusterError
from tfdist.given_numbers import is_count

__all__ = ["Cluster"]


@dataclass(frozen=True)
class Cluster:
    """The tasks of a job, and which of them this process is.

    A cluster checks itself: whatever can be told from its text alone is right once it exists.
    `validate` looks at the machine and the network too.

    Attributes:
        jobs: From each job to the addresses of its tasks, read-only, in the order chief,
            worker, ps, evaluator: {"chief": ("a:2222",), "worker": ("b:2222", "c:2222")}.
        task: Which task this process is; None where it is none of them, as in a launcher.

    Raises:
        ClusterError: A job, an address or the task is wrong.
    """

    jobs: Mapping[str, tuple[str, ...]]
    task: Task | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", checks.checked_jobs(self.jobs))
        if self.task is not None:
            checks.check_task(self.task, self.jobs)

    def __hash__(self) -> int:
        return hash((tuple(self.jobs.items()), self.task))

    def __reduce__(self) -> tuple[object, ...]:
        # The read-only view of the jobs cannot be pickled or deep-copied by itself.
        return Cluster, (dict(self.jobs), self.task)

    @classmethod
    def from_json(
        cls, config: str | bytes | Mapping[str, object], *, task_required: bool = True
    ) -> Cluster:
        """Reads a cluster in the form of TF_CONFIG.

        Args:
            config: JSON text, or the object that it stands for:
                {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}.
            task_required: Whether a config without a task is refused.

        Returns:
            The cluster.

        Raises:
            ClusterError: Something in it is wrong; the message says what and where.
        """
        jobs, task = parse_config(config, task_required=task_required)
        return cls(jobs, task)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Cluster:
        """Reads a cluster from a JSON file in the form of TF_CONFIG; its task is optional.

        Args:
            path: The file.

        Returns:
            The cluster, with the task where the file names one.

        Raises:
            ClusterError: The file cannot be read, or something in it is wrong.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ClusterError(
                f"cluster file {os.fspath(path)!r} that cannot be read "
                f"({(error.strerror or str(error)).lower()}); give the path of a JSON file"
            ) from None
        try:
            return cls.from_json(text, task_required=False)
        except ClusterError as error:
            raise ClusterError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Cluster | None:
        """Reads the cluster that the variable TF_CONFIG describes.

        Args:
            environ: The variables; those of this process by default.

        Returns:
            The cluster; None where TF_CONFIG is absent or empty ("" or "{}").

        Raises:
            ClusterError: TF_CONFIG is there and wrong.
        """
        text = (os.environ if environ is None else environ).get("TF_CONFIG", "")
        if "".join(text.split()) in ("", "{}"):
            return None
        try:
            return cls.from_json(text)
        except ClusterError as error:
            raise ClusterError(f"TF_CONFIG: {error}") from None

    @classmethod
    def local(
        cls,
        workers: int = 1,
        ps: int = 0,
        chief: bool = False,
        evaluator: bool = False,
        *,
        ports: Sequence[int],
    ) -> Cluster:
        """Builds a cluster of tasks on this machine.

        Example:
            >>> with Reservation(2) as reservation:
            ...     cluster = Cluster.local(workers=2, ports=reservation.ports)

        Args:
            workers: How many workers.
            ps: How many parameter servers; one or more bring a chief with them.
            chief: Whether there is a chief beside the workers.
            evaluator: Whether there is an evaluator; not beside parameter servers, whose
                evaluator is no task of the cluster.
            ports: One for each task (see `task_count`), best held by a `Reservation`.

        Returns:
            The cluster, all on 127.0.0.1, with no task chosen.

        Raises:
            ClusterError: A count is negative, all are zero, or the ports are not as many.
        """
        counts = _counts(workers, ps, chief, evaluator)
        total = sum(counts.values())
        if len(ports) != total:
            raise ClusterError(f"{len(ports)} ports for {total} tasks; give one for each task")
        left = iter(ports)
        return cls(
            {
                job: tuple(f"127.0.0.1:{next(left)}" for _ in range(count))
                for job, count in counts.items()
                if count
            }
        )

    @staticmethod
    def task_count(
        workers: int = 1, ps: int = 0, chief: bool = False, evaluator: bool = False
    ) -> int:
        """Returns how many tasks, and so ports, `local` needs for the same arguments.

        Args:
            workers: As for `local`.
            ps: As for `local`.
            chief: As for `local`.
            evaluator: As for `local`.

        Returns:
            The number of tasks.

        Raises:
            ClusterError: A count is negative, or all are zero.
        """
        return sum(_counts(workers, ps, chief, evaluator).values())

    def to_tf_config(self, task: Task | str | None = None) -> str:
        """Writes the cluster as TF_CONFIG.

        Args:
            task: The task to write it for; by default this cluster's own. Where there is
                neither, the text has no task.

        Returns:
            Canonical JSON text: equal clusters give equal text.

        Raises:
            ClusterError: The cluster has no such task.
        """
        cluster = self if task is None else self.with_task(task)
        config: dict[str, object] = {"cluster": {job: list(at) for job, at in self.jobs.items()}}
        if cluster.task is not None:
            config["task"] = {"type": cluster.task.type, "index": cluster.task.index}
        return json.dumps(config)

    def with_task(self, task: Task | str | None) -> Cluster:
        """Returns the same cluster seen from another task.

        Args:
            task: A task or its name, as "worker:1"; None for nobody's view.

        Returns:
            The cluster with that task.

        Raises:
            ClusterError: The cluster has no such task.
        """
        return replace(self, task=Task.parse(task) if isinstance(task, str) else task)

    def validate(self, kind: str | None = None, *, resolve: bool = True) -> Cluster:
        """Checks the cluster against this machine, the network and a strategy; under a second.

        Example:
            >>> cluster = Cluster.from_environment().validate("multi_worker_mirrored")

        Args:
            kind: The kind of strategy that the cluster is for, see `checks.KINDS`; None for any.
            resolve: Whether the hosts are looked up. Turn it off where names appear only when
                their machines start; the rendezvous then waits for them.

        Returns:
            The cluster itself.

        Raises:
            ClusterError: The jobs do not fit the strategy, a host does not resolve, two tasks
                are at one place, or the port of this process's task is in use.
        """
        from tfdist.machine import places  # a cluster itself is data; this alone looks around

        if kind is not None:
            checks.check_kind(self.jobs, kind)
        places.check_own_port(self)
        if resolve:
            places.check_hosts(self)
        return self

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks of the cluster, job by job."""
        return tuple(Task(job, index) for job, at in self.jobs.items() for index in range(len(at)))

    @property
    def tasks_that_meet(self) -> tuple[Task, ...]:
        """All but the evaluator, which works beside the others."""
        return tuple(task for task in self.tasks if task.type != "evaluator")

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs of the cluster, in their order."""
        return tuple(self.jobs)

    def address(self, task: Task | str) -> str:
        """Returns the address of a task, as it is written in the cluster.

        Args:
            task: A task or its name.

        Returns:
            "host:port".

        Raises:
            ClusterError: The cluster has no such task.
        """
        wanted = Task.parse(task) if isinstance(task, str) else task
        checks.check_task(wanted, self.jobs)
        if wanted.type not in self.jobs:
            raise ClusterError(f"task {wanted}, which has no address in the cluster")
        return self.jobs[wanted.type][wanted.index]

    @property
    def chief(self) -> Task:
        """The task that leads: chief:0 where there is a chief, else worker:0.

        Raises:
            ClusterError: The cluster has neither chief nor worker.
        """
        for job in ("chief", "worker"):
            if job in self.jobs:
                return Task(job, 0)
        raise ClusterError(
            f"no chief and no worker in the cluster, which has {', '.join(self.jobs)}; "
            "add one of them to lead the job"
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief; False where it is none of the tasks."""
        return self.task is not None and self.task == self.chief

    @property
    def num_workers(self) -> int:
        """How many tasks compute under multi-worker mirrored: the chief and the workers."""
        return len(self.jobs.get("chief", ())) + len(self.jobs.get("worker", ()))

    def __len__(self) -> int:
        return sum(len(at) for at in self.jobs.values())

    def digest(self) -> str:
        """Returns a short name of the cluster, the same on all its tasks.

        Two spellings of one place ("localhost:1" and "127.0.0.1:1") give the same digest.

        Returns:
            12 hexadecimal digits.
        """
        places = {
            job: [Address.parse(one).canonical for one in at] for job, at in self.jobs.items()
        }
        return hashlib.sha256(json.dumps(places).encode()).hexdigest()[:12]


def _counts(workers: int, ps: int, chief: bool, evaluator: bool) -> dict[str, int]:
    for name, count in (("workers", workers), ("ps", ps)):
        if not is_count(count, 0):
            raise ClusterError(f"{name}={count!r}; give how many there are: 0, 1, 2, ...")
    if evaluator and ps:
        raise ClusterError(
            "evaluator in a cluster with ps tasks, which would never start (tensorflow#46169); "
            "start it beside the cluster: cluster.with_task('evaluator:0')"
        )
    counts = {
        "chief": int(chief or ps > 0),
        "worker": workers,
        "ps": ps,
        "evaluator": int(evaluator),
    }
    if not workers and not counts["chief"]:
        raise ClusterError("no worker and no chief; give one worker or more, or a chief")
    return counts
