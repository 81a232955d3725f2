"""The seconds of a step with parameter servers, from what one worker and two have shown. Pure.

A worker takes one step after the other, each of a whole batch:

    step = fetch + compute + push + update

It fetches all weights from the servers, but of a sharded table only the rows that its batch
names; it computes as one worker alone does, without the optimizer's update; it sends its gradients,
of a table those of its rows; and it waits until the servers have applied them (of a table's update,
which Keras makes of all rows, the share of those that are named). N workers wait for nobody but the
servers, which they share, and the chief, which hands the batches out:

    steps a second = min(N / step, servers / (bytes / beta + update), 1 / chief)

Bytes are those of one step in both directions, since copying them takes a server's processor; alpha
and beta are those of `Network.link`, in which is what the model's own exchange took more than its
bytes would, for so workers in step are counted, with which these are compared. The chief's time is
its input, its Python, and what a batch takes on its way to a worker (to which it is sent ahead).

The lone worker may have hidden its input behind its computing, which then lacks these seconds in
its `Split`: all of the input is counted as computing, so that reading it elsewhere saves nothing.

Assumed: workers, servers and chief have a machine each as the one worker had; variables are spread
evenly over the servers; every id of a batch is another one (so that tables' bytes are the most that
they can be); steps do not differ in length.
"""

from __future__ import annotations

import dataclasses

from tfdist.bench.model import Network, Split
from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.seen_process import SeenProcess

__all__ = ["ServerSpeed", "servers_name"]


def servers_name(workers: int, servers: int) -> str:
    """What a job of these is called, as "2 workers, 1 ps"."""
    return f"{workers} worker{'s' * (workers > 1)}, {servers} ps"


@dataclasses.dataclass(frozen=True)
class ServerSpeed:
    """Speed of asynchronous workers.

    Attributes:
        alone: where the step of one synchronous worker goes.
        seen: that worker.
        network: between two workers.
    """

    alone: Split
    seen: SeenProcess
    network: Network

    def step(self, workers: int, servers: int = 1) -> PredictedStep:
        """A step of one of so many workers."""
        compute = self.alone.compute_at_most - self._own_update
        link = self.network.link
        moved = (self.seen.fetched + self.seen.pushed) / link.bandwidth
        transfer = 2 * link.latency + moved
        update = self._update / servers
        own = compute + transfer + update
        waiting = max(0.0, workers * (moved / servers + update) - own)
        return PredictedStep(
            strategy=servers_name(workers, servers),
            workers=workers,
            at_once=workers,
            rows=self.seen.rows,
            compute=compute,
            transfer=transfer,
            update=update,
            waiting=waiting,
            host=max(0.0, workers * self._chief - own - waiting),
        )

    @property
    def _update(self) -> float:
        """Seconds of the servers for a step."""
        whole = sum(table.gradients for table in self.seen.tables)
        dense = min(self.seen.dense_update, self.seen.update) * self.alone.compute_at_most
        if not whole:
            return dense
        rows = self.seen.pushed - (self.seen.gradients - whole)
        return dense + (self._own_update - dense) * rows / whole

    @property
    def _own_update(self) -> float:
        """Of the lone worker's compute that of its optimizer."""
        return self.seen.update * self.alone.compute_at_most

    @property
    def _chief(self) -> float:
        sent = self.seen.rows * self.seen.row_bytes / self.network.link.bandwidth
        return self.alone.input + self.alone.python + sent
