"""The seconds of a step on 1 to N workers in step, from what one and two have shown. Pure.

One worker trains on B rows, each of two on B/2 (or on B, where the script's batch grows with the
workers). Compute is a line through these two; the exchange is the model of `bench`.
"""

from __future__ import annotations

import dataclasses

from tfdist.bench.measured import Measured
from tfdist.bench.model import Network, Split

__all__ = ["StepSpeed"]


@dataclasses.dataclass(frozen=True)
class StepSpeed:
    """Speed of synchronous workers.

    Attributes:
        alone: where one worker's step goes.
        of_two: where the step of the slower of two goes.
        rows: of one worker's step.
        rows_each: of each of two.
        gradient_bytes: of one exchange.
        network: between the two.
    """

    alone: Split
    of_two: Split
    rows: float
    rows_each: float
    gradient_bytes: int
    network: Network

    def __post_init__(self) -> None:
        if not (self.rows > 0 and self.rows_each > 0 and self.alone.total > 0):
            raise ValueError(f"{self}: rows and seconds must be above 0")

    @classmethod
    def of(cls, measured: Measured, rows: float, rows_each: float) -> StepSpeed:
        """Takes it from the jobs of one worker and of two, and the rows that these trained on."""
        one, two = (measured.split(job) for job in measured.jobs)
        network = measured.network
        assert network is not None
        size = measured.jobs[1].slowest.gradient_bytes
        return cls(one, two, rows, rows_each, size, network)

    @property
    def batch_grows(self) -> bool:
        """Whether the script's batch grows with the workers."""
        return self.rows_each > 0.75 * self.rows

    def rows_of(self, workers: int) -> float:
        """Rows of a step, of all workers together."""
        return self.rows * workers if self.batch_grows else self.rows

    def split(self, workers: int) -> Split:
        """Where the seconds of a step go on each of so many workers."""
        if workers == 1:
            return self.alone
        if workers == 2:
            return self.of_two
        return Split(
            compute=self._compute(self.rows_of(workers) / workers),
            all_reduce=self.network.all_reduce(workers, self.gradient_bytes),
            input=self.of_two.input,
            python=self.of_two.python,
        )

    def _compute(self, rows: float) -> float:
        a_row = 0.0
        if not self.batch_grows:
            less = self.alone.compute - self.of_two.compute
            a_row = max(0.0, less / (self.rows - self.rows_each))
        return max(0.0, self.of_two.compute - a_row * (self.rows_each - rows))

    def seconds(self, workers: int) -> float:
        """Seconds of a step."""
        return self.split(workers).total

    def gain(self, workers: int) -> float:
        """Examples a second, over those of one worker."""
        alone = self.rows / self.alone.total
        return self.rows_of(workers) / self.seconds(workers) / alone
