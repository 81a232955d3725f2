"""The results of `tfdist bench` as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tfdist.bench.measured import Measured
from tfdist.bench.model import advise
from tfdist.bench.other_ways import (
    MICROBATCHES,
    SLOW_BY,
    STAGES,
    WORKERS_EACH,
    Hosts,
    efficiency,
    ways,
)

__all__ = ["PREDICTED", "report"]

PREDICTED = (4, 8, 16, 32, 64, 128, 256, 512)
ADVISED = 16


def report(measured: Measured, hosts: Hosts | None = None) -> str:
    """Returns what is printed.

    Args:
        measured: what it is about.
        hosts: that more workers would be on.
    """
    parts = [f"{measured.what}\n", _speeds(measured), _splits(measured)]
    network = measured.network
    if network is None:
        parts.append("No prediction: no job of two workers was measured (--workers 1,2).\n")
    else:
        parts += [_network(measured), _prediction(measured), _ways(measured, hosts or Hosts())]
        parts.append(_advice(measured))
    return "\n".join(parts)


def _speeds(measured: Measured) -> str:
    rows = [
        [
            str(job.workers),
            f"{job.steps_a_second:.1f}",
            f"{job.examples_a_second:,.0f}",
            f"{job.rows / job.workers:.0f}",
            f"{100 * measured.efficiency(job):.0f} %",
        ]
        for job in measured.jobs
    ]
    head = ["workers", "steps/s", "examples/s", "examples a worker and step", "efficiency"]
    return _table(head, rows)


def _splits(measured: Measured) -> str:
    rows = []
    for job in measured.jobs:
        split = measured.split(job)
        times = (split.compute, split.all_reduce, split.input, split.python, split.total)
        rows.append([str(job.workers), *(f"{1e3 * seconds:.3f}" for seconds in times)])
    head = ["workers", "compute, ms", "all-reduce", "input", "Python", "a step"]
    return _table(head, rows) + (
        "Of the slowest worker. Input and all-reduce are timed by themselves; compute is what is\n"
        "left of TensorFlow's loop, no less than one worker alone takes, and holds waiting for\n"
        "others.\n"
    )


def _network(measured: Measured) -> str:
    network, job = measured.network, measured.jobs[-1]
    assert network is not None
    rows = [
        [f"{size / 1e6:.3f}", f"{1e3 * seconds:.2f}"] for size, seconds in job.slowest.all_reduces
    ]
    return _table(["all-reduce of MB", f"ms, {job.workers} workers"], rows) + (
        f"The network: latency {1e3 * network.alpha:.3f} ms, bandwidth {network.beta / 1e6:,.0f} "
        f"MB/s;\nthe gradients ({job.slowest.gradient_bytes / 1e6:.2f} MB) take "
        f"{network.overhead:.2f} times what these two say.\n"
    )


def _prediction(measured: Measured) -> str:
    rows = []
    for workers in PREDICTED:
        seconds, share = measured.predicted(workers)
        per_worker = measured.jobs[-1].rows / measured.jobs[-1].workers
        rows.append(
            [
                str(workers),
                f"{1e3 * seconds:.2f}",
                f"{workers * per_worker / seconds:,.0f}",
                f"{100 * share:.0f} %",
            ]
        )
    head = ["predicted: workers", "ms a step", "examples/s", "efficiency"]
    return _table(head, rows) + (
        "By the ring all-reduce of Patarasuk and Yuan (2009), 2(N-1) alpha + 2(N-1)/N bytes/beta,\n"
        "or, of few bytes, a gather, (N-1) (alpha + bytes/beta), on this network, every worker\n"
        "with the batch it has now; no overlap is counted. The efficiency is over the same base\n"
        "as the measured one.\n"
    )


def _ways(measured: Measured, hosts: Hosts) -> str:
    found, update = ways(measured, hosts), f"{1e3 * measured.work.update:.2f} ms, timed by itself"
    untimed = measured.jobs[-1].slowest.update_untimed
    if untimed:
        update = "taken as 0, as it could not be timed: see below"
    rows = [
        [
            str(workers),
            *(f"{100 * efficiency(measured, way, workers):.0f}" for way in found.values()),
        ]
        for workers in (STAGES, *PREDICTED)
    ]
    link = "the network measured here"
    if hosts.between is not None:
        wire = hosts.between
        link = f"{wire.bandwidth / 1e6:,g} MB/s, {1e3 * wire.latency:g} ms, no faster than here"
    table = _table(["workers", *found], rows)
    text = f"efficiency, %, predicted\n{table}" + _WAYS.format(
        tasks=hosts.tasks,
        link=link,
        update=update,
        stages=STAGES,
        microbatches=MICROBATCHES,
        each=WORKERS_EACH,
        slow=SLOW_BY,
    )
    return text + (f"The update was not timed: {untimed}\n" if untimed else "")


_WAYS = """\
{tasks} tasks on each host; between hosts: {link}.
ring: in step, all on one ring, as tfdist sums large tensors.
hosts: the tasks of each host sum first, then the hosts (communication="hierarchical").
shares: shard_optimizer=True, on the ring; each worker has its share of the update, of
  dense gradients ({update}).
pipelines: of {stages} tasks, {microbatches} microbatches, 1F1B; replicas of a stage share hosts,
  and sum on a ring. As if stages were equal, and handing over took a latency alone.
servers: parameter servers, where nobody waits for others; in each step all weights are
  fetched and all gradients sent, and the servers update. One server for {each} workers is
  a task of its own: the efficiency is over workers and servers. All tasks of a host
  share its link, each with an equal part.
backups: the same in step, with one worker more than an update waits for
  (backup_workers=1).
*: one worker takes {slow:g} times as long as the others.
"""


def _advice(measured: Measured) -> str:
    network, job = measured.network, measured.jobs[-1]
    assert network is not None
    lines = []
    for advice in advise(measured.split(job), job.slowest.gradient_bytes, network, ADVISED):
        verdict = "would pay" if advice.pays else "would not pay"
        lines.append(f"  {advice.option}: {verdict}, {advice.faster:.2f}x ({advice.why})")
    return f"What would pay on {ADVISED} workers, by the same model:\n" + "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    top = "  ".join(cell.rjust(width) for cell, width in zip(head, widths, strict=True))
    return "\n".join([top, *lines]) + "\n"
