"""What the simulator says of runs that were measured here, beside their numbers."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.figures.published_tables import Comparison
from tfdist.bench.measured import Measured
from tfdist.pipeline import SlotSeconds, simulate
from tfdist.scaling.in_step import InStep
from tfdist.scaling.link import Link
from tfdist.scaling.portion_job import PortionJob
from tfdist.scaling.ring import Ring
from tfdist.scaling.server_job import ServerJob
from tfdist.scaling.sharded_update import ShardedUpdate
from tfdist.scaling.step_work import StepWork

BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"
BENCH = Path(__file__).with_name("results") / "scaling_bench.json"
ALONE = {"tiny": 0.054e-3, "mlp": 1.18e-3, "cnn": 7.86e-3, "lstm": 4.03e-3}
IN_STEP = {"tiny": 1.16e-3, "mlp": 8.04e-3, "cnn": 16.5e-3, "lstm": 7.59e-3}
HALVED = {"mlp": 6.03e-3, "cnn": 16.7e-3}
"""Seconds of a step of one process, of two workers, and with bfloat16: docs/figures/step_time.md.
"""
PARAMETERS = {"tiny": 7850, "mlp": 669_706, "cnn": 225_034, "lstm": 24_458}
SENT = {"whole slots": {2: 57.00e6, 3: 76.00e6}, "shares": {2: 56.98e6, 3: 76.11e6}}
"""Bytes that each worker sends in a step: docs/figures/sharded_slots.md."""
MODEL = 4 * 14_217_226
"""Bytes of Dense 784-2048-2048-2048-2048-10, which sent them."""
SCHEDULES = {"1f1b": 528.8, "zero_bubble": 459.4, "interleaved": 503.2, "zb_v": 489.4}
ACCUMULATED = 879.5
"""Milliseconds of a step on two workers, and of one process with 8 microbatches:
docs/figures/pipeline_schedules.md."""


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The link between two workers of one machine, from two of the models' steps alone."""

    link: Link

    @classmethod
    def found(cls) -> Calibrated:
        """Latency from the tiny model, whose bytes take no time, and bandwidth from the mlp."""
        latency = IN_STEP["tiny"] - ALONE["tiny"]
        left = IN_STEP["mlp"] - ALONE["mlp"] - 2 * latency
        return cls(Link(latency, 4 * PARAMETERS["mlp"] / left))


def ring() -> Iterator[Comparison]:
    """Milliseconds of a step of two workers."""
    way = InStep(Ring(Calibrated.found().link))
    for model, bits, told in (
        ("mlp", 2, HALVED["mlp"]),
        ("cnn", 4, IN_STEP["cnn"]),
        ("cnn", 2, HALVED["cnn"]),
        ("lstm", 4, IN_STEP["lstm"]),
    ):
        work = StepWork(compute=ALONE[model], size=bits * PARAMETERS[model])
        kind = "float32" if bits == 4 else "bfloat16"
        yield Comparison(f"{model}, {kind}", "2", 1e3 * told, 1e3 * way.seconds(work, 2))


def sums() -> Iterator[Comparison]:
    """Milliseconds of an all-reduce of three workers, from those of two."""
    content = json.loads(BENCH.read_text())
    del content["load"]
    measured = Measured.from_json(json.dumps(content))
    network = Measured("", measured.jobs[:2]).network
    assert network is not None
    plain = dataclasses.replace(network, overhead=1.0)
    each = measured.jobs[2].each
    for i, (size, _) in enumerate(each[0].all_reduces):
        told = max(worker.all_reduces[i][1] for worker in each)
        found = plain.all_reduce(3, size)
        yield Comparison(f"{size / 1e6:.3f} MB", "3", 1e3 * told, 1e3 * found)


def sent() -> Iterator[Comparison]:
    """Megabytes that each worker sends in a step."""
    ring = Ring(Link(0.0, 1.0))
    for kind, by_workers in SENT.items():
        for workers, told in by_workers.items():
            way = ShardedUpdate(ring) if kind == "shares" else ring
            found = way.sent(workers, MODEL)
            yield Comparison(kind, str(workers), told / 1e6, found / 1e6)


def pipelines() -> Iterator[Comparison]:
    """Milliseconds of a step of a pipeline of two workers with 8 microbatches."""
    speed = json.loads((BENCHMARKS / "pipeline.json").read_text())["speed"]
    for model, even in (("dense", False), ("conv", True)):
        found = {name: statistics.median(turns) for name, turns in speed[model].items()}
        one = found["one process, 8 accumulated"]
        for name in ("gpipe", "1f1b", "zero_bubble"):
            told = _step(name, one, 2, even)
            yield Comparison(f"{model}, {name}", "2", found[f"{name} 8"], told)
    for name, told in SCHEDULES.items():
        stages = 4 if name in ("interleaved", "zb_v") else 2
        found_one = _step(name, ACCUMULATED, stages, even=False)
        yield Comparison(f"dense, another day, {name}", "2", told, found_one)


def _step(schedule: str, one: float, stages: int, even: bool, microbatches: int = 8) -> float:
    """A step of stages of one process' step; 8 Dense layers have 23 products, the first 2 of 3."""
    layers = 8 // stages
    products: Sequence[float] = [layers - (not even and stage == 0) for stage in range(stages)]
    whole = 3 * 8 - (not even)
    part = one / whole / microbatches
    seconds = SlotSeconds(layers * part, [part * count for count in products], layers * part)
    return simulate(schedule, stages, microbatches, seconds, tasks=2).seconds


def portions() -> Iterator[Comparison]:
    """Seconds of a pass of eight workers over 128 portions, of whom one is four times slower."""
    turns = json.loads((BENCHMARKS / "lbfgs.json").read_text())["slowed"]["turns"]
    found = {name: statistics.median(seconds) for name, seconds in turns.items()}
    pace = found["equal"] / (128 // 8)
    slow = pace + 3 * 0.5  # it sleeps 2 s where the others sleep half a second
    for name, backups in (("slow", True), ("slow, no copies", False)):
        said = PortionJob(128, backups).seconds([slow] + [pace] * 7)
        what = "with backup tasks" if backups else "without"
        yield Comparison(f"one four times slower, {what}", "8", found[name], said)


def servers() -> Iterator[Comparison]:
    """Examples a second of two workers with two servers, which speak every few steps."""
    content: dict[str, Any] = json.loads((BENCHMARKS / "downpour.json").read_text())
    steps = content["turns"]["1"][0]["iterations"]
    speeds = {
        int(every): steps * 64 / statistics.median(turn["seconds"] for turn in turns[1:])
        for every, turns in content["turns"].items()
    }
    link = Calibrated.found().link

    def predicted(every: int, pace: float) -> float:
        job = ServerJob(2, 4.0 * PARAMETERS["mlp"], link, every=every)
        return 64 * job.run([pace] * 2).steps_a_second

    low, high = 0.0, 1.0  # the pace of a worker, from the job that speaks least
    for _ in range(40):
        pace = (low + high) / 2
        low, high = (pace, high) if predicted(16, pace) > speeds[16] else (low, pace)
    for every in (4, 1):
        found = predicted(every, pace)
        yield Comparison(f"mlp, every {every} steps", "2", speeds[every], found)
