"""What `tfdist bench` has measured, as it is written to JSON. Pure."""

from __future__ import annotations

import dataclasses
import json

from tfdist.bench.model import Network, Split, step_seconds
from tfdist.errors import LaunchError
from tfdist.scaling.step_work import StepWork

__all__ = ["JobTimes", "Measured", "WorkerTimes"]


@dataclasses.dataclass(frozen=True)
class WorkerTimes:
    """What one worker of a job has measured.

    Attributes:
        worker: its number.
        steps: how many were timed.
        graph_seconds: of them inside TensorFlow's loop.
        python_seconds: of them between the chunks.
        input_step: seconds that the input pipeline takes for a step, by itself.
        all_reduce_step: seconds that exchanging the gradients takes for a step, by itself.
        rows: examples of a step, of all workers together; 0 where the data could not be read again
            to count them.
        gradient_bytes: of one exchange.
        all_reduces: pairs of bytes and seconds, of some sizes.
        update_step: seconds that the optimizer takes for a step, by itself; it is in the graph's.
        update_untimed: why that could not be timed; "" where it was.
    """

    worker: int
    steps: int
    graph_seconds: float
    python_seconds: float
    input_step: float
    all_reduce_step: float
    rows: float
    gradient_bytes: int
    all_reduces: list[list[float]]
    update_step: float = 0.0
    update_untimed: str = ""

    @property
    def split(self) -> Split:
        """Where a step's seconds go; what overlaps is taken from the compute."""
        return self.split_over(0.0)

    def split_over(self, least: float) -> Split:
        """Where a step's seconds go, of which at least so many are computing.

        What is timed by itself may take longer there than within a step, on a busy machine most.

        Args:
            least: seconds, at least 0; of a step that is shorter, all of it.
        """
        graph = self.graph_seconds / self.steps
        least = min(least, graph)
        all_reduce = min(self.all_reduce_step, graph - least)
        own_input = min(self.input_step, graph - least - all_reduce)
        return Split(
            compute=graph - all_reduce - own_input,
            all_reduce=all_reduce,
            input=own_input,
            python=self.python_seconds / self.steps,
        )


@dataclasses.dataclass(frozen=True)
class JobTimes:
    """What all workers of one job have measured."""

    workers: int
    each: list[WorkerTimes]

    def __post_init__(self) -> None:
        if sorted(one.worker for one in self.each) != list(range(self.workers)):
            raise LaunchError(
                f"{len(self.each)} of {self.workers} workers have measured something: the script "
                "must call fit on a model that tfdist.plug was given, on every worker, for a few "
                "dozen steps"
            )

    @property
    def slowest(self) -> WorkerTimes:
        """The worker that took longest for a step: in a synchronous job all wait for it."""
        return max(self.each, key=lambda one: one.split.total)

    @property
    def rows(self) -> float:
        """Examples of a step, of all workers; where they were not counted, each batch is one."""
        return self.slowest.rows or float(self.workers)

    @property
    def steps_a_second(self) -> float:
        """Steps a second of the whole job."""
        return 1 / self.slowest.split.total

    @property
    def examples_a_second(self) -> float:
        """Examples a second of the whole job."""
        return self.steps_a_second * self.rows


@dataclasses.dataclass(frozen=True)
class Measured:
    """All jobs of one command.

    Attributes:
        what: the script or the built-in model.
        jobs: by rising number of workers.
    """

    what: str
    jobs: list[JobTimes]

    def efficiency(self, job: JobTimes) -> float:
        """Examples a second over those of the smallest job, worker by worker."""
        first = self.jobs[0]
        return (job.examples_a_second / job.workers) / (first.examples_a_second / first.workers)

    def predicted(self, workers: int) -> tuple[float, float]:
        """Seconds of a step on so many workers, and their efficiency on `efficiency`'s own base.

        Raises:
            ValueError: no job of two workers was measured.
        """
        network = self.network
        if network is None:
            raise ValueError("no job of two workers was measured")
        last = self.jobs[-1]
        seconds = step_seconds(self.split(last), last.slowest.gradient_bytes, network, workers)
        return seconds, self.share(seconds)

    def split(self, job: JobTimes) -> Split:
        """Where a step of a job's slowest worker goes.

        It computes no less than one worker alone does for as many rows: tfdist sums after the
        backward pass, so an exchange that leaves less room than that was slower by itself.
        """
        first = self.jobs[0]
        if first.workers > 1 or job.workers == 1:
            return job.slowest.split
        rows = job.rows / job.workers / first.rows
        return job.slowest.split_over(rows * first.slowest.split.compute)

    @property
    def work(self) -> StepWork:
        """What a worker of the largest job does in a step, without any exchange."""
        times = self.jobs[-1].slowest
        split = self.split(self.jobs[-1])
        update = min(times.update_step, split.compute)
        other = split.input + split.python
        return StepWork(split.compute - update, times.gradient_bytes, update, other)

    def share(self, seconds: float) -> float:
        """The efficiency of workers that train their rows in so many seconds a step."""
        last, first = self.jobs[-1], self.jobs[0]
        each = last.rows / last.workers / seconds
        return each / (first.examples_a_second / first.workers)

    @property
    def network(self) -> Network | None:
        """The network, by the largest job; None where no job had two workers."""
        job = self.jobs[-1]
        if job.workers < 2:
            return None
        times = job.slowest
        sizes = [one for one, _ in times.all_reduces]
        pairs = [
            (size, max(worker.all_reduces[i][1] for worker in job.each))
            for i, size in enumerate(sizes)
        ]
        network = Network.fitted(job.workers, pairs)
        size, by_itself = times.gradient_bytes, times.all_reduce_step
        # What a step leaves room for, but no less than alpha and beta say: a step in which noise
        # leaves none does not show that exchanges are free.
        seconds = max(
            self.split(job).all_reduce, min(by_itself, network.all_reduce(job.workers, size))
        )
        return network.calibrated(job.workers, size, seconds)

    def to_json(self) -> str:
        """These numbers as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Measured:
        """Reads what `to_json` wrote."""
        content = json.loads(text)
        jobs = [
            JobTimes(job["workers"], [WorkerTimes(**one) for one in job["each"]])
            for job in content["jobs"]
        ]
        return cls(content["what"], jobs)
