"""Which replicas there are, which of them live in this process, and what part of a batch each gets.

Pure: imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses

__all__ = ["ReplicaLayout"]


@dataclasses.dataclass(frozen=True)
class ReplicaLayout:
    """The replicas of a synchronous job, seen from one process.

    Attributes:
        replicas: how many replicas the whole job has.
        first: the job-wide number of this process's first replica.
        local: how many replicas this process has.
        worker: this process's number among the workers (the chief is 0).
        workers: how many workers (processes) the job has.
        task: this process's name in messages, such as "worker:1"; "" in a job of one process.
    """

    replicas: int = 1
    first: int = 0
    local: int = 1
    worker: int = 0
    workers: int = 1
    task: str = ""

    def __post_init__(self) -> None:
        if self.local < 1 or not 0 <= self.first <= self.replicas - self.local:
            raise ValueError(
                f"replicas {self.first} to {self.first + self.local - 1} do not lie within the "
                f"job's {self.replicas}"
            )
        if not 0 <= self.worker < self.workers:
            raise ValueError(f"worker {self.worker} does not lie within {self.workers} workers")

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files and shows the progress bar."""
        return self.worker == 0

    @property
    def local_replicas(self) -> range:
        """The job-wide numbers of this process's replicas."""
        return range(self.first, self.first + self.local)

    def span_of(self, worker: int) -> tuple[int, int]:
        """Returns which virtual replicas a worker has: `[start, stop)`; see `virtual`."""
        return worker * self.replicas // self.workers, (worker + 1) * self.replicas // self.workers

    def virtual(self, replicas: int) -> ReplicaLayout:
        """Returns the layout of so many replicas over the same workers, who share their devices.

        Args:
            replicas: at least one a worker.
        """
        shared = dataclasses.replace(self, replicas=replicas, first=0, local=1)
        start, stop = shared.span_of(self.worker)
        return dataclasses.replace(shared, first=start, local=stop - start)

    def bounds(self, total: int, replica: int) -> tuple[int, int]:
        """Returns which rows of a global batch a replica gets: `[start, stop)`.

        The parts are contiguous, in the order of the replicas, and differ by one row at most.
        `total` may be a Python integer or an integer tensor.
        """
        return replica * total // self.replicas, (replica + 1) * total // self.replicas

    def describe_batch(self, total: int) -> str:
        """Says how a global batch is shared out, such as "global batch 256 = 4 replicas x 64"."""
        sizes = [stop - start for start, stop in (self.bounds(total, r) for r in self.range_all())]
        least, most = min(sizes), max(sizes)
        each = f"{least}" if least == most else f"{least} to {most}"
        return f"global batch {total} = {self.replicas} replicas x {each}"

    def range_all(self) -> range:
        """The numbers of all replicas of the job."""
        return range(self.replicas)
