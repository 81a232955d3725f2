"""Made-up measurements of which a plan is made."""

from __future__ import annotations

from collections.abc import Sequence

from tfdist.bench.model import Network, Split
from tfdist.planning.script_plan import Plan
from tfdist.planning.seen_process import LayerSize, SeenProcess, TableSize
from tfdist.planning.step_speed import StepSpeed
from tfdist.planning.task_memory import MemoryPlan

MB = 10**6
LAYERS = [
    LayerSize("first", 0, 30 * MB, 30 * MB, 300, crossing=300, operations=3.0),
    LayerSize("second", 1, 10 * MB, 10 * MB, 100, crossing=0, operations=1.0),
]


def seen(
    rows: int = 100,
    peak: int = 1000 * MB,
    *,
    no_pipeline: str = "",
    no_servers: str = "",
    no_shards: str = "",
    layers: Sequence[LayerSize] = LAYERS,
    tables: Sequence[TableSize] = (),
    growing: float = 0.6,
    update: float = 0.08,
    dense_update: float | None = None,
) -> SeenProcess:
    return SeenProcess(
        worker=0,
        place="host",
        program_at_start=600 * MB,
        peak=peak,
        rows=rows,
        activations_a_row=2.0 * MB,
        weights=40 * MB,
        gradients=40 * MB,
        slots=80 * MB,
        layers=[] if no_pipeline else list(layers),
        no_pipeline=no_pipeline,
        no_servers=no_servers,
        no_shards=no_shards,
        tables=list(tables),
        row_bytes=4000.0,
        growing=growing,
        update=update,
        dense_update=update if dense_update is None else dense_update,
    )


def memory(rows_each: int = 50, no_shards: str = "") -> MemoryPlan:
    peak = 1050 * MB - 100 * MB * (rows_each == 50)
    return MemoryPlan(seen(no_shards=no_shards), seen(rows_each, peak, no_shards=no_shards))


def speed(
    alone: float = 0.1, of_two: float = 0.05, exchange: float = 0.01, rows_each: float = 50
) -> StepSpeed:
    bandwidth = 40 * MB / max(exchange, 1e-9)  # two workers send the gradients once over a link
    return StepSpeed(
        alone=Split(alone, 0.0, 0.0, 0.0),
        of_two=Split(of_two, exchange, 0.0, 0.0),
        rows=100,
        rows_each=rows_each,
        gradient_bytes=40 * MB,
        network=Network(0.0, bandwidth),
    )


def plan(limit: int = 2000 * MB, most: int = 4, no_shards: str = "", **of_speed: float) -> Plan:
    return Plan("train.py", memory(no_shards=no_shards), speed(**of_speed), most, limit)
