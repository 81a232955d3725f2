"""What the simulator says of tables that others have published, beside their numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdist.pipeline import SlotSeconds, simulate
from tfdist.scaling.hierarchy import Hierarchy
from tfdist.scaling.in_step import InStep
from tfdist.scaling.link import Link
from tfdist.scaling.ring import Ring
from tfdist.scaling.server_job import ServerJob
from tfdist.scaling.step_work import StepWork

PUBLISHED = Path(__file__).with_name("published")
BACKWARD = 2 / 3
"""The share of a step's computing that the backward pass is: two products of three."""
LATENCY = 25e-6
"""Seconds of a message: none of the papers tells it."""
LATENCIES = (0.0, 100e-6)
"""Others, to see how much hangs on it."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One number of a table, and what is predicted.

    Attributes:
        what: the model and the network.
        workers: how many, in words.
        told: the published number.
        added: predicted where the exchange comes after the computing.
        hidden: predicted where it hides behind the backward pass; None where there is no exchange.
    """

    what: str
    workers: str
    told: float
    added: float
    hidden: float | None = None

    @property
    def errors(self) -> list[float]:
        """Of both predictions, over the published number."""
        return [one / self.told - 1 for one in (self.added, self.hidden) if one is not None]

    @property
    def between(self) -> bool:
        """Whether the published number lies between both predictions, to its own rounding."""
        low, high = sorted([self.added, self.added if self.hidden is None else self.hidden])
        return 0.995 * low <= self.told <= 1.005 * high


def read(name: str) -> dict[str, Any]:
    """One of the golden files."""
    found: dict[str, Any] = json.loads((PUBLISHED / f"{name}.json").read_text())
    return found


def horovod(latency: float = LATENCY) -> Iterator[Comparison]:
    """Efficiencies: images a second over as many times those of one GPU."""
    table = read("horovod")
    for setting in table["settings"]:
        ring = Ring(Link(latency, setting["bandwidth"]))
        cases = [
            (model, int(workers), images / int(workers) / setting["alone"][model])
            for workers, row in setting["images a second"].items()
            for model, images in row.items()
        ]
        cases += [
            (model, int(workers), share)
            for workers, row in setting["efficiency"].items()
            for model, share in row.items()
        ]
        for model, workers, share in cases:
            alone = table["batch"] / setting["alone"][model]
            work = StepWork(compute=alone, size=4.0 * table["parameters"][model])
            added, hidden = (
                alone / InStep(ring, part).seconds(work, workers) for part in (0.0, BACKWARD)
            )
            name = f"{model}, {setting['network']}"
            yield Comparison(name, f"{workers} GPUs", share, added, hidden)


def goyal(latency: float = LATENCY) -> Iterator[Comparison]:
    """Efficiencies over one server of 8 GPUs; within servers sums are taken as free."""
    table = read("goyal")
    (largest,) = table["longer"]
    steps = table["epoch_images"] / (table["batch"] * int(largest))
    alone = table["epoch_seconds"][largest] / steps / table["longer"][largest]
    work = StepWork(compute=alone, size=table["bytes"])
    sums = Hierarchy(Link(latency, table["bandwidth"]), Link(0.0, 1e15), table["tasks"])
    shares = {**table["efficiency"], **{n: 1 / x for n, x in table["longer"].items()}}
    for workers, share in shares.items():
        added, hidden = (
            alone / InStep(sums, part).seconds(work, int(workers)) for part in (0.0, BACKWARD)
        )
        yield Comparison("ResNet-50, 50 Gbit/s", f"{workers} GPUs", share, added, hidden)


def servers(latency: float = LATENCY) -> Iterator[Comparison]:
    """Efficiencies over one instance of 8 GPUs."""
    table = read("tensorflow_servers")
    for model, speeds in table["images a second"].items():
        alone = table["batch"][model] * table["gpus"] / speeds["1"]
        for hosts, images in list(speeds.items())[1:]:
            workers = int(hosts)
            added, hidden = (
                ServerJob(
                    servers=table["servers"][model][hosts],
                    size=4.0 * table["parameters"][model],
                    link=Link(latency, table["bandwidth"]),
                    staleness=0,
                    hidden=part,
                ).run([alone] * workers)
                for part in (0.0, BACKWARD)
            )
            share = images / workers / speeds["1"]
            predicted = [run.steps_a_second / workers * alone for run in (added, hidden)]
            name = f"{workers} x 8 GPUs, {table['servers'][model][hosts]} servers"
            yield Comparison(model, name, share, *predicted)


def gpipe() -> Iterator[Comparison]:
    """Throughput over that of two partitions, as if all stages were equal."""
    tables = read("gpipe")
    for table, base in (("table 2", 1), ("table 3", 32)):
        for model, rows in tables[table].items():
            for microbatches, row in rows.items():
                for stages, told in row.items():
                    found = _pipeline(2, base) / _pipeline(int(stages), int(microbatches))
                    if (int(stages), int(microbatches)) != (2, base):
                        what = f"K = {stages}, M = {microbatches}"
                        yield Comparison(f"{model}, {table}", what, told, found)


def _pipeline(stages: int, microbatches: int) -> float:
    part = 1 / (stages * microbatches)
    return simulate("gpipe", stages, microbatches, SlotSeconds(part, part, part)).seconds
